"""What watched the run: guards, audits, and the error budget, over generations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flywheel.records import Interval
from flywheel.report.generations import alarm_text
from flywheel.storage.state import Generation, RunState


@dataclass(frozen=True, slots=True)
class GuardRow:
    """What one guard said of one generation."""

    generation: int
    guard: str
    action: str
    text: str


@dataclass(frozen=True, slots=True)
class AuditRow:
    """What the trusted grader found of what one turn kept."""

    generation: int
    precision: Interval | None
    graded: int
    fault: str


@dataclass(frozen=True, slots=True)
class LookRow:
    """One look at the gate's items."""

    number: int
    generation: int
    level: float
    charged: float
    """Of the run's error budget by then, this look's included."""
    p_value: float | None
    e_value: float | None
    outcome: str
    """``promoted``, ``not promoted`` or ``no verdict``."""


MOST_ROWS = 300


def guard_rows(chosen: Sequence[Generation]) -> tuple[GuardRow, ...]:
    """What guards said, generation by generation."""
    rows = (
        GuardRow(g.number, alarm.guard, str(alarm.action), alarm_text(alarm))
        for g in chosen
        if g.guard
        for alarm in g.guard.facts.alarms
    )
    return tuple(rows)[-MOST_ROWS:]


def audit_rows(state: RunState) -> tuple[AuditRow, ...]:
    """What audits found, of the newest turns if they are many."""
    facts = ((g.number, g.audit.facts) for g in state.generations if g.audit)
    rows = (AuditRow(number, one.precision, one.kept.graded, one.fault) for number, one in facts)
    return tuple(rows)[-MOST_ROWS:]


def look_rows(state: RunState) -> tuple[LookRow, ...]:
    """Each look at the gate's items with what was charged for it."""
    if state.created is None:
        return ()
    budget = state.created.error_budget
    rows = []
    for look in state.looks[-MOST_ROWS:]:
        generation = state.generations[look.generation]
        verdict = generation.gate.facts.verdict if generation.gate else None
        p, e = (verdict.p_value, verdict.e_value) if verdict else (None, None)
        outcome = "no verdict" if verdict is None else "promoted" if verdict.promote else "not promoted"
        charged = budget.spent + budget.charged(look.number)
        rows.append(LookRow(look.number, look.generation, look.level or 0.0, charged, p, e, outcome))
    return tuple(rows)
