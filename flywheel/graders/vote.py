"""Vote: how many of those who answered the same prompt gave the same answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flywheel.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

    from flywheel.keys import Keys


@dataclass(kw_only=True)
class Vote:
    """The share of a group's rows that give the row's answer: self-consistency (Wang et al. 2023).

    A group is whatever answered one prompt: the members of an ensemble, or k samples of one model.
    """

    answer: str = "answer"
    """Payload column that is voted on; a null agrees with nothing."""
    weight: str | None = None
    """Payload column of what a row's voice counts, in [0, 1], such as the probability that its producer gave
    to the answer; null counts 0. Left out: all count 1. So of two producers that differ the surer one leads,
    and what both say comes before either."""

    def grade(self, samples: pa.Table, load_parent: Callable[[], Any], keys: Keys) -> dict[str, np.ndarray]:
        """One column, ``vote``, in [0, 1]. Raises DataError for weights that are not."""
        groups, answers = _codes(samples["group"]), _codes(samples[self.answer])
        pairs = groups * (answers.max(initial=0) + 1) + answers
        _, which = np.unique(pairs, return_inverse=True)
        agreeing = np.bincount(which, self._weights(samples))
        shares = agreeing[which] / np.bincount(groups)[groups]
        return {"vote": np.where(answers > 0, shares, 0.0)}

    def _weights(self, samples: pa.Table) -> np.ndarray:
        if self.weight is None:
            return np.ones(len(samples))
        weights: np.ndarray = np.nan_to_num(samples[self.weight].to_numpy().astype(float), nan=0.0)
        if len(weights) and not (weights.min() >= 0 and weights.max() <= 1):
            raise DataError(
                f"Weights of votes must lie in [0, 1]; column {self.weight!r} has {weights.min():g} to "
                f"{weights.max():g}. Name a column of probabilities."
            )
        return weights


def _codes(column: pa.ChunkedArray) -> np.ndarray:
    """Equal values as equal integers from 1 on; null as 0."""
    encoded = column.combine_chunks().dictionary_encode()
    codes: np.ndarray = encoded.indices.fill_null(-1).to_numpy().astype(np.int64) + 1
    return codes
