"""95% confidence intervals: a mean of scores, a reach up a ladder, a mean over runs.

All are exact where scores are independent and 0 or 1, and hold about as often as they say elsewhere:
``benchmarks/coverage.py`` simulates it. None has zero width, and none draws random numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flywheel.metrics.beta import beta_cdf, beta_quantile, student_quantile
from flywheel.records import Interval

TAIL = 0.025
"""Chance to miss the truth, on either side."""
_TOLERANCE = 1e-9
_MOST = 1e7
"""Independent 0/1 items that no other scores are worth more than; bounds the work of a quantile."""
_WINDOWS = (1, 4, 16)
"""Widths of the windows of ``reach``, in least numbers of items that can decide."""


def mean_interval(scores: np.ndarray, clusters: Sequence[Any] | np.ndarray) -> Interval:
    """Mean of scores in [0, 1] over items with its 95% interval; ``clusters`` names each item's cluster.

    Independent 0/1 scores: Clopper and Pearson's exact interval (1934). Otherwise theirs for as many
    independent items as the scores are worth, after Korn and Graubard (1998): p (1 - p) by the variance
    of the mean, which is a jackknife over clusters, less what the t quantile costs. Its degrees of freedom
    come from the kurtosis of the clusters' deviations, so that few clusters that differ are not taken for
    many. No scores are worth less than if every cluster were of one piece, nor 0/1 scores more than as
    many items; and no interval reaches less far down than if all clusters had the mean of the best one,
    nor less far up than if all had that of the worst, as unseen ones of another kind may be so many.

    Coverage is 94% to 99% where there is something to learn from: more for few clusters or items, few of
    them different, and for means near 0 or 1, where a bound is at an end of [0, 1].
    """
    evidence = _evidence(scores, np.unique(np.asarray(clusters), return_inverse=True)[1])
    return Interval(evidence.mean, evidence.low(TAIL), evidence.high(TAIL))


def reach(
    scores: np.ndarray, levels: np.ndarray, share: float, clusters: Sequence[Any] | np.ndarray | None = None
) -> Interval:
    """How far up a ladder the items' scores stay at ``share`` or above, with a 95% interval; 0: nowhere.

    The value is as observed: the highest of the items' levels such that the mean score of every level up
    to it is at least ``share``. Where levels have few items, or true means are near ``share``, one of many
    levels will fall short by chance, so that it is below the truth more often than above.

    The interval is for the highest level such that the *true* mean of every level up to it is at least
    ``share``. It assumes that the true mean does not rise with the level: then a level's neighbours above
    testify that it is good, and those below that it is not. ``low`` is the last level, from the lowest up,
    at which scores from there up are above ``share``; ``high`` the first, from the highest down, at which
    scores from there down are not below it. Each step is a test with a chance of error of 2.5% over three
    windows together, the smallest with as few items as can decide, the others 4 and 16 times as wide, with
    the interval of ``mean_interval``. It contains the value, and at least one level beside it where there
    is one: at the top of the ladder ``high`` says where the suite ends, not how far a longer one would go.

    Coverage is above 99% in most cases: levels are whole numbers, and errors of later steps are behind
    that of the first. A level that is worse than the next ones, against the assumption, is found by the
    value if it has enough items; one just below ``share`` may be missed.
    """
    names, level = np.unique(levels, return_inverse=True)
    ids = np.arange(len(scores)) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    ladder = _Ladder(np.asarray(scores, float), level, ids, share)
    rungs = [0, *names.tolist()]
    value = ladder.observed
    low, high = min(value, ladder.low()), max(value, ladder.high())
    if low == high:
        low, high = max(0, low - 1), min(len(names), high + 1)
    return Interval(int(rungs[value]), int(rungs[low]), int(rungs[high]))


def t_interval(values: np.ndarray, resolution: float) -> Interval:
    """Mean over runs of different seeds, with Student's 95% t interval: values are about normal.

    ``resolution``: the least step that a value can make, e.g. 1 / items. Runs that agree to it have the
    spread of its rounding. The bounds of one run alone are infinite. What is rare, such as one bad run of
    twenty, is not in an interval of runs that had none of it.
    """
    mean, n = float(np.mean(values)), len(values)
    if n == 1:
        return Interval(mean, -math.inf, math.inf)
    spread = max(float(np.std(values, ddof=1)), resolution / math.sqrt(12))
    half = student_quantile(TAIL, n - 1) * spread / math.sqrt(n)
    return Interval(mean, mean - half, mean + half)


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What some scores say of their mean."""

    mean: float
    variance: float
    """Of the mean."""
    df: float
    """Degrees of freedom of the variance."""
    least: float
    """As many independent items as there are clusters, counted by size: the scores are worth no less."""
    most: float
    """Worth no more than this many."""
    worst: float
    """Lowest mean of a cluster."""
    best: float
    """Highest mean of a cluster."""
    lowest: float
    """Lowest score."""
    highest: float
    """Highest score."""

    def low(self, tail: float) -> float:
        """Lower confidence bound; the true mean is below it with chance ``tail``."""
        bounds: list[float] = [self.mean, self.best * tail ** (1 / self.least)]
        for wins, losses, bottom, top in self._worth(tail):
            exact = beta_quantile(tail, wins, losses + 1) if wins > _TOLERANCE else 0.0
            bounds.append(bottom + (top - bottom) * exact)
        return min(bounds)

    def high(self, tail: float) -> float:
        """Upper confidence bound."""
        return 1 - self._mirrored().low(tail)

    def is_above(self, share: float, tail: float) -> bool:
        """Whether the lower bound is at least ``share``; faster than the bound itself."""
        if min(self.mean, self.best * tail ** (1 / self.least)) < share:
            return False
        return all(
            wins > _TOLERANCE and beta_cdf((share - bottom) / (top - bottom), wins, losses + 1) <= tail
            for wins, losses, bottom, top in self._worth(tail)
        )

    def is_below(self, share: float, tail: float) -> bool:
        """Whether the upper bound is below ``share``."""
        return self._mirrored().is_above(1 - share + _TOLERANCE, tail)

    def _worth(self, tail: float) -> Iterator[tuple[float, float, float, float]]:
        """The scores as so many wins and losses, a loss being ``bottom`` and a win ``top``.

        By 0 and 1, and by the scores at the ends: what is mostly .7 and seldom 0 is skewed, too.
        """
        student = student_quantile(tail, 1e6) / student_quantile(tail, self.df)
        for bottom, top in dict.fromkeys([(0.0, 1.0), (self.lowest, self.highest)]):
            if top > bottom:
                mean = (self.mean - bottom) / (top - bottom)
                variance = max(self.variance / (top - bottom) ** 2, mean * (1 - mean) / _MOST, 1e-12)
                n = min(max(mean * (1 - mean) / variance * student**2, self.least), self.most)
                yield mean * n, (1 - mean) * n, bottom, top

    def _mirrored(self) -> _Evidence:
        ends = (1 - self.best, 1 - self.worst, 1 - self.highest, 1 - self.lowest)
        return _Evidence(1 - self.mean, self.variance, self.df, self.least, self.most, *ends)


def _evidence(scores: np.ndarray, ids: np.ndarray) -> _Evidence:
    """What scores say, by the integer ids of their clusters."""
    n, mean = len(scores), float(np.mean(scores))
    sizes = np.bincount(ids)
    means = np.bincount(ids, scores)[sizes > 0] / sizes[sizes > 0]
    sizes = sizes[sizes > 0]
    count, binary = len(sizes), bool(np.isin(scores, (0.0, 1.0)).all())
    ends = (float(means.min()), float(means.max()), float(scores.min()), float(scores.max()))
    if count == 1 or (binary and count == n):
        return _Evidence(mean, 0.0, 1.0, count, count, *ends)
    without = sizes / (n - sizes)  # by how much of its distance the mean moves if a cluster is left out
    squares = ((means - mean) * without) ** 2
    variance = float(squares.sum()) * (count - 1) / count
    different = float(squares.sum()) ** 2 / max(float((squares**2).sum()), 1e-300)  # clusters, by variance
    df = 2 / max(1 / max(different, 1.0) - 1 / count, 1e-6)  # of a variance with that kurtosis
    least = (count / (count - 1)) ** 2 / float((without**2).sum())
    df, least = min(max(1.0, df), count - 1), min(max(1.0, least), count)
    return _Evidence(mean, variance, df, least, float(n) if binary else _MOST, *ends)


class _Ladder:
    """Scores by level, the lowest first; ``ids`` are their clusters, ``levels`` 0, 1, 2, ..."""

    def __init__(self, scores: np.ndarray, levels: np.ndarray, ids: np.ndarray, share: float) -> None:
        order = np.argsort(levels, kind="stable")
        self._scores, self._ids, self._share = scores[order], ids[order], share
        self._means = np.bincount(levels, scores) / np.bincount(levels)
        self._rows = np.append(0, np.cumsum(np.bincount(levels)))  # of the first k levels
        clusters = np.unique(np.stack([levels, ids]), axis=1)[0]
        self._clusters = np.append(0, np.cumsum(np.bincount(clusters)))
        self._tail = TAIL / len(_WINDOWS)
        deciding = math.log(self._tail) / math.log(min(max(share, _TOLERANCE), 1 - _TOLERANCE))
        self._widths = [width * math.ceil(deciding) for width in _WINDOWS]

    @property
    def observed(self) -> int:
        """How many levels from the lowest up have a mean of the share."""
        return int(np.cumprod(self._means >= self._share - _TOLERANCE).sum())

    def low(self) -> int:
        """How many levels from the lowest up are at the share beyond doubt."""
        return next((k for k in range(len(self._means)) if not self._is_above(k)), len(self._means))

    def high(self) -> int:
        """How many levels from the lowest up may be at the share."""
        return next((k for k in range(len(self._means), 0, -1) if not self._is_below(k)), 0)

    def _is_above(self, k: int) -> bool:
        """Whether scores from level k up are above the share."""
        ends = np.searchsorted(self._clusters, [self._clusters[k] + width for width in self._widths])
        ends = np.unique(np.minimum(ends, len(self._means)))
        return any(self._evidence(k, int(end)).is_above(self._share, self._tail) for end in ends)

    def _is_below(self, k: int) -> bool:
        """Whether scores of the first k levels, from the last of them down, are below the share."""
        starts = np.searchsorted(
            self._clusters, [self._clusters[k] - width for width in self._widths], "right"
        )
        starts = np.unique(np.maximum(starts - 1, 0))
        return any(self._evidence(int(start), k).is_below(self._share, self._tail) for start in starts)

    def _evidence(self, start: int, end: int) -> _Evidence:
        rows = slice(int(self._rows[start]), int(self._rows[end]))
        return _evidence(self._scores[rows], self._ids[rows])
