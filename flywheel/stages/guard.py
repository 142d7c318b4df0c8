"""Guard: checks for faults of a generation, independently of the gate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from flywheel.protocols import GuardView
from flywheel.records import Action, Alarm, Role, Verdict
from flywheel.runtime.context import Context, StageOutput
from flywheel.runtime.evidence import PairedOutcomes
from flywheel.storage.events import GuardAlarm, GuardFacts
from flywheel.storage.state import Generation


def guard(
    ctx: Context,
    *,
    judged: Generation,
    opponent: Generation,
    verdict: Verdict,
    candidate: str,
    champion: str,
) -> StageOutput:
    """What the guards found, in the order of their names; a guard may say nothing.

    ``opponent``: the champion. ``candidate``, ``champion``: tables of outcomes on the same items.
    """
    tables = _seen(ctx, candidate), _seen(ctx, champion)
    evidence = PairedOutcomes(ctx.data.suites, *tables, Role.GUARD)
    view = GuardView(judged, opponent, verdict, *tables, evidence)
    guards = sorted(ctx.components.build("guards", ctx.settings).items())
    answers = [(name, part.check(view)) for name, part in guards if part is not None]
    return StageOutput(facts=GuardFacts(alarms=tuple(_alarm(*answer) for answer in answers if answer[1])))


def _seen(ctx: Context, outcomes: str) -> pa.Table:
    """The outcomes on suites that guards may read; those on the gate's items would tell its score."""
    table = ctx.store.table(outcomes)
    return table.filter(np.isin(table["suite"].to_numpy(), list(ctx.data.suites)))


def _alarm(name: str, answer: Any) -> GuardAlarm:
    if not isinstance(answer, Alarm):
        raise TypeError(f"a guard must answer an Alarm or None; {name} answered {answer!r}")
    return GuardAlarm(guard=name, action=Action(answer.action), reason=str(answer.reason))
