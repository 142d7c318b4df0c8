"""Keep what people labelled and the newest labels that the model is sure of."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from flywheel.errors import DataError
from flywheel.records import Carry

if TYPE_CHECKING:
    import pyarrow as pa

    from flywheel.keys import Key


@dataclass(kw_only=True)
class Confident:
    """All human rows; of the newest generation's rows, the most confident.

    Pseudo-label selection of Noisy Student (Xie et al. 2020), balanced: the same top fraction of each
    predicted label, so that the student does not inherit the skew of what its teacher finds easy.
    Rows of earlier generations are superseded: each generation labels the same prompts anew.
    """

    score: str = "confidence"
    """The grader's column to go by."""
    threshold: float = 0.0
    """Lowest score to keep."""
    by: str | None = None
    """Payload column (the label) to take fractions of; null: of all rows together."""
    fractions: list[float] = field(default_factory=lambda: [1.0])
    """Top fraction to keep in generation 1, 2, ...; the last one holds ever after."""
    best_of_group: bool = False
    """Whether of each group only the row with the highest score may be kept, the first among equals: where
    several models, or one several times, answer a prompt."""

    def __post_init__(self) -> None:
        if not self.fractions or not all(0 < fraction <= 1 for fraction in self.fractions):
            raise ValueError(f"fractions must be above 0 and at most 1; they are {self.fractions}.")

    def curate(self, samples: pa.Table, carry: Carry, key: Key) -> tuple[dict[str, Any], Carry]:
        """Decisions row for row; no carry."""
        human = np.equal(samples["origin"].to_numpy(), "human")
        made_in = samples["made_in"].to_numpy()
        fresh = ~human & (made_in == made_in.max())
        scores = self._scores(samples)
        unscored = fresh & np.isnan(scores)  # the grader failed on them: they pass no threshold
        sure = fresh & (scores >= self.threshold)
        leads = self._leads(samples, fresh, scores)
        fraction = self.fractions[min(max(int(made_in.max()), 1), len(self.fractions)) - 1]
        chosen = self._top(sure & leads, scores, samples, fraction)
        passed = f"top {fraction:g} by {self.score}"
        reason = np.select(
            [human, chosen, sure & leads, sure, unscored, fresh],
            [
                *("human", passed, f"not in the top {fraction:g}", "not its group's best"),
                *("no score", "below threshold"),
            ],
            "superseded",
        )
        ones = np.ones(len(samples))
        decisions = {"id": samples["id"], "keep": human | chosen, "reason": reason}
        return decisions | {"weight": ones, "count": ones.astype(int)}, {}

    def _scores(self, samples: pa.Table) -> np.ndarray:
        if self.score not in samples.column_names:
            if (samples["made_in"].to_numpy() > 0).any():
                raise DataError(f"score must be a column of the grader; {self.score!r} is none.")
            return np.zeros(len(samples))  # genesis: only human rows, not graded
        scores: np.ndarray = samples[self.score].to_numpy()
        if scores.dtype.kind not in "biuf":
            raise DataError(
                f"score must be a column of numbers; {self.score!r} is {samples[self.score].type}."
            )
        return scores

    def _leads(self, samples: pa.Table, fresh: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Which fresh rows speak for their groups: all of them, or the best one of each."""
        if not self.best_of_group:
            return fresh
        from flywheel.tables import best_of_groups  # heavy: a configuration is checked without

        groups = samples["group"].combine_chunks().dictionary_encode().indices.to_numpy()
        best: np.ndarray = best_of_groups(np.where(fresh, scores, np.nan), groups, fresh) & fresh
        return best

    def _top(self, sure: np.ndarray, scores: np.ndarray, samples: pa.Table, fraction: float) -> np.ndarray:
        labels = samples[self.by].to_numpy() if self.by else np.zeros(len(samples))
        chosen = np.zeros(len(samples), bool)
        for label in np.unique(labels[sure]):
            rows = np.flatnonzero(sure & (labels == label))
            best = np.argsort(-scores[rows], kind="stable")[: math.ceil(fraction * len(rows) - 1e-9)]
            chosen[rows[best]] = True
        return chosen
