"""Guard: is something wrong with a generation, whatever the gate says of it?"""

from __future__ import annotations

from flywheel.protocols import GuardView
from flywheel.records import Action, Alarm, Json, Verdict
from flywheel.runtime.context import Context, StageOutput
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
    answers = [
        (name, part.check(view))
        for name, part in sorted(ctx.components.build("guards", ctx.settings).items())
    ]
    return StageOutput(facts={"alarms": [_alarm(name, answer) for name, answer in answers if answer]})


def _alarm(name: str, answer: Alarm) -> dict[str, Json]:
    if not isinstance(answer, Alarm):
        raise TypeError(f"a guard must answer an Alarm or None; {name} answered {answer!r}")
    return {"guard": name, "action": Action(answer.action).value, "reason": str(answer.reason)}
