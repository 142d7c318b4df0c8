"""The paired gate: same items for both, and better beyond chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flywheel.gates.statistics import mcnemar_exact, sign_flip
from flywheel.keys import Key
from flywheel.records import Carry, Differences, Pull, Verdict


@dataclass(kw_only=True)
class Paired:
    """Promote if a one-sided paired test at ``alpha`` says that the candidate is better.

    The effect is the mean difference over items, the same quantity as the metric. Where each item is a
    cluster of its own, the test is McNemar's exact one if every difference is a win, a loss or a draw, as
    for 0/1 scores, and a paired permutation test otherwise. Items that share a cluster are won or lost
    together: the test then flips the signs of whole clusters, each with all of its items. A tie never
    promotes.

    The error rate is per comparison, and for candidates that differ from the champion by chance: a
    cluster's difference is as likely to be of the other sign. Fewer than 5 clusters never reach .05.
    """

    alpha: float = 0.05
    """Chance, per comparison, of promoting a candidate that is not better."""

    carry_kept = "always"

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha must be between 0 and 1; it is {self.alpha}.")

    def decide(self, pull: Pull, suites: Sequence[str], carry: Carry, key: Key) -> tuple[Verdict, Carry]:
        """The verdict over all gate suites together; the carry counts the comparisons made."""
        pulled = [pull(suite, None) for suite in suites]
        # Rounded, so that no verdict hangs on the last bit of a float.
        items = np.round(np.concatenate([suite.items for suite in pulled]), 9)
        sums = np.concatenate([_sums(suite) for suite in pulled])
        wins, losses = int((items > 0).sum()), int((items < 0).sum())
        effect = round(float(items.mean()), 9)
        clustered = len(sums) < len(items)
        if clustered:
            test, p_value = "sign flips of clusters", sign_flip(sums, key.numpy())
        elif np.isin(items, (-1.0, 0.0, 1.0)).all():
            test, p_value = "exact McNemar", mcnemar_exact(wins, losses)
        else:
            test, p_value = "paired permutation", sign_flip(items, key.numpy())
        promote = effect > 0 and p_value <= self.alpha
        evidence = {
            "test": test,
            "n": len(items),
            **({"clusters": len(sums)} if clustered else {}),
            "wins": wins,
            "losses": losses,
            "effect": effect,
            "p_value": p_value,
            "alpha": self.alpha,
        }
        amount = f"{len(items)} items" + (f" in {len(sums)} clusters" if clustered else "")
        numbers = f"{effect:+.2%} on {amount}, {wins} won, {losses} lost, p {p_value:.2g}"
        relation = "<=" if p_value <= self.alpha else ">"
        tie = "a tie: " if wins == losses == 0 else ""
        reason = f"{tie}{numbers} {relation} {self.alpha:g}, {test}"
        return Verdict(promote, reason, evidence), {"comparisons": carry.get("comparisons", 0) + 1}


def _sums(differences: Differences) -> np.ndarray:
    """The sum of each cluster's differences: by so much it moves the mean."""
    sums: np.ndarray = np.round(np.bincount(differences.clusters, differences.items), 9)
    return sums
