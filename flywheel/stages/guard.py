"""Guard: checks for faults of a generation, independently of the gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec.structs import replace

from flywheel.protocols import GuardView
from flywheel.records import Action, Alarm, Role, Verdict
from flywheel.runtime.context import Context, StageOutput
from flywheel.runtime.evidence import LazyTables, PairedOutcomes
from flywheel.storage.corpus import read
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
    parent: Generation | None = None,
    first_champion: Generation | None = None,
    outcomes: Mapping[str, str] | None = None,
    batches: Sequence[Sequence[Any]] = (),
    measured: Mapping[int, Mapping[str, Mapping[str, float]]] | None = None,
) -> StageOutput:
    """What the guards found, in the order of their names; a guard may say nothing.

    ``opponent``: the champion. ``candidate``, ``champion``: tables of outcomes on the same items. The rest is
    of earlier generations: tables of ``outcomes`` by number; ``batches``, this turn's too, each its number
    and artifacts of samples and of what says more of them; what guards ``measured``, by number and guard.
    """
    tables = _seen(ctx, candidate), _seen(ctx, champion)
    view = GuardView(
        judged,
        opponent,
        verdict,
        *tables,
        PairedOutcomes(ctx.data.suites, *tables, Role.GUARD),
        suites=ctx.data.suites,
        parent=parent,
        first_champion=first_champion,
        outcomes=LazyTables({int(n): partial(_seen, ctx, name) for n, name in (outcomes or {}).items()}),
        batches=LazyTables({number: partial(read, ctx.store, [source]) for number, *source in batches}),
    )
    guards = sorted(ctx.components.build("guards", ctx.settings).items())
    answers = [
        (name, part.check(replace(view, measured=_measured_by(name, measured or {}))))
        for name, part in guards
        if part is not None
    ]
    return StageOutput(facts=GuardFacts(alarms=tuple(_alarm(*answer) for answer in answers if answer[1])))


def _seen(ctx: Context, outcomes: str) -> pa.Table:
    """The outcomes on suites that guards may read; those on the gate's items would tell its score."""
    table = ctx.store.table(outcomes)
    return table.filter(np.isin(table["suite"].to_numpy(), list(ctx.data.suites)))


def _measured_by(
    name: str, measured: Mapping[int, Mapping[str, Mapping[str, float]]]
) -> dict[int, Mapping[str, float]]:
    """What one guard measured, by generation."""
    return {number: of_guards[name] for number, of_guards in measured.items() if name in of_guards}


def _alarm(name: str, answer: Any) -> GuardAlarm:
    if not isinstance(answer, Alarm):
        raise TypeError(f"a guard must answer an Alarm or None; {name} answered {answer!r}")
    numbers = {str(key): float(value) for key, value in answer.numbers.items()}
    action, reason = Action(answer.action), str(answer.reason)
    return GuardAlarm(guard=name, action=action, reason=reason, numbers=numbers)
