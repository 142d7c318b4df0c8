"""Vote: how many of those who answered the same prompt gave the same answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

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

    def grade(self, samples: pa.Table, load_parent: Callable[[], Any], keys: Keys) -> dict[str, np.ndarray]:
        """One column, ``vote``, in [0, 1]."""
        groups, answers = _codes(samples["group"]), _codes(samples[self.answer])
        pairs = groups * (answers.max(initial=0) + 1) + answers
        _, which, agreeing = np.unique(pairs, return_inverse=True, return_counts=True)
        shares = agreeing[which] / np.bincount(groups)[groups]
        return {"vote": np.where(answers > 0, shares, 0.0)}


def _codes(column: pa.ChunkedArray) -> np.ndarray:
    """Equal values as equal integers from 1 on; null as 0."""
    encoded = column.combine_chunks().dictionary_encode()
    codes: np.ndarray = encoded.indices.fill_null(-1).to_numpy().astype(np.int64) + 1
    return codes
