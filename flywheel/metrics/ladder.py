"""The Ladder: of a score that is read again and again, only what is a clear step up is shown.

Whoever sees the score of every candidate on the same items can choose by it, and what is chosen so looks
better than it is. So a new score is shown only where it beats the best that was shown by more than what
chance makes of it; else the last one is shown again, and nothing is learned but that. After Blum and Hardt,
"The Ladder: A Reliable Leaderboard for Machine Learning Competitions" (2015), the variant without parameters:
a step is the standard error of the paired differences, and scores are rounded to one item. Over 200
candidates one standard error is too little (``python -m benchmarks.ladder``), so a step grows as the levels
of the looks fall.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from msgspec.structs import replace

from flywheel.records import Differences, Interval

_TINY = 1e-9
"""Below what floats tell apart."""


def is_step(differences: Differences, level: float | None = None) -> bool:
    """Whether a candidate's score is to be shown.

    ``differences``: candidate - the best that was shown. ``level``: of the look; None: there was none. The
    mean must be above its standard error, over clusters, times the normal quantile of ``level``, at least 1:
    so what chance brings to be shown in a whole run is limited as its promotions are.
    """
    factor = 1.0 if level is None else max(1.0, _quantile(level))
    return float(differences.items.mean()) - factor * _standard_error(differences) > _TINY


def rounded(estimate: Interval, items: int) -> Interval:
    """A share to the nearest 1 / items, its interval outwards; how far up a ladder it is stays as it is."""
    if estimate.unit:
        return estimate
    low, high = math.floor(estimate.low * items + _TINY), math.ceil(estimate.high * items - _TINY)
    return replace(estimate, value=round(estimate.value * items) / items, low=low / items, high=high / items)


def _standard_error(differences: Differences) -> float:
    """Of the mean over items; infinite with less than two clusters."""
    items, clusters = differences.items, differences.clusters
    sizes = np.bincount(clusters)
    count = len(sizes)
    if count < 2:
        return math.inf
    deviations = np.bincount(clusters, items) - items.mean() * sizes
    return float(np.sqrt(count / (count - 1) * (deviations**2).sum()) / len(items))


def _quantile(level: float) -> float:
    return NormalDist().inv_cdf(1 - level) if 0 < level < 1 else math.inf
