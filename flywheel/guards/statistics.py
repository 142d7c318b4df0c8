"""The test of "worse by a margin", and how often it turns down a candidate that is as good."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from flywheel.gates.statistics import bounded_mean
from flywheel.keys import Key
from flywheel.records import Differences

_DRAWS = 2000
"""Simulated candidates: a chance of 20% is known to one point."""
_ROUNDING = 1e-9
_MOST_SIMULATED = 50_000
"""Clusters; of more the needed number is that of the normal approximation."""


def non_inferiority(differences: Differences, margin: float) -> float:
    """One-sided p-value of "the candidate is worse by ``margin`` or more, on average over items".

    Gaffke's test (see ``gates.statistics.bounded_mean``) of the differences + ``margin``, summed up by
    clusters: so for any distribution of differences in [-1, 1]. Above .5 it says nothing but "not shown".
    """
    sizes = np.bincount(differences.clusters)
    sums = np.round(np.bincount(differences.clusters, differences.items + margin), 9)
    return _p_value(sums, int(sizes.max()), margin)


def disagreement_of(differences: Differences) -> float:
    """The share of items that two models disagree on, as ``chance_to_reject`` takes it, in [0, 1].

    Clusters that are won or lost as a whole count as that, and smaller differences by their squares: by so
    much they add to the variance of the mean.
    """
    sizes = np.bincount(differences.clusters).astype(float)
    sums = np.bincount(differences.clusters, differences.items)
    return float((sums**2).sum() / (sizes**2).sum())


def chance_to_reject(sizes: np.ndarray, margin: float, level: float, disagreement: float) -> float:
    """How often a candidate as good as its champion is not shown to be worse by less than ``margin``.

    ``sizes``: the items of each cluster, which is won with a chance of ``disagreement`` / 2, as a whole, and
    lost as often. Simulated, always with the same draws, of which those with the best means pass the test.
    """
    kinds, counts = np.unique(sizes, return_counts=True)
    rng = Key.root(0)("power of a guard").numpy()
    shares = [disagreement / 2, disagreement / 2, 1 - disagreement]
    drawn = np.stack([rng.multinomial(count, shares, _DRAWS) for count in counts])  # (kinds, draws, 3)
    order = np.argsort(kinds @ (drawn[:, :, 0] - drawn[:, :, 1]), kind="stable")
    values = np.outer(kinds, [1 + margin, -1 + margin, margin]).ravel()
    low, high = 0, _DRAWS
    while low < high:
        middle = (low + high) // 2
        sums = np.repeat(values, drawn[:, order[middle]].ravel())
        if _p_value(sums, int(kinds.max()), margin) <= level:
            high = middle
        else:
            low = middle + 1
    return low / _DRAWS


def clusters_needed(
    sizes: np.ndarray, margin: float, level: float, disagreement: float, chance: float
) -> int:
    """How many clusters, of such sizes, bring ``chance_to_reject`` down to ``chance``, to about 5%."""
    z = NormalDist().inv_cdf(1 - level) + NormalDist().inv_cdf(1 - chance)
    share = z**2 * disagreement * float((sizes**2).sum()) / (margin * float(sizes.sum())) ** 2
    needed = math.ceil(len(sizes) * share)
    # with not one cluster lost p is (1 - margin) ** n, for clusters of one size
    needed = max(needed, math.ceil(math.log(level) / math.log1p(-margin)))
    while needed <= _MOST_SIMULATED:
        if chance_to_reject(np.resize(sizes, needed), margin, level, disagreement) <= chance:
            break
        needed = math.ceil(1.05 * needed)
    return needed


def _p_value(sums: np.ndarray, largest: int, margin: float) -> float:
    """Of sums of the shifted differences of clusters, of which the ``largest`` has so many items."""
    return bounded_mean(sums, -(1 - margin) * largest - _ROUNDING)
