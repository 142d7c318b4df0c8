"""Runs a stage and records its outputs, or returns its record if it has run already.

Rank 0 writes; every rank sees every event and so has the same state.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from flywheel import ranks
from flywheel.config.components import Components
from flywheel.config.credentials import without_secrets
from flywheel.curves import steps_before
from flywheel.errors import Control, FlywheelError, StageFailed, StopRequested
from flywheel.lineage.code_changes import hashes
from flywheel.protocols import Tracker
from flywheel.records import Json, Progress, Role, Settings, Start, Step
from flywheel.runtime import work
from flywheel.runtime.context import Decisions, Stage, StageOutput, StageTools
from flywheel.runtime.meter import Meter
from flywheel.storage import ids, pruning, slim
from flywheel.storage.accountant import level_due
from flywheel.storage.events import (
    Decided,
    Event,
    FellBack,
    GenerationEnded,
    GenerationStarted,
    Look,
    Pruned,
    RunEnded,
    StageDone,
    Status,
)
from flywheel.storage.ledger import Ledger
from flywheel.storage.policy import Policy
from flywheel.storage.retention import Retention
from flywheel.storage.state import Generation, RunState
from flywheel.storage.store import Store, is_artifact


@dataclass(slots=True)
class StageRunner:
    """A run that is open for writing; ``session.open_runner`` opens one."""

    directory: Path
    tools: StageTools
    trackers: Tracker
    state: RunState
    ledger: Ledger | None
    """None on ranks other than 0."""
    _retention: Retention | None = None
    _code: dict[int, Json] = field(default_factory=dict)
    """``seq`` of the session under way -> hashes of its modules."""

    @property
    def components(self) -> Components:
        """What the configuration builds."""
        return self.tools.components

    @property
    def store(self) -> Store:
        """The run's artifacts."""
        return self.tools.store

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration."""
        return self.components.resolved

    def record(self, event: Event) -> Event:
        """Append an event; all ranks see it."""
        return self._record(lambda: event)

    def _record(self, make: Callable[[], Event]) -> Event:
        def append() -> Event:
            assert self.ledger is not None
            event = make()
            if isinstance(event, GenerationEnded | RunEnded):  # they may repeat what a service answered
                event = replace(
                    event,
                    reason=without_secrets(event.reason),
                    traceback=event.traceback and without_secrets(event.traceback),
                )
            self.state.check(event)  # an event that breaks a rule must not be written
            return self.ledger.append(event)

        event: Event = ranks.from_rank_0(append)
        self.state.apply(event)
        self.trackers.event(event, self.state)
        return event

    def start_generation(self) -> Generation:
        """Begin the next generation, on the frontier if there is one."""
        parent, champion = (g.number if g else None for g in (self.state.frontier, self.state.champion))
        number = len(self.state.generations)
        self.record(GenerationStarted(generation=number, parent=parent, champion=champion))
        return self.state.generations[-1]

    def fall_back(self) -> None:
        """Give up the frontier: the next generation builds on the champion again, with its carry."""
        champion = self.state.champion
        assert champion is not None, "what is ahead is ahead of a champion"
        abandoned = tuple(generation.number for generation in self.state.ahead)
        looks, turns = self.state.looks_in_vain, self.state.turns_since_look
        reason = f"{looks} looks in a row have failed" if looks > 1 else "a look has failed"
        if looks < (self.state.promotion.patience or 0):
            reason = f"nothing has advanced beyond it in {turns} turn{'s' * (turns > 1)} since its look"
        self.record(FellBack(champion=champion.number, generations=abandoned, reason=reason))

    def start_refit(self) -> Generation:
        """Begin to repeat the champion's procedure, from where it began."""
        champion = self.state.champion
        assert champion is not None, "a refit is of a champion"
        number, parent = len(self.state.generations), champion.parent
        self.record(GenerationStarted(generation=number, parent=parent, champion=champion.number, refit=True))
        return self.state.generations[-1]

    def charge_look(self, generation: Generation) -> Look:
        """Charge the look at the gate's items, once a generation: before anything is evaluated on them."""
        if generation.look is None:
            number, level = len(self.state.looks) + 1, level_due(self.state)
            self.record(Look(generation=generation.number, number=number, level=level))
        assert generation.look is not None
        return generation.look

    def charge_opening(self) -> None:
        """Charge an opening of the sealed suites, if any champion is to be looked at that none was for."""
        champion = self.state.champion
        assert champion is not None, "sealed suites are opened when a run ends, and then there is a champion"
        if not {g.number for g in self.state.champions_to_look_at} <= self.state.unsealed:
            number = len(self.state.openings) + 1
            self.record(Look(generation=champion.number, role=Role.SEALED, number=number))

    def end_generation(
        self,
        generation: Generation,
        status: Status,
        reason: str,
        carries: Mapping[str, str],
        **details: Any,
    ) -> None:
        """Record the verdict, and the carries that are kept with it.

        ``carries``: stage -> component, of the stages that may leave a carry.
        """
        carry = {
            component: str(generation.output(stage, "carry"))
            for stage, component in carries.items()
            if _is_kept(generation, stage, status)
        }
        number = generation.number
        self.record(GenerationEnded(generation=number, status=status, reason=reason, carry=carry, **details))
        if status is not Status.FAILED:  # the disk may be full: the next generation that ends frees the space
            self.retain()

    def retain(self) -> None:
        """Drop what the retention policy does not keep: named in the ledger first, then deleted."""
        policy = Policy.of(**self.config["retention"])
        pruned = ranks.from_rank_0(lambda: self._plan_removal(policy)) if policy else None
        if pruned:
            self.record(pruned)
        if pruned and self.ledger:
            pruning.delete(self.store, pruned.objects)

    def _plan_removal(self, policy: Policy) -> Pruned | None:
        self._retention = self._retention or Retention(self.store, self.state, policy)
        drops = self._retention.drops()
        if not drops:
            return None
        removal = slim.plan_removal(self.store, self.state, drops, policy, write=True)
        return removal.event if removal.drops else None

    def do(self, generation: Generation, settings: Settings, stage: Stage, **inputs: Any) -> StageDone[Any]:
        """Run a stage and record its outputs, or return its record. Raises StageFailed."""
        name, number, stop = stage.name, generation.number, self.tools.stop
        done = generation.stages.get(name) or (name == "sealed" and self.state.sealed.get(number))
        if done:
            self._discard_units(name)
            return done

        def report_progress(done: int, total: int | None, note: str) -> None:
            self.trackers.progress(Progress(number, name, done, total, note))

        before = functools.cache(lambda: steps_before(number, self.state))  # once, and only of a fit

        def report_metrics(step: int, values: Mapping[str, float], trial: int | None) -> None:
            self.trackers.metrics(Step(number, name, step, before() + step, trial), values)

        report_progress(0, None, "")
        meter = Meter(self.config["budget"], self.state.spent)
        stop.hold(meter.reached)
        stop.check()
        carries = self.state.carries if generation.refit_of is None else generation.carry_before
        carry = {part: self.store.json(artifact) for part, artifact in carries.artifacts.items()}

        def run() -> StageOutput:
            where, how = (stage, number, self.state.key, settings), self._conditions()
            return self.tools.run(
                *where,
                carry=carry,
                conditions=how,
                reports=(report_progress, report_metrics),
                meter=meter,
                decisions=self._decisions(generation, name),
                **inputs,
            )

        def record(made: StageOutput | None) -> StageDone[Any]:
            result = made or run()
            return StageDone(
                generation=number,
                stage=name,
                inputs=artifacts_in(self.store, inputs),
                outputs={key: self.store.put_value(value) for key, value in result.outputs.items()},
                facts=result.facts,
                cost=meter.cost(result.unit_seconds),
            )

        try:
            made = ranks.run_on_all_ranks(run) if stage.on_all_ranks else None
            recorded = self._record(lambda: record(made))
            assert isinstance(recorded, StageDone)
        except Control as control:
            control.cut_off = self._cut_off(generation, name, meter)
            raise
        except (Exception, SystemExit) as error:  # a recipe's sys.exit(0) must not look like a finished run
            if isinstance(error, SystemExit) and ranks.world_size() > 1:
                raise  # the other ranks see it as a death
            stopped = ranks.any_rank(stop.asked)  # e.g. a worker died of the same signal
            left = StopRequested(stop.by) if stopped else _failed(name, error)
            left.cut_off = self._cut_off(generation, name, meter)
            if not stopped and self.ledger is not None:
                work.discard_failed(self.directory, name)
            raise left from error
        self._discard_units(name)
        if name == "seed":
            self.tools.data = self.tools.data.as_recorded(self.state, self.store)
        if self.ledger is not None and "samples" in recorded.outputs:
            ids.note(self.directory, number, name, self.store.table(recorded.outputs["samples"], ["id"]))
        return recorded

    def decide(self, generation: Generation, what: str, make: Callable[[], Decided]) -> Decided:
        """What a file or a clock decides, recorded; in a resumed run what was recorded. On all ranks.

        ``make``, on rank 0: the decision, if it is not recorded yet.
        """
        decided = generation.decisions.get(what) or self._record(make)
        assert isinstance(decided, Decided)
        return decided

    def _decisions(self, generation: Generation, stage: str) -> Decisions:
        def record(what: str, value: int | str, reason: str) -> None:
            number = generation.number
            self.record(Decided(generation=number, stage=stage, what=what, value=value, reason=reason))

        recorded = {what: decided.value for what, decided in generation.decisions.items()}
        return Decisions(recorded, record)

    def _conditions(self) -> Json:
        """The code, packages and threads of the session: with others, units would come out otherwise.

        On rank 0, which keeps units. Of the code its hashes: which texts are kept depends on the trackers.
        """
        session = self.state.session
        if session is None or self.ledger is None:
            return None
        if session.seq not in self._code:
            code = session.outputs.get("code")
            self._code = {session.seq: code and hashes(self.store.json(code))}
        return [self._code[session.seq], session.outputs.get("distributions"), session.threads]

    def _discard_units(self, stage: str) -> None:
        if self.ledger is not None:
            work.discard(self.directory, stage)

    def _cut_off(self, generation: Generation, stage: str, meter: Meter) -> dict[str, Any]:
        """What is to be said of a stage that was left; nothing if its line is in the ledger already."""
        last = self.ledger.events[-1] if self.ledger and self.ledger.events else None
        is_last = isinstance(last, StageDone) and (last.generation, last.stage) == (generation.number, stage)
        is_recorded = stage in generation.stages or is_last
        return {} if is_recorded else {"generation": generation.number, "cost": meter.cost()}


def artifacts_in(store: Store, inputs: Mapping[str, Any]) -> dict[str, str]:
    """The artifact names among a stage's inputs, for the ledger.

    A list of them becomes an artifact of its own: events must not grow with the number of generations.
    """
    names: dict[str, str] = {}
    for key, value in inputs.items():
        if isinstance(value, Generation | Start):
            names.update({key: value.weights} if value.weights else {})
        elif isinstance(value, str) and is_artifact(value):
            names[key] = value
        elif isinstance(value, Mapping):
            names.update(artifacts_in(store, {f"{key}.{k}": v for k, v in value.items()}))
        elif isinstance(value, (list, tuple)):
            names[key] = store.put_json(value)
    return names


def _is_kept(generation: Generation, stage: str, status: Status) -> bool:
    if generation.output(stage, "carry") is None or status is Status.FAILED:
        return False
    goes_on = status is Status.PROMOTED or (status is Status.ADVANCED and stage != "gate")
    return goes_on or generation.stages[stage].facts.carry_kept == "always"


def _failed(stage: str, error: BaseException) -> StageFailed:
    """The failure of a stage as the loop knows it."""
    if isinstance(error, StageFailed):
        return StageFailed(error.stage, error.reason)
    has_message = isinstance(error, FlywheelError)
    return StageFailed(stage, str(error) if has_message else f"{type(error).__name__}: {error}")
