"""The guard of a loop that grades its own output: are the samples that it keeps right?"""

from __future__ import annotations

from dataclasses import dataclass

from flywheel.errors import DataError
from flywheel.guards.pairs import action_of, check_ranges
from flywheel.protocols import GuardView
from flywheel.records import Action, Alarm, Interval
from flywheel.storage.events import AuditFacts


@dataclass(kw_only=True)
class ProxyGap:
    """What the turn's audit found, beside what the loop's own grader says of the same rows.

    It fires where the audit is flagged: too few of the kept rows are right, or nothing could be audited;
    where the loop's score overstates the trusted grader's by more than ``max_gap``, on average over the kept
    rows that were audited, beyond chance; and where the audit says drift: fewer kept rows are right than in
    earlier audits, or the gap is larger. Without an audit it says so, with ``warn``.
    """

    column: str | None = None
    """The loop's own score, a column of its grader; null: the curator's."""
    max_gap: float = 0.1
    """Gap that is borne, in [0, 1): mean of the loop's score - mean of the trusted grader's."""
    drift: bool = True
    """Whether it fires on drift, too."""
    action: str = "warn"
    """What is asked for: ``warn``, ``ask``, ``reject`` or ``halt``."""

    def __post_init__(self) -> None:
        check_ranges(self, max_gap=(0.0, 0.999))
        action_of(self.action)

    def check(self, view: GuardView) -> Alarm | None:
        """What is wrong, if anything is; else what precision and gap are."""
        if view.generation.audit is None:
            return Alarm(Action.WARN, "no audit: nothing checked whether kept samples are right")
        facts = view.generation.audit.facts
        name = self.column or facts.score
        gap = facts.gaps.get(name) if name else None
        if self.column is not None and gap is None and facts.kept.graded:
            known = ", ".join(facts.gaps) or "none"
            raise DataError(
                f"column must be one of the loop's grader with floats in [0, 1]; {self.column!r} is none, "
                f"there are: {known}."
            )
        found = [facts.flagged, self._gap(name, gap), facts.drift if self.drift else None]
        wrong = [sentence for sentence in found if sentence]
        if wrong:
            return Alarm(action_of(self.action), "; ".join(wrong), numbers=_numbers(facts, gap))
        return Alarm(Action.PASS, _in_words(facts, name, gap), numbers=_numbers(facts, gap))

    def _gap(self, name: str | None, gap: Interval | None) -> str | None:
        if gap is None or gap.low <= self.max_gap:
            return None
        return f"{_gap_in_words(name, gap)}, more than {self.max_gap:.1%}"


def _gap_in_words(name: str | None, gap: Interval) -> str:
    return (
        f"the loop's own {name} overstates what is right by {gap.value:.1%} [{gap.low:.1%}, {gap.high:.1%}]"
    )


def _in_words(facts: AuditFacts, name: str | None, gap: Interval | None) -> str:
    precision = facts.precision
    if precision is None:
        return "nothing was kept that could be audited"
    shown = f"[{precision.low:.1%}, {precision.high:.1%}]"
    text = f"of the kept samples {precision.value:.1%} {shown} are right, {facts.kept.graded} audited"
    return f"{text}; {_gap_in_words(name, gap)}" if gap else text


def _numbers(facts: AuditFacts, gap: Interval | None) -> dict[str, float]:
    numbers = {"precision": facts.precision, "gap": gap}
    return {name: float(value.value) for name, value in numbers.items() if value is not None}
