"""A corpus as batches: rows of one length side by side, so that nothing is padded."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import torch

from flywheel.curators.curriculum import rows_of

from .model import Group
from .sums import digits as digits_of
from .sums import read


def batches(
    corpus: pa.Table, members: int, groups: int, rows: int, digits: int, ramp: float
) -> list[list[Group]]:
    """Batches of ``groups`` groups of rows of one length, each row as often as its ``count``.

    A group has ``rows`` rows, fewer where they are long (about ``digits`` in all). Every member sees the
    same rows in an order of its own, lest they err alike. Over the first ``ramp`` of the batches, longer
    rows join the shorter ones little by little. Drawn from torch's global generator.
    """
    rng = np.random.default_rng(int(torch.randint(2**31, ())))
    lengths = corpus["length"].to_numpy()
    ready = {
        int(length): _groups(
            corpus.filter(lengths == length), members, rows_of(int(length), rows, digits), rng
        )
        for length in np.unique(lengths)
    }
    order = _ramped({length: len(made) for length, made in ready.items()}, ramp, rng)
    drawn = [ready[length].pop() for length in order]
    return [drawn[start : start + groups] for start in range(0, len(drawn), groups)]


def _groups(lessons: pa.Table, members: int, rows: int, rng: np.random.Generator) -> list[Group]:
    sums = read(lessons["prompt"])
    answers = digits_of(lessons["answer"], sums.width + 1, 0)
    prompts = np.stack([sums.prompt(swapped=swapped) for swapped in (False, True)])
    tokens = np.concatenate([prompts, np.broadcast_to(answers[:, :-1], (2, *answers[:, :-1].shape))], axis=2)
    repeated = np.repeat(np.arange(len(sums)), lessons["count"].to_numpy())
    orders = np.stack([rng.permutation(repeated) for _ in range(members)])
    parts = [orders[:, start : start + rows] for start in range(0, len(repeated), rows)]
    return [(torch.from_numpy(tokens[:, part]), torch.from_numpy(answers[part])) for part in parts]


def _ramped(groups: Mapping[int, int], ramp: float, rng: np.random.Generator) -> list[int]:
    """Lengths of all groups in order: each somewhere between the moment it is allowed and the end."""
    longest = max(groups)
    places = [
        (rng.uniform(ramp * max(0.0, (length - 2) / max(1, longest - 2)), 1), length)
        for length, count in groups.items()
        for _ in range(count)
    ]
    return [length for _, length in sorted(places)]
