"""How much to ask of what: policies for a task's ``prompts``, by the results that it is shown.

A task has its policy as an argument, ``task.policy`` in a recipe, so that an experiment can leave it out:

    slice_columns = ("digit",)

    def prompts(self, generation, carry, key, results=None):
        policy = self.policy or Even()
        counts = policy.counts(1000, results, range(10), key)  # {0: 31, 1: 25, ...}
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

    from flywheel.keys import Key


@dataclass(frozen=True, kw_only=True)
class Even:
    """As many prompts for each slice."""

    def shares(self, results: pa.Table | None, slices: Iterable[Any]) -> dict[Any, float]:
        """The share of each slice."""
        names = list(slices)
        return dict.fromkeys(names, 1 / len(names))

    def counts(self, total: int, results: pa.Table | None, slices: Iterable[Any], key: Key) -> dict[Any, int]:
        """How many of ``total`` prompts each slice gets: its share, rounded up or down by ``key``.

        ``slices``: all that may be asked of, each the value of the task's ``slice_columns``, or a tuple of
        values where there are several. ``results``: what ``prompts`` is shown of them; None: nothing.
        Systematic sampling: the sum is exact, and the expectation of each count its share.
        """
        shares = self.shares(results, slices)
        ends = np.cumsum(list(shares.values()))
        ends[-1] = 1.0
        marks = np.floor(ends * total + key("rounding").numpy().random() * (1 - 1e-9))
        return dict(zip(shares, np.diff(marks, prepend=0).astype(int).tolist(), strict=True))


@dataclass(frozen=True, kw_only=True)
class WeakSpots(Even):
    """More prompts where the champion is weak and learnable, fewer where it is perfect or hopeless.

    A slice is weighted by p (1 - p), p being the chance to be right there: what is always right teaches
    nothing new, what is never right yields nothing to learn from, and in between answers tell most. The
    weight is that of learnability in curricula for reinforcement learning (Florensa et al. 2018, goals of
    intermediate difficulty; Tzannetos et al. 2023; Rutherford et al. 2024). Its expectation is taken under
    the posterior Beta(prior + right, prior + wrong) of the dev items of the slice, so that few items say
    little; a slice without any has that of the prior.

    It cannot tell a slice that is learned from one that only looks so, e.g. labels by chance: give their
    score as ``chance``, and what is no better has little weight beside the floor, the less the more items of
    it there are.
    """

    floor: float = 0.3
    """Share of the prompts, in [0, 1], that is spread evenly: a slice gets floor / slices at least."""
    prior: float = 1.0
    """Pseudo-items of either outcome, above 0."""
    chance: float = 0.0
    """The score, in [0, 1), of whoever guesses."""

    def __post_init__(self) -> None:
        for name, holds, rule in (
            ("floor", 0 <= self.floor <= 1, "in [0, 1]"),
            ("prior", self.prior > 0, "above 0"),
            ("chance", 0 <= self.chance < 1, "at least 0 and below 1"),
        ):
            if not holds:
                raise ValueError(f"{name} must be {rule}; it is {getattr(self, name)}.")

    def shares(self, results: pa.Table | None, slices: Iterable[Any]) -> dict[Any, float]:
        """The share of each slice; even shares without results, or where no slice has a weight."""
        names = list(slices)
        known = {} if results is None else _by_slice(results)
        weights = np.array([self._weight(*known.get(_values(name), (0, 0.0))) for name in names])
        even = np.full(len(names), 1 / len(names))
        if results is None or weights.sum() <= 0:
            weights = even
        shares = self.floor * even + (1 - self.floor) * weights / weights.sum()
        return dict(zip(names, shares.tolist(), strict=True))

    def _weight(self, items: int, score: float) -> float:
        """E[p (1 - p)] of Beta(a, b) is a b / ((a + b) (a + b + 1))."""
        share = max(0.0, (score - self.chance) / (1 - self.chance))
        right, wrong = self.prior + items * share, self.prior + items * (1 - share)
        return right * wrong / ((right + wrong) * (right + wrong + 1))


def _values(name: Any) -> tuple[Any, ...]:
    return name if isinstance(name, tuple) else (name,)


def _by_slice(results: pa.Table) -> dict[tuple[Any, ...], tuple[int, float]]:
    """The values of a slice -> its items and their mean score."""
    columns = [name for name in results.column_names if name not in ("items", "score")]
    values = zip(*(results[name].to_pylist() for name in columns), strict=True)
    return dict(
        zip(values, zip(*(results[n].to_pylist() for n in ("items", "score")), strict=True), strict=True)
    )
