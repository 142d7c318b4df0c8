"""Tests of paired differences."""

from __future__ import annotations

import math

import numpy as np

_RESAMPLES = 10_000
_CHUNK = 500
_TOLERANCE = 1e-9


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
