"""The paired gate: same items for both, and better beyond chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flywheel.gates.statistics import mcnemar_exact, sign_flip
from flywheel.keys import Key
from flywheel.protocols import Evidence
from flywheel.records import Carry, Differences, GateResult


@dataclass(kw_only=True)
class Paired:
    """A one-sided paired test that the candidate is better, on all gate items together.

    The effect is the mean difference over items, the same quantity as the metric. Where each item is a
    cluster of its own, the test is McNemar's exact one if every difference is a win, a loss or a draw, as
    for 0/1 scores, and a paired permutation test otherwise. Items that share a cluster are won or lost
    together: the test then flips the signs of whole clusters, each with all of its items. Where the effect
    is not above 0, p is 1: a tie never promotes, at whatever level.

    p holds for one comparison, and for candidates that differ from the champion by chance: a cluster's
    difference is as likely to be of the other sign. With fewer than 5 clusters it is never below .05.
    """

    def test(self, evidence: Evidence, level: float, carry: Carry, key: Key) -> tuple[GateResult, Carry]:
        """The p-value over all gate suites together. ``level`` is not looked at; there is no carry."""
        suites = [evidence.differences(suite) for suite in evidence.suites]
        # Rounded, so that no decision hangs on the last bit of a float.
        items = np.round(np.concatenate([suite.items for suite in suites]), 9)
        sums = np.concatenate([_sums(suite) for suite in suites])
        wins, losses = int((items > 0).sum()), int((items < 0).sum())
        effect = round(float(items.mean()), 9)
        clustered = len(sums) < len(items)
        if clustered:
            name, p_value = "sign flips of clusters", sign_flip(sums, key.numpy())
        elif np.isin(items, (-1.0, 0.0, 1.0)).all():
            name, p_value = "exact McNemar", mcnemar_exact(wins, losses)
        else:
            name, p_value = "paired permutation", sign_flip(items, key.numpy())
        numbers = {"test": name, "n": len(items), **({"clusters": len(sums)} if clustered else {})}
        numbers |= {"wins": wins, "losses": losses, "effect": effect}
        amount = f"{len(items)} items" + (f" in {len(sums)} clusters" if clustered else "")
        tie = "a tie: " if wins == losses == 0 else ""
        reason = f"{tie}{effect:+.2%} on {amount}, {wins} won, {losses} lost, {name}"
        return GateResult(reason, p_value=p_value if effect > 0 else 1.0, numbers=numbers), {}


def _sums(differences: Differences) -> np.ndarray:
    """The sum of each cluster's differences: by so much it moves the mean."""
    sums: np.ndarray = np.round(np.bincount(differences.clusters, differences.items), 9)
    return sums
