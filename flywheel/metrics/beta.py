"""The beta distribution: what exact intervals of a proportion and Student's t are made of.

By hand, since importing scipy.special takes longer than a whole subcommand may; tests compare with scipy.
"""

from __future__ import annotations

import functools
import math

_TINY = 1e-300
_PRECISION = 1e-15


def beta_cdf(x: float, a: float, b: float) -> float:
    """P(X <= x) of a beta(a, b) variable: the regularised incomplete beta function; a, b > 0."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    above = x > (a + 1) / (a + b + 2)  # the fraction converges fast below it, and 1 - X is beta(b, a)
    if above:
        x, a, b = 1 - x, b, a
    part = math.exp(_log_kernel(x, a, b)) * _continued_fraction(x, a, b) / a
    return 1 - part if above else part


def beta_quantile(q: float, a: float, b: float) -> float:
    """The x at which ``beta_cdf(x, a, b)`` is q: Newton's method, safeguarded by bisection."""
    low, high, x = 0.0, 1.0, a / (a + b)
    for _ in range(200):
        error = beta_cdf(x, a, b) - q
        low, high = (low, x) if error > 0 else (x, high)
        density = math.exp(_log_kernel(x, a, b)) / (x * (1 - x))
        step = x - error / density if density > 0 else low
        after = step if low < step < high else (low + high) / 2
        if abs(after - x) <= 1e-14 * after or not 0 < after < 1:
            return after
        x = after
    return x


@functools.lru_cache(4096)
def student_quantile(tail: float, df: float) -> float:
    """What Student's t with ``df`` degrees of freedom exceeds with probability ``tail`` < 1/2."""
    x = beta_quantile(2 * tail, df / 2, 0.5)  # P(|T| > t) = P(X < df / (df + t^2)), X ~ beta(df / 2, 1/2)
    return math.sqrt(df * (1 - x) / x)


def _log_kernel(x: float, a: float, b: float) -> float:
    """Log of x^a (1 - x)^b / B(a, b)."""
    constant = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return constant + a * math.log(x) + b * math.log1p(-x)


def _continued_fraction(x: float, a: float, b: float) -> float:
    """DLMF 8.17.22 by the modified method of Lentz; about sqrt(max(a, b)) steps."""
    c, d = 1.0, 1 / _not_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 100_000):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _not_zero(1 + term * d)
            c = _not_zero(1 + term / c)
            value *= c * d
        if abs(c * d - 1) < _PRECISION:
            break
    return value


def _not_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
