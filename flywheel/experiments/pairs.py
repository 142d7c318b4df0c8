"""Paired differences to draw evidence from: those of a run, or of given shares of items won and lost.

They are not shifted but weighted: each unit is drawn with a chance such that the mean difference becomes the
one that is asked for, and the chances are as near to equal as that allows (exponential tilting: Efron,
"Nonparametric standard errors and confidence intervals", 1981). So 0/1 scores stay 0/1, no difference leaves
[-1, 1], and what is skewed stays skewed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from flywheel.gates.evidence import FixedEvidence
from flywheel.keys import Key
from flywheel.records import Differences

_LARGEST = 700.0
"""Beyond its exponential there are no floats."""


@dataclass(frozen=True, slots=True)
class Population:
    """The units of one gate suite, of which ``count`` are drawn, independently and with replacement.

    A unit is drawn as a whole: an item that is a cluster of its own, or a cluster with all its items.
    """

    differences: np.ndarray
    """Of all items, in [-1, 1], shape (items,), one unit after the other."""
    clusters: np.ndarray
    """The cluster that the gate sees, numbered 0, 1, ... within the unit, shape (items,)."""
    sizes: np.ndarray
    """Items of each unit, shape (units,)."""
    chances: np.ndarray
    """Of each unit to be drawn, shape (units,); their sum is 1."""
    count: int

    @classmethod
    def of(cls, recorded: Differences, units: np.ndarray | None = None) -> Population:
        """Recorded differences, one unit a cluster, or by the number of each item's unit; all equally likely.

        A cluster must be within one unit.
        """
        numbers = recorded.clusters if units is None else units
        order = np.lexsort((recorded.clusters, numbers))
        ranks = np.cumsum(np.diff(recorded.clusters[order], prepend=recorded.clusters[order[:1]]) != 0)
        sizes = np.unique(numbers, return_counts=True)[1]
        within = ranks - np.repeat(ranks[np.cumsum(sizes) - sizes], sizes)
        chances = np.full(len(sizes), 1 / len(sizes))
        return cls(recorded.items[order], within, sizes, chances, len(sizes))

    @classmethod
    def of_shares(cls, cluster_sizes: np.ndarray, won: float, lost: float) -> Population:
        """Clusters of these sizes that are won or lost as a whole, with these chances."""
        sizes, frequencies = np.unique(cluster_sizes, return_counts=True)
        outcomes = {1.0: won, -1.0: lost, 0.0: 1 - won - lost}
        each = np.repeat(sizes, len(outcomes))
        chances = np.outer(frequencies / len(cluster_sizes), list(outcomes.values())).ravel()
        differences = np.repeat(np.tile(list(outcomes), len(sizes)), each)
        return cls(differences, np.zeros(each.sum(), np.int64), each, chances, len(cluster_sizes))

    @property
    def sums(self) -> np.ndarray:
        """The sum of each unit's differences, shape (units,)."""
        return np.add.reduceat(self.differences, np.cumsum(self.sizes) - self.sizes)

    @property
    def items(self) -> float:
        """How many items are drawn, on average."""
        return self.count * float(self.chances @ self.sizes)

    def draw(self, rng: np.random.Generator) -> tuple[Differences, np.ndarray]:
        """Differences of units that are drawn, and the numbers of these units."""
        drawn = rng.choice(len(self.sizes), self.count, p=self.chances)
        sizes = self.sizes[drawn]
        begins = (np.cumsum(self.sizes) - self.sizes)[drawn]
        rows = np.repeat(begins - (np.cumsum(sizes) - sizes), sizes) + np.arange(sizes.sum())
        clusters = self.clusters[begins + sizes - 1] + 1  # of each unit: they are numbered in its order
        numbers = np.repeat(np.cumsum(clusters) - clusters, sizes) + self.clusters[rows]
        return Differences(self.differences[rows], numbers), drawn


@dataclass(frozen=True, slots=True)
class Pairs:
    """The populations of all gate suites."""

    by_suite: Mapping[str, Population]

    @property
    def items(self) -> float:
        """How many items are drawn, on average."""
        return sum(one.items for one in self.by_suite.values())

    @property
    def mean(self) -> float:
        """The mean difference of items."""
        total = sum(one.count * float(one.chances @ one.sums) for one in self.by_suite.values())
        return total / self.items

    @property
    def disagreement(self) -> float:
        """Mean size of an item's difference, beyond the mean: of 0/1 scores twice the share of items lost."""
        sizes = (
            one.count * float(np.repeat(one.chances, one.sizes) @ np.abs(one.differences))
            for one in self.by_suite.values()
        )
        return sum(sizes) / self.items - abs(self.mean)

    @property
    def standard_error(self) -> float:
        """Of the mean difference of the items that are drawn."""
        variance, mean = 0.0, self.mean
        for one in self.by_suite.values():
            above = one.sums - mean * one.sizes
            variance += one.count * float(one.chances @ above**2)
        return math.sqrt(variance) / self.items

    def scaled(self, factor: float) -> Pairs:
        """The same with more units, or fewer."""
        return Pairs(
            {
                name: _with(one, one.chances, max(1, round(one.count * factor)))
                for name, one in self.by_suite.items()
            }
        )

    def mirrored(self) -> Pairs:
        """Candidate and champion exchanged."""
        return Pairs(
            {
                name: Population(-one.differences, one.clusters, one.sizes, one.chances, one.count)
                for name, one in self.by_suite.items()
            }
        )

    def tilted(self, mean: float) -> Pairs | None:
        """Weighted so that the mean difference is ``mean``; None: no weights give it."""
        distances = {name: one.sums - mean * one.sizes for name, one in self.by_suite.items()}
        reachable = np.concatenate([distances[n][one.chances > 0] for n, one in self.by_suite.items()])
        if not reachable.min() < 0 < reachable.max():
            return None
        tilt = self._solve(distances, 1 / float(np.abs(reachable).max()))
        weighted = {
            name: _with(one, _weighted(one.chances, tilt * distances[name]), one.count)
            for name, one in self.by_suite.items()
        }
        return Pairs(weighted)

    def _solve(self, distances: Mapping[str, np.ndarray], step: float) -> float:
        """The tilt at which the expected sum of the distances is 0: it rises with the tilt."""

        def expected(tilt: float) -> float:
            return sum(
                one.count * float(_weighted(one.chances, tilt * distances[name]) @ distances[name])
                for name, one in self.by_suite.items()
            )

        low = high = 0.0
        while expected(low) > 0:
            low = 2 * low - step
        while expected(high) < 0:
            high = 2 * high + step
        for _ in range(60):
            tilt = (low + high) / 2
            low, high = (low, tilt) if expected(tilt) > 0 else (tilt, high)
        return (low + high) / 2

    def draw(self, key: Key) -> FixedEvidence:
        """Evidence as it may come."""
        return self.draw_against(None, key)[0]

    def draw_against(self, other: Pairs | None, key: Key) -> tuple[FixedEvidence, float]:
        """Evidence, and how much more likely ``other``, of the same units, gives it than these do."""
        by_suite, log_ratio = {}, 0.0
        for name, one in self.by_suite.items():
            by_suite[name], drawn = one.draw(key(name).numpy())
            if other is not None:
                log_ratio += float(np.log(other.by_suite[name].chances[drawn] / one.chances[drawn]).sum())
        return FixedEvidence(by_suite), math.exp(min(log_ratio, _LARGEST))


def _with(population: Population, chances: np.ndarray, count: int) -> Population:
    return Population(population.differences, population.clusters, population.sizes, chances, count)


def _weighted(chances: np.ndarray, exponents: np.ndarray) -> np.ndarray:
    weights = chances * np.exp(exponents - exponents[chances > 0].max())
    weighted: np.ndarray = weights / weights.sum()
    return weighted
