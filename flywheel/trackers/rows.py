"""What a run says in numbers, as rows for a tracker: derived from its ledger, event by event.

Each row has an axis, the key that it is plotted over; the keys before a ``/`` are sections, in whose order a
page shows them: the champion's metric comes first. Whoever follows a run and whoever replays its ledger
make the same rows.

champion    what is in force after a turn: its estimates on the gate suites
cost        of the turn, of the run so far, and the champion's gain for it
data        what was generated, kept and trained on, what audits found
evaluate    how fast suites were answered, by the units that were done in the run so far
evaluation  the candidate's estimates on all suites
generate    how fast samples were made, by the units that were done in the run so far
guards      what guards did and measured
ledger      line and head of the ledger with which the turn ended
look        a look at a frontier, by its number
sealed      the looks at the sealed suites, by generation
train       what fits of generations logged, by the run's optimiser steps
trials      what fits of trials logged, by the steps of all trials
tuning      how many trials there were, what was chosen, what settings matter
verdict     how the turn ended, and what is left of the error budget
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flywheel.curves import steps_before, thinned
from flywheel.lineage.status import (
    BudgetStatus,
    Metrics,
    cost,
    estimates,
    gate_beside_sealed,
    metrics,
)
from flywheel.records import Interval, Role
from flywheel.storage.events import (
    Event,
    FellBack,
    GenerationEnded,
    Look,
    Recalled,
    RolledBack,
    RunEnded,
    StageDone,
)
from flywheel.storage.policy import FRONTIER
from flywheel.storage.state import Generation, RunState

if TYPE_CHECKING:  # pyarrow
    import pyarrow as pa

    from flywheel.storage.store import Store

Values = dict[str, Any]
"""Key -> number, truth value or text."""
GENERATION, LOOK, SEALED, TRAIN, TRIALS, GENERATE, EVALUATE = (
    *("generation", "look/number", "sealed/generation"),
    *("train/step", "trials/step", "generate/step", "evaluate/step"),
)
"""The axes."""
_STEPS_OF = {"generate": GENERATE, "screen": EVALUATE, "evaluate": EVALUATE, "sealed": EVALUATE}
"""The axis on which the units of a stage are steps."""
_POINTS_OF_TRIAL = 20
_HOUR, _PETA = 3600.0, 1e15


@dataclass(frozen=True, slots=True)
class Row:
    """What is known at one place of an axis."""

    axis: str
    """The key that says where, e.g. ``generation``."""
    values: Values
    """That key and those that are plotted over it."""


class Rows:
    """The rows of a run's events, which are given one after another, each once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._trial_steps = 0
        self._units = {GENERATE: 0, EVALUATE: 0}

    def of(self, event: Event, state: RunState) -> list[Row]:
        """Those of an event; ``state`` includes it."""
        rows = self._of(event, state)
        if isinstance(event, StageDone) and event.stage in _STEPS_OF and event.facts.units.count:
            rows.append(self._work_row(event))
        return rows

    def _of(self, event: Event, state: RunState) -> list[Row]:
        match event:
            case StageDone(stage="train"):
                return list(fit_rows(event, state, self._store))
            case StageDone(stage="tune"):
                return list(self._trial_rows(event))
            case StageDone(stage="sealed"):
                measured = _flat("sealed", event.facts.metrics)
                return [Row(SEALED, {SEALED: event.generation, **measured})]
            case GenerationEnded():
                look = frontier_look(event.generation, state)
                values = generation_values(event, state)
                return [Row(GENERATION, values)] if look is None else _look_rows(look, values, state)
            case Recalled() | RolledBack() | FellBack():
                return _change_rows(event, state)
        return []

    def _work_row(self, event: StageDone[Any]) -> Row:
        """What the units of a stage took, on all ranks; they follow those of all earlier generations."""
        axis, cost = _STEPS_OF[event.stage], event.cost
        self._units[axis] += event.facts.units.count
        seconds = cost.unit_seconds or cost.seconds
        values: Values = {"generation": event.generation, "seconds": seconds}
        values |= {"units_per_second": event.facts.units.count / seconds} if seconds else {}
        if axis == GENERATE:
            made = event.facts.made
            tokens = cost.tokens if cost.samples == made else 0  # those of earlier sessions are not counted
            values |= {"samples": made, "tokens": tokens or None}
            values |= {"samples_per_second": made / seconds} if seconds else {}
            values |= {"tokens_per_second": tokens / seconds} if seconds and tokens else {}
        else:
            values["stage"] = event.stage
        return Row(axis, {axis: self._units[axis], **_under(axis.partition("/")[0], values)})

    def _trial_rows(self, event: StageDone[Any]) -> Iterator[Row]:
        """A few points of the curve of each trial: the trials of all generations follow on one axis."""
        name = event.outputs.get("curves")
        for trial, points in _by_trial(self._store.table(name)) if name else ():
            steps = sorted(points)
            for step in thinned(steps, _POINTS_OF_TRIAL):
                where = {TRIALS: self._trial_steps + step, "trials/generation": event.generation}
                yield Row(TRIALS, {**where, "trials/trial": trial, **_under("trials", points[step])})
            self._trial_steps += steps[-1] if steps else 0


def fit_rows(event: StageDone[Any], state: RunState, store: Store) -> Iterator[Row]:
    """The curve of a generation's fit."""
    name = event.outputs.get("curve")
    before = steps_before(event.generation, state)
    for step, values in sorted(_points(store.table(name)).items()) if name else ():
        yield fit_row(event.generation, before + step, values)


def fit_row(generation: int, total: int, values: Mapping[str, float]) -> Row:
    """What a fit logged when the run had done ``total`` optimiser steps."""
    return Row(TRAIN, {TRAIN: total, "train/generation": generation, **_under("train", values)})


def frontier_look(number: int, state: RunState) -> Look | None:
    """The look at a generation, if it had advanced before: it ends twice, and has a row for each."""
    return state.generations[number].look if state.promotion.rule == FRONTIER else None


def generation_values(event: GenerationEnded, state: RunState) -> Values:
    """All that is known of a generation that has ended, and of the run with it."""
    generation = state.generations[event.generation]
    return {
        GENERATION: generation.number,
        **champion_values(state),
        **_cost_values(generation, state),
        **_data_values(generation),
        **_flat("evaluation", metrics(generation, state)),
        **_guard_values(generation),
        **_tune_values(generation),
        **_verdict_values(generation, state),
        "ledger/line": event.seq,
        "ledger/head": event.hash,
    }


def champion_metrics(generation: Generation, state: RunState) -> Metrics:
    """Its estimates on the gate suites; where it has none, on all but sealed ones."""
    measured = metrics(generation, state)
    gate = {suite: by for suite, by in measured.items() if state.roles.get(suite) == Role.GATE}
    return gate or {suite: by for suite, by in measured.items() if state.roles.get(suite) != Role.SEALED}


def champion_values(state: RunState) -> Values:
    """The estimates of the champion in force, and its number."""
    if state.champion is None:
        return {}
    measured = _flat("champion", champion_metrics(state.champion, state))
    return {**measured, "verdict/champion": state.champion.number}


def summary_values(event: RunEnded, state: RunState) -> Values:
    """What is to be said of the whole run when a session has ended."""
    values: Values = {"head": event.hash, "state": event.event.removeprefix("run_")}
    values |= {"reason": event.reason, "sealed_openings": state.times_opened}
    if state.champion:
        values |= {"champion": state.champion.number}
        values |= _flat("sealed", _sealed(state.champion, state))
    if state.ahead:
        values |= {"frontier": state.ahead[-1].number}
    if state.created and state.created.forked_from:
        values |= {"forked_from": str(state.created.forked_from)}
    for both in gate_beside_sealed(state):
        values[f"gate - sealed/{both.gate} - {both.sealed}/{both.metric}"] = both.difference
    return values


def _sealed(generation: Generation, state: RunState) -> Metrics:
    look = state.sealed.get(generation.number)
    return look.facts.metrics if look else {}


def _look_rows(look: Look, values: Values, state: RunState) -> list[Row]:
    """A row of its own, as that of its generation is behind those since; and what is in force now."""
    own = {key: value for key, value in values.items() if key.startswith(("evaluation/", "verdict/"))}
    named = {f"look/{key}": value for key, value in own.items()}
    where = {LOOK: look.number, "look/generation": look.generation, "look/level": look.level}
    after = {key: value for key, value in values.items() if key.startswith(("champion/", "ledger/"))}
    return [Row(LOOK, {**where, **named}), _in_force(after, state)]


def _change_rows(event: Recalled | RolledBack | FellBack, state: RunState) -> list[Row]:
    """What is in force after a recall or the like: it changes what the newest generation left."""
    if not state.generations:
        return []
    why = event.reason if isinstance(event, FellBack) else event.why
    changed = {"verdict/change": event.event, "verdict/why": why}
    ledger = {"ledger/line": event.seq, "ledger/head": event.hash}
    return [_in_force({**champion_values(state), **changed, **ledger}, state)]


def _in_force(values: Values, state: RunState) -> Row:
    return Row(GENERATION, {GENERATION: state.generations[-1].number, **values})


def _verdict_values(generation: Generation, state: RunState) -> Values:
    values: Values = {"status": str(generation.status), "reason": generation.reason}
    values["promoted"] = generation is state.champion
    if generation.screen:
        values["dev_score"] = generation.screen.facts.score
    if generation.gate:
        verdict = generation.gate.facts.verdict
        values |= {name: n for name, n in verdict.numbers.items() if isinstance(n, int | float | str)}
        values |= {"level": verdict.level, "p_value": verdict.p_value, "e_value": verdict.e_value}
    if budget := BudgetStatus.of(state):
        left = float(f"{max(0.0, budget.alpha - budget.spent):.6g}")
        values |= {"error_spent": budget.spent, "error_left": left, "looks": budget.looks}
        values |= {"next_level": budget.next_level}
    return _under("verdict", values)


def _cost_values(generation: Generation, state: RunState) -> Values:
    own, costs = cost(generation), [event.cost for event in generation.stages.values()]
    counts = {
        "device_seconds": sum(c.seconds * c.ranks for c in costs),
        "samples": sum(c.samples for c in costs),
        "tokens": sum(c.tokens for c in costs),
        "money": sum(c.money or 0.0 for c in costs) if any(c.money is not None for c in costs) else None,
    }
    values: Values = {key: value for key, value in own.json().items() if key != "stages"} | counts
    values |= {f"stages/{stage}": seconds for stage, seconds in own.stages.items()}
    spent = state.spent.rounded().json()
    spent["device_seconds"] = spent.pop("device_hours") * _HOUR
    values |= {f"total/{key}": value for key, value in spent.items()}
    return _under("cost", values | _gain_values(state))


def _gain_values(state: RunState) -> Values:
    """How much higher the champion's estimates are than the first champion's, and that for what was spent."""
    if state.champion is None or state.first_champion is None:
        return {}
    ours, firsts = (champion_metrics(g, state) for g in (state.champion, state.first_champion))
    values: Values = {}
    for suite, metric, estimate in estimates(ours):
        if (first := firsts.get(suite, {}).get(metric)) is None:
            continue
        gain, name = estimate.value - first.value, f"{suite}/{metric}"
        values[f"gain/{name}"] = gain
        if state.spent.device_hours:
            values[f"gain_per_device_hour/{name}"] = gain / state.spent.device_hours
        if state.spent.flops:
            values[f"gain_per_petaflop/{name}"] = gain / (state.spent.flops / _PETA)
    return values


def _data_values(generation: Generation) -> Values:
    values: Values = {}
    if generation.generate:
        made = generation.generate.facts
        values |= {"made": made.made, "left_out": made.left_out}
    if generation.grade:
        values["ungraded"] = generation.grade.facts.failed
    if generation.curate:
        facts = generation.curate.facts
        values |= {"rows": facts.rows, "leaked": facts.leaked, "human_share": facts.human_share}
        values |= {f"corpus/{origin}": count for origin, count in facts.by_origin.items()}
        values |= {f"decided/{reason}": count for reason, count in facts.by_reason.items()}
    return _under("data", values | _audit_values(generation))


def _audit_values(generation: Generation) -> Values:
    """What a trusted grader found of the samples that were kept."""
    facts = generation.audit.facts if generation.audit else None
    if facts is None:
        return {}
    found = {"precision": facts.precision, "recall": facts.recall}
    found |= {f"gap_{name}": gap for name, gap in facts.gaps.items()}
    values: Values = {"flagged": bool(facts.flagged), "drift": bool(facts.drift), "fault": facts.fault}
    for name, share in found.items():
        values |= _parts(name, share) if share is not None else {}
    return _under("audit", values)


def _guard_values(generation: Generation) -> Values:
    values: Values = {}
    for alarm in generation.guard.facts.alarms if generation.guard else ():
        values |= {f"{alarm.guard}/action": str(alarm.action), f"{alarm.guard}/reason": alarm.reason}
        values |= _under(alarm.guard, alarm.numbers)
    return _under("guards", values)


def _tune_values(generation: Generation) -> Values:
    """What the candidate was trained with, and how that was found."""
    values: Values = {f"settings/{name}": value for name, value in generation.settings.items()}
    facts = generation.tune.facts if generation.tune else None
    if facts and facts.units:
        values |= {"trials": facts.units.count, "trials_failed": facts.units.failed or 0}
        values |= {"chosen": facts.trial, "reason": facts.reason}
        values |= {f"importance/{name}": share for name, share in facts.importance.items()}
    return _under("tuning", values)


def _flat(prefix: str, measured: Metrics) -> Values:
    """E.g. ``{"evaluation/gate/accuracy": 0.97, "evaluation/gate/accuracy_low": 0.96, ...}``."""
    return {
        f"{prefix}/{suite}/{name}": value
        for suite, metric, estimate in estimates(measured)
        for name, value in _parts(metric, estimate).items()
    }


def _parts(name: str, estimate: Interval) -> Values:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _under(prefix: str, values: Mapping[str, Any]) -> Values:
    """The values that are there, in a section."""
    return {f"{prefix}/{name}": value for name, value in values.items() if value is not None}


def _points(curve: pa.Table) -> dict[int, dict[str, float]]:
    """A curve by step."""
    points: dict[int, dict[str, float]] = {}
    columns = (curve[name].to_pylist() for name in ("step", "name", "value"))
    for step, name, value in zip(*columns, strict=True):
        points.setdefault(step, {})[name] = value
    return points


def _by_trial(curves: pa.Table) -> Iterable[tuple[int, dict[int, dict[str, float]]]]:
    """The curve of each trial, by step."""
    import pyarrow.compute as pc

    for trial in pc.unique(curves["trial"]).to_pylist():
        yield trial, _points(curves.filter(pc.equal(curves["trial"], trial)))
