"""Guard: checks for faults of a generation, independently of the gate."""

from __future__ import annotations

from typing import Any

from flywheel.protocols import GuardView
from flywheel.records import Action, Alarm, Verdict
from flywheel.runtime.context import Context, StageOutput
from flywheel.storage.events import GuardAlarm, GuardFacts
from flywheel.storage.state import Generation


def guard(
    ctx: Context,
    *,
    judged: Generation,
    parent: Generation,
    verdict: Verdict,
    candidate: str,
    champion: str,
) -> StageOutput:
    """The alarms of all guards, in the order of the guards' names; a guard that passes raises none.

    ``candidate``, ``champion``: tables of outcomes on the same items.
    """
    view = GuardView(judged, parent, verdict, ctx.store.table(candidate), ctx.store.table(champion))
    guards = sorted(ctx.components.build("guards", ctx.settings).items())
    answers = [(name, part.check(view)) for name, part in guards]
    return StageOutput(facts=GuardFacts(alarms=tuple(_alarm(*answer) for answer in answers if answer[1])))


def _alarm(name: str, answer: Any) -> GuardAlarm:
    if not isinstance(answer, Alarm):
        raise TypeError(f"a guard must answer an Alarm or None; {name} answered {answer!r}")
    return GuardAlarm(guard=name, action=Action(answer.action), reason=str(answer.reason))
