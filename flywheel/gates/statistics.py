"""Tests of paired differences: one-sided, against "the candidate is no better"."""

from __future__ import annotations

import itertools

import numpy as np

_STEP = 0.125
"""Between the points of the trapezoidal rule; a sixth of it changes p by less than one part in 10^12."""
_CHUNK = 8
"""Points that are computed together."""


def mcnemar_exact(wins: int, losses: int) -> float:
    """One-sided p-value of McNemar's exact test: P(at least ``wins`` of the discordant pairs by chance)."""
    n = wins + losses
    tail = term = 1
    for k in range(losses):  # the binomial coefficients of 0, 1, ... losses
        term = term * (n - k) // (k + 1)
        tail += term
    return float(min(1.0, tail / 2**n))


def bounded_mean(differences: np.ndarray, low: float) -> float:
    """One-sided p-value of "the mean of independent differences, none below ``low``, is at most 0".

    Gaffke's test (2004; as a confidence bound: Learned-Miller and Thomas 2019): the differences and one more,
    of the worst value ``low``, are weighted by independent draws of the exponential distribution; p is the
    chance that the weighted sum is not above 0. So losses that are rare enough to be missing among these
    differences are reckoned with, and the distribution may be skewed. Of wins and losses of size 1 it is
    McNemar's exact test; in general no proof is known to us, and no distribution for which it errs more often
    than it says at p <= .5: see docs/gates.md. p does not depend on the order, never rises with a difference,
    and is rounded to 10 digits, so that no decision hangs on the last bit of a float.

    Raises ValueError where a difference is below ``low``.
    """
    if not low < 0 or np.min(differences, initial=0.0) < low:
        raise ValueError(f"Expected differences of at least {low}, below 0, got {np.min(differences)}.")
    weights = np.sort(np.append(differences[differences != 0], low)) / -low
    return float(f"{_chance_below_zero(weights):.10g}") if weights[-1] > 0 else 1.0


def _chance_below_zero(weights: np.ndarray) -> float:
    """P(sum of weights x independent exponential variables <= 0); there are weights of both signs.

    By inversion of the moment generating function M: the integral of M(s) / -s, divided by 2 pi i, upwards
    along a line that crosses the real axis between the nearest pole of M and 0. On a hyperbola through the
    saddle point that is bent there as the line of steepest descent next to nothing cancels: the error is
    relative, however small the chance, and the trapezoidal rule converges exponentially.
    """
    saddle = _saddle_point(weights)
    log_peak = -np.log1p(-weights * saddle).sum() - np.log(-saddle)
    slopes = np.append(weights / (1 - weights * saddle), -1 / saddle)  # of the factors of M, and of 1 / -s
    scale = 1 / np.sqrt((slopes**2).sum())
    bend = 2 / 3 * ((scale * slopes) ** 3).sum()
    total = 0.5  # the point on the axis; what is below the axis mirrors what is above
    for start in itertools.count(1, _CHUNK):
        u = _STEP * np.arange(start, start + _CHUNK)
        away = scale * (1j * np.sinh(u) + bend * (np.cosh(u) - 1))
        terms = (1j * np.cosh(u) + bend * np.sinh(u)) / np.multiply.reduce(1 - np.outer(slopes, away))
        total += float(terms.imag.sum())
        if abs(terms[-1]) < 1e-15:
            break
    return float(np.exp(log_peak) * scale * _STEP * total / np.pi)


def _saddle_point(weights: np.ndarray) -> float:
    """Where M(s) / -s is least between the nearest pole of M and 0."""
    left, right = 1 / float(weights.min()), 0.0
    for _ in range(50):
        s = (left + right) / 2
        if (weights / (1 - weights * s)).sum() > 1 / s:
            right = s
        else:
            left = s
    return s
