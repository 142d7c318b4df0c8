"""The paired gate: same items for both, and better beyond chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flywheel.gates.statistics import mcnemar_exact, sign_flip
from flywheel.keys import Key
from flywheel.records import Carry, Pull, Verdict


@dataclass(kw_only=True)
class PairedGate:
    """Promote if a one-sided paired test at ``alpha`` says that the candidate is better.

    McNemar's exact test where every difference is a win, a loss or a draw, as for 0/1 scores; a paired
    permutation test otherwise. A tie never promotes. The error rate is per comparison.
    """

    alpha: float = 0.05
    """Chance, per comparison, of promoting a candidate that is not better."""

    carry_kept = "always"

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha must be between 0 and 1; it is {self.alpha}.")

    def decide(self, pull: Pull, suites: Sequence[str], carry: Carry, key: Key) -> tuple[Verdict, Carry]:
        """The verdict over all gate suites together; the carry counts the comparisons made."""
        # Rounded, so that no verdict hangs on the last bit of a float.
        differences = np.round(np.concatenate([pull(suite, None) for suite in suites]), 9)
        wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
        effect = round(float(differences.mean()), 9)
        if np.isin(differences, (-1.0, 0.0, 1.0)).all():
            test, p_value = "exact McNemar", mcnemar_exact(wins, losses)
        else:
            test, p_value = "paired permutation", sign_flip(differences, key.numpy())
        promote = effect > 0 and p_value <= self.alpha
        evidence = {
            "test": test,
            "n": len(differences),
            "wins": wins,
            "losses": losses,
            "effect": effect,
            "p_value": p_value,
            "alpha": self.alpha,
        }
        numbers = f"{effect:+.2%} on {len(differences)} items, {wins} won, {losses} lost, p {p_value:.2g}"
        relation = "<=" if p_value <= self.alpha else ">"
        tie = "a tie: " if wins == losses == 0 else ""
        reason = f"{tie}{numbers} {relation} {self.alpha:g}, {test}"
        return Verdict(promote, reason, evidence), {"comparisons": carry.get("comparisons", 0) + 1}
