"""Keep what people labelled and the newest labels that the model is sure of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flywheel.records import Carry

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(kw_only=True)
class Confident:
    """All human rows; of the newest generation's rows, those whose score reaches a threshold.

    Pseudo-label selection of Noisy Student (Xie et al. 2020): a threshold, then optionally as many rows
    of each label as of the rarest kept one, so that the student does not inherit a skewed teacher.
    Rows of earlier generations are superseded: each generation labels the same prompts anew.
    """

    score: str = "confidence"
    """The grader's column to go by."""
    threshold: float = 0.0
    """Lowest score to keep."""
    balance: str | None = None
    """Payload column (the label) to balance by; null: do not balance."""
    slack: float = 1.0
    """With ``balance``: keep up to this many times the mean count a label."""
    human_count: int = 1
    """Multiplicity of human rows in the corpus."""

    def __post_init__(self) -> None:
        if self.slack <= 0 or self.human_count < 1:
            raise ValueError("slack must be above 0 and human_count at least 1.")

    def curate(self, samples: pa.Table, carry: Carry) -> tuple[dict[str, Any], Carry]:
        """Decisions row for row; no carry."""
        human = np.equal(samples["origin"].to_numpy(), "human")
        generation = samples["generation"].to_numpy()
        fresh = ~human & (generation == generation.max())
        scores = np.nan_to_num(self._scores(samples), nan=-np.inf)
        sure = fresh & (scores >= self.threshold)
        chosen = self._balanced(sure, scores, samples) if self.balance else sure
        reason = np.select(
            [human, chosen, sure, fresh],
            ["human", f"{self.score} >= {self.threshold:g}", "label over its quota", f"{self.score} below"],
            "superseded",
        )
        keep = human | chosen
        count = np.where(human, self.human_count, 1)
        ones = np.ones(len(samples))
        return {"id": samples["id"], "keep": keep, "reason": reason, "weight": ones, "count": count}, {}

    def _scores(self, samples: pa.Table) -> np.ndarray:
        if self.score not in samples.column_names:  # genesis: only human rows, not graded
            return np.zeros(len(samples))
        return np.asarray(samples[self.score].to_numpy(), float)

    def _balanced(self, sure: np.ndarray, scores: np.ndarray, samples: pa.Table) -> np.ndarray:
        labels = samples[self.balance].to_numpy()
        names = np.unique(labels[sure])
        quota = int(np.ceil(self.slack * sure.sum() / max(1, len(names))))
        chosen = np.zeros(len(samples), bool)
        for name in names:
            rows = np.flatnonzero(sure & (labels == name))
            chosen[rows[np.argsort(-scores[rows], kind="stable")[:quota]]] = True
        return chosen
