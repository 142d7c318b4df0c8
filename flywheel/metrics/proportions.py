"""Exact 95% intervals of shares that were found by drawing rows, and the test that one has fallen."""

from __future__ import annotations

import math

from flywheel.metrics.beta import beta_quantile
from flywheel.metrics.intervals import TAIL
from flywheel.records import Interval


def proportion(right: int, of: int, tail: float = TAIL) -> Interval:
    """The share ``right / of`` with the interval of Clopper and Pearson (1934); ``of`` is 1 or more.

    ``tail``: chance to miss the truth, on either side. For rows drawn without replacement it covers at least
    as often: they say more of the rest than rows drawn with replacement.
    """
    low = beta_quantile(tail, right, of - right + 1) if right else 0.0
    high = beta_quantile(1 - tail, right + 1, of - right) if right < of else 1.0
    return Interval(right / of, low, high)


def recall(kept: tuple[int, int, int], dropped: tuple[int, int, int]) -> Interval | None:
    """The share of kept rows among the right ones, kept or dropped; None: nothing is known of it.

    Each is ``(rows, graded, right)``: how many rows there are, how many of them were drawn and graded, and
    how many of those are right. From two intervals at 97.5% each, so that both hold with 95%.
    """
    (rows, graded, right), (others, graded_others, right_others) = kept, dropped
    if (rows and not graded) or (others and not graded_others) or not rows + others:
        return None
    nothing = Interval(0.0, 0.0, 0.0)
    share = proportion(right, graded, TAIL / 2) if rows else nothing
    missed = proportion(right_others, graded_others, TAIL / 2) if others else nothing
    if not share.value and not missed.value:
        return None
    ends = ((share.value, missed.value), (share.low, missed.high), (share.high, missed.low))
    value, low, high = (_share(rows * here, others * there) for here, there in ends)
    return Interval(value, low, high)


def _share(part: float, rest: float) -> float:
    return part / (part + rest) if part + rest > 0 else 1.0


def fall_p_value(right: int, of: int, right_before: int, of_before: int) -> float:
    """One-sided p-value of "the share is no smaller than before", by Fisher's exact test."""
    total, rights = of + of_before, right + right_before
    few = range(max(0, of - (total - rights)), right + 1)
    whole = _log_choose(total, of)
    terms = (_log_choose(rights, k) + _log_choose(total - rights, of - k) - whole for k in few)
    return min(1.0, math.fsum(map(math.exp, terms)))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
