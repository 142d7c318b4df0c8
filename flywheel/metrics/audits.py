"""What an audit says in words: too few kept rows are right, or fewer than before."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from flywheel.metrics.intervals import mean_interval
from flywheel.metrics.proportions import fall_p_value, proportion
from flywheel.records import Interval
from flywheel.storage.events import AuditFacts, AuditsBefore, Checked

if TYPE_CHECKING:
    import pyarrow as pa

_FALL = 0.001
"""Chance, in a turn in which nothing has changed, that a drift is said."""
_ERRORS = 3.29
"""Standard errors of a difference that are exceeded with that chance."""
_Z = 1.96


def in_words(share: Interval, graded: int) -> str:
    """A share with its interval, e.g. ``71.0% (64.2% to 77.2%, 200 audited)``."""
    return f"{share.value:.1%} ({share.low:.1%} to {share.high:.1%}, {graded} audited)"


def flaw(kept: Checked, precision: Interval | None, least: float, failures: Mapping[str, int]) -> str | None:
    """A sentence where too few of the kept rows are right, or nothing was found out; None otherwise.

    Too few is what the upper end of precision's interval says, and precision itself where all rows were
    graded.
    """
    if precision is None:
        if not kept.drawn:
            return None
        why = max(failures, key=lambda reason: failures[reason], default="")
        return f"nothing is known of what was kept: none of {kept.drawn} rows could be audited, {why}"
    is_census = kept.graded == kept.rows
    if (precision.value if is_census else precision.high) >= least:
        return None
    return f"of the kept samples {in_words(precision, kept.graded)} are right, fewer than {least:.1%}"


def gaps(rows: pa.Table, trusted: np.ndarray) -> dict[str, Interval]:
    """Column of the loop's grader -> its mean - the trusted grader's, over the rows that have both.

    Of columns of floats in [0, 1] alone: nothing else can be compared.
    """
    import pyarrow as pa

    found: dict[str, Interval] = {}
    for field in rows.schema:
        if not pa.types.is_floating(field.type):
            continue
        scores = rows[field.name].to_numpy().astype(np.float64)
        both = ~(np.isnan(scores) | np.isnan(trusted))
        pairs = np.stack([scores[both], trusted[both]])
        if pairs.size and pairs.min() >= 0 and pairs.max() <= 1:
            half = mean_interval((pairs[0] - pairs[1] + 1) / 2, np.arange(pairs.shape[1]))
            value, low, high = (2 * end - 1 for end in (half.value, half.low, half.high))
            found[field.name] = Interval(value, low, high)
    return found


def drift(kept: Checked, gap: Interval | None, before: AuditsBefore | None) -> str | None:
    """A sentence where fewer kept rows are right than before, or the gap is larger, beyond chance."""
    if before is None or not before.graded or not kept.graded:
        return None
    p_value = fall_p_value(kept.right, kept.graded, before.right, before.graded)
    if p_value <= _FALL:
        now, then = (proportion(one.right, one.graded) for one in (kept, before))
        return (
            f"the share of right samples among those kept fell from {in_words(then, before.graded)} to "
            f"{in_words(now, kept.graded)}, p {p_value:.2g}"
        )
    if gap is None or before.gap is None or gap.low <= 0:  # a score that understates it misleads nobody
        return None
    rise, so_far = gap.value - before.gap.value, before.gap.value
    if rise <= _ERRORS * math.hypot(_error(gap), _error(before.gap)):
        return None
    earlier = f"did so by {so_far:.1%}" if so_far > 0 else f"understated it by {-so_far:.1%}"
    return f"the loop's own score overstates what is right by {gap.value:.1%}, and {earlier} before"


def before(audits: Iterable[AuditFacts]) -> AuditsBefore | None:
    """What audits found together, in the order of turns, without those from the first drift on."""
    graded = right = 0
    known: list[tuple[int, Interval]] = []
    for facts in audits:
        if facts.drift:
            break
        graded, right = graded + facts.kept.graded, right + facts.kept.right
        gap = facts.gaps.get(facts.score) if facts.score else None
        known += [(facts.kept.graded, gap)] if gap else []
    return AuditsBefore(graded=graded, right=right, gap=_pooled(known)) if graded else None


def _pooled(known: list[tuple[int, Interval]]) -> Interval | None:
    total = sum(count for count, _ in known)
    if not total:
        return None
    value = sum(count * gap.value for count, gap in known) / total
    half = _Z * math.sqrt(sum((count * _error(gap)) ** 2 for count, gap in known)) / total
    return Interval(value, max(-1.0, value - half), min(1.0, value + half))


def _error(gap: Interval) -> float:
    """The standard error that an interval at 95% stands for."""
    return (gap.high - gap.low) / 2 / _Z
