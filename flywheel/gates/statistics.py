"""The statistics of evaluation: intervals of a mean, and tests of paired differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from flywheel.records import Interval

_RESAMPLES = 10_000
_REACH_RESAMPLES = 2_000
_CHUNK = 500
_TOLERANCE = 1e-9
Z95 = 1.959963984540054


def wilson(successes: float, n: int) -> Interval:
    """Wilson's score interval (1927) of a proportion at 95%."""
    p, z2 = successes / n, Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return Interval(p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half)))


def mean_interval(scores: np.ndarray, clusters: Sequence[Any] | np.ndarray) -> Interval:
    """Mean of scores in [0, 1] with a 95% interval.

    Wilson's for independent 0/1 scores; otherwise a percentile bootstrap over clusters, with a fixed
    seed so that the same outcomes always have the same interval.
    """
    names, where = np.unique(np.asarray(clusters), return_inverse=True)
    if len(names) == len(scores) and np.isin(scores, (0.0, 1.0)).all():
        return wilson(float(scores.sum()), len(scores))
    sums, sizes = np.bincount(where, scores), np.bincount(where)
    rng = np.random.default_rng(0)
    means = []
    for _ in range(0, _RESAMPLES, _CHUNK):
        draw = rng.integers(0, len(names), (_CHUNK, len(names)))
        means.append(sums[draw].sum(1) / sizes[draw].sum(1))
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    mean = float(scores.mean())
    return Interval(mean, min(mean, float(low)), max(mean, float(high)))


def reach(scores: np.ndarray, levels: np.ndarray, share: float) -> Interval:
    """The highest level such that every level of the items up to it has a mean score of ``share``.

    With a 95% percentile bootstrap over the items of each level, with a fixed seed; 0 if not even the
    lowest level is mastered.
    """
    names, where = np.unique(levels, return_inverse=True)
    rng = np.random.default_rng(0)
    mastered = []
    for level in range(len(names)):
        own = scores[where == level]
        draws = rng.integers(0, len(own), (_REACH_RESAMPLES, len(own)))
        means = own[np.vstack([np.arange(len(own)), draws])].mean(1)  # the items as they are come first
        mastered.append(means >= share - _TOLERANCE)
    highest = np.append(0, names)[np.cumprod(mastered, axis=0).sum(0)]
    value = int(highest[0])
    low, high = np.quantile(highest[1:], (0.025, 0.975), method="nearest")
    return Interval(value, min(value, int(low)), max(value, int(high)))


def mcnemar_exact(wins: int, losses: int) -> float:
    """One-sided p-value of McNemar's exact test: P(at least ``wins`` of the discordant pairs by chance)."""
    n = wins + losses
    tail = sum(math.comb(n, k) for k in range(wins, n + 1))
    return float(min(1.0, tail / 2**n))


def sign_flip(differences: np.ndarray, rng: np.random.Generator) -> float:
    """One-sided p-value of the paired permutation test of a mean above zero (Fisher's sign flips).

    All 2^n flips up to n = 12, else 10,000 random ones and the observed. Sums that agree up to
    rounding count as ties, so that no decision hangs on the last bit of a float.
    """
    differences = differences[np.abs(differences) > _TOLERANCE]
    n, observed = len(differences), differences.sum() - _TOLERANCE
    if n == 0:
        return 1.0
    if n <= 12:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return float(np.mean(signs @ differences >= observed))
    hits = 1
    for _ in range(0, _RESAMPLES, _CHUNK):
        signs = 1 - 2 * rng.integers(0, 2, (_CHUNK, n), dtype=np.int8)
        hits += int(np.count_nonzero(signs @ differences >= observed))
    return hits / (_RESAMPLES + 1)
