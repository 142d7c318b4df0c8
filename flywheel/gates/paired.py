"""The paired gate: same items for both, and better beyond chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flywheel.gates.statistics import bounded_mean, mcnemar_exact
from flywheel.keys import Key
from flywheel.protocols import Evidence
from flywheel.records import Carry, Differences, GateResult


@dataclass(kw_only=True)
class Paired:
    """A one-sided paired test that the candidate is better, on all gate items together.

    The effect is the mean difference over items, the same quantity as the metric. Where each item is a
    cluster of its own, and every difference a win, a loss or a draw, as for 0/1 scores, the test is McNemar's
    exact one. Otherwise it is Gaffke's, of a mean of bounded differences, however skewed. Items that share a
    cluster are won or lost together: a cluster counts by the sum of its items, and one that the suite does
    not show might lose as many items as the largest has, so that a few large clusters prove little. Where
    the effect is not above 0, p is 1: a tie never promotes, at whatever level.
    """

    min_effect: float = 0.0
    """Least effect to count at all, in [0, 1), e.g. .005 for half a point; below it p is 1."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_effect < 1:
            raise ValueError(f"min_effect must be at least 0 and below 1; it is {self.min_effect}.")

    def test(self, evidence: Evidence, level: float, carry: Carry, key: Key) -> tuple[GateResult, Carry]:
        """The p-value over all gate suites together. ``level`` is not looked at; there is no carry."""
        suites = [evidence.differences(suite) for suite in evidence.suites]
        # Rounded, so that no decision hangs on the last bit of a float; + 0.0 makes 0 of -0.
        items = np.round(np.concatenate([suite.items for suite in suites]), 9)
        sums = np.concatenate([_sums(suite) for suite in suites])
        wins, losses = int((items > 0).sum()), int((items < 0).sum())
        effect = round(float(items.mean()), 9) + 0.0
        clustered = len(sums) < len(items)
        if clustered:
            largest = max(int(np.bincount(suite.clusters).max()) for suite in suites)
            name, p_value = "Gaffke's test of clusters", bounded_mean(sums, -largest)
        elif np.isin(items, (-1.0, 0.0, 1.0)).all():
            name, p_value = "exact McNemar", mcnemar_exact(wins, losses)
        else:
            name, p_value = "Gaffke's test", bounded_mean(items, -1)
        numbers = {"test": name, "n": len(items), **({"clusters": len(sums)} if clustered else {})}
        numbers |= {"wins": wins, "losses": losses, "effect": effect}
        amount = f"{len(items)} items" + (f" in {len(sums)} clusters" if clustered else "")
        tie = "a tie: " if wins == losses == 0 else ""
        reason = f"{tie}{effect:+.2%} on {amount}, {wins} won, {losses} lost, {name}"
        if 0 < effect < self.min_effect:
            reason += f", below the least effect of {self.min_effect:.2%}"
        counts = effect > 0 and effect >= self.min_effect
        return GateResult(reason, p_value=p_value if counts else 1.0, numbers=numbers), {}


def _sums(differences: Differences) -> np.ndarray:
    """The sum of each cluster's differences: by so much it moves the mean."""
    sums: np.ndarray = np.round(np.bincount(differences.clusters, differences.items), 9)
    return sums
