"""Tune: choose the settings and the start, by trials: short fits scored on the dev suites.

Each trial is proposed from the results of all but the last ``tune.lag - 1`` before it, in their order, so
that the same ones are made whatever the number of ranks, and however often the run is killed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from flywheel import ranks
from flywheel.config.components import plain_settings
from flywheel.curves import Row, curves_of_trials
from flywheel.errors import DataError, StageFailed, StopRequested
from flywheel.protocols import TunerView
from flywheel.records import TRIAL, Choice, Json, Start, Study, Trial, TrialResult, UnitResult
from flywheel.runtime.context import Context, Stage, StageOutput, carry_of
from flywheel.runtime.scoring import error_of_mean
from flywheel.runtime.work import UnitsDone
from flywheel.space import Space
from flywheel.stages.trials import MakeTrial, Read, check_start, read
from flywheel.storage.events import TuneFacts, device_hours
from flywheel.storage.sources import Source
from flywheel.storage.state import Generation

if TYPE_CHECKING:
    from flywheel.storage.store import Store

_NO_SAMPLES = {"samples": len, "tokens": len}


def tune(
    ctx: Context,
    *,
    sources: Sequence[Source],
    redo: Mapping[str, Stage],
    starts: Mapping[str, Start],
    init: str,
    recalled: str | None = None,
    after: str | None = None,
    parent: Generation | None = None,
    rivals: Mapping[str, Generation | Start] = MappingProxyType({}),
    prior: Sequence[tuple[int, str]] | None = None,
    memory: str | None = None,
) -> StageOutput:
    """The tuner's settings and kind of start, and the trials that it asked for.

    ``sources``, ``recalled`` and ``after`` are what ``curate`` will be given, ``redo`` the stages that make a
    corpus, in order, which a trial may do anew, ``starts`` what a fit may begin from, by kind;
    ``init`` is the configured kind. Duels are against ``parent``; ``rivals`` answer prompts beside it.
    ``prior``: earlier generations with trials, and the artifacts of these; ``memory``: that of the studies of
    other runs.
    """
    tuner, carry = ctx.components.build("tuner", ctx.settings), ctx.carry.get("tuner", {})
    space = ctx.components.space.of_fresh(starts[init].weights is None) if init in starts else Space()
    if parent is None:
        space = space.of_genesis() if ctx.components.resolved["tune"]["genesis"] else Space()
    studies = studies_of(ctx.store, prior or (), memory)
    view = TunerView(ctx.settings, starts, init, (), studies, carry, ctx.key, space)
    search = _Search(ctx, tuner, view)
    make = MakeTrial(ctx, sources, recalled, after, redo, starts, parent, rivals)
    begin_from = {kind: start.json() for kind, start in starts.items()}
    inputs = [*map(list, sources), recalled, begin_from, init, prior, memory, ctx.carry]
    search.units = ctx.work.do_proposed(make, search.propose, search.take, inputs=inputs)
    if (why := ranks.from_rank_0(lambda: search.why_stop)) and ctx.decisions.record:
        ctx.decisions.record("stop", ranks.from_rank_0(lambda: len(search.results)), why)
    chosen = ranks.from_rank_0(search.choose)
    return search.output(chosen) if ranks.rank() == 0 else StageOutput()


def studies_of(store: Store, prior: Sequence[tuple[int, str]], memory: str | None) -> tuple[Study, ...]:
    """The trials of other runs, then of this run's earlier generations, the oldest first."""
    others = [(study["of"], study["results"]) for study in (store.json(memory) if memory else ())]
    own = [(f"generation {number}", store.json(artifact)) for number, artifact in prior]
    studies = [(of, results) for of, results in (*others, *own) if results]
    return tuple(
        Study(of, len(studies) - k, tuple(map(TrialResult.of, results)))
        for k, (of, results) in enumerate(studies)
    )


@dataclass(slots=True)
class _Search:
    """What a tuner asks for and is shown, on rank 0."""

    ctx: Context
    tuner: Any
    view: TunerView
    units: UnitsDone = field(default_factory=UnitsDone)
    results: list[TrialResult] = field(default_factory=list)
    """Of the trials that were made, by number."""
    why_stop: str = ""
    """Why a limit of ``tune`` ends the study now; empty: none does, or that it does is recorded."""
    _asked: list[Trial] = field(default_factory=list)
    _is_over: bool = False
    """Whether the tuner has asked for no more."""
    _seconds: float = 0.0
    _curves: dict[int, list[Row]] = field(default_factory=dict)
    """Of each trial that did not fail, by number."""
    _first: list[float] | None = None
    """What trial 0 scored on each cluster of items; None: it failed or was pruned."""
    _weights: tuple[int, bytes] | None = None
    """The best trial whose weights may become a start, and these."""

    def propose(self, number: int, is_kept: bool) -> Json | None:
        """Trial ``number``, from the results that it may depend on; None: they are not there yet, or no more.

        One that an earlier session has finished is not lost to a limit that was reached beside it.
        Raises StopRequested if a trial would make samples and the run's budget for them is spent.
        """
        if number < len(self._asked):
            return self._asked[number].json()
        known = max(0, number - self._tune["lag"] + 1)
        if self._is_over or len(self.results) < known or self._is_stopped(number, is_kept):
            return None
        view = replace(
            self.view,
            results=tuple(self.results[:known]),
            pending=tuple(self._asked[known:]),
            key=self.ctx.key("ask", number),
        )
        view.key.seed_globals()
        trial = self.tuner.ask(view)
        if trial is None:
            self._is_over = True
            return None
        if not isinstance(trial, Trial):
            raise DataError(f"Expected a Trial or None from ask(), got {trial!r}.")
        self._check_budget(trial)
        start = trial.start or view.init
        trial = replace(trial, settings=plain_settings(trial.settings), start=start)
        self._asked.append(trial)
        return trial.json()

    @property
    def _tune(self) -> Mapping[str, Any]:
        tune: Mapping[str, Any] = self.ctx.components.resolved["tune"]
        return tune

    def _is_stopped(self, number: int, is_kept: bool) -> bool:
        """Whether a limit on what trials take has ended the study: as recorded, or now."""
        if (after := self.ctx.decisions.recorded.get("stop")) is not None:
            return number >= int(after)
        if is_kept:
            return False
        if self.ctx.decisions.record is not None and not self.why_stop:
            self.why_stop = self._limit_reached() if number else ""
        return bool(self.why_stop)

    def _limit_reached(self) -> str:
        price = (self.ctx.components.resolved["budget"].get("price") or {}).get("device_hour", 0.0)
        taken = {"seconds": self._seconds, "money": device_hours(self._seconds, 1) * price}
        reached = (key for key, value in taken.items() if self._tune[key] and value >= self._tune[key])
        key = next(reached, None)
        return f"tune.{key} is {self._tune[key]:g}, and the trials took {taken[key]:g}" if key else ""

    def _check_budget(self, trial: Trial) -> None:
        if trial.redo_from == "generate":
            meter = self.ctx.work.meter
            with meter.making(_NO_SAMPLES):
                if reached := meter.reached():
                    raise StopRequested(reached)

    def take(self, result: UnitResult, is_new: bool) -> None:
        """Add the result of the next trial; ``is_new``: it was made in this session."""
        trial = self._asked[result.number]
        self._seconds += result.seconds
        if result.data is None:
            failed = TrialResult(result.number, trial, failure=str(result.error))
            self.results.append(failed)
            return
        made = read(result.data)
        beside = self._error_beside(result.number, made)
        done = TrialResult.of({"number": result.number, "error_beside": beside, **made.fields})
        if done.trial != msgspec.convert(trial.json(), Trial):
            raise DataError(
                f"Expected ask() to name trial {done.number} again as it was made, {done.trial.json()}; got "
                f"{trial.json()}. Have it depend on its view alone, and draw from view.key."
            )
        self.results.append(done)
        self._curves[done.number] = made.curve
        if is_new:
            self.ctx.work.meter.add_counts(made.counts)
        if made.weights and (self._weights is None or _score(done) > _score(self.results[self._weights[0]])):
            self._weights = done.number, made.weights

    def _error_beside(self, number: int, made: Read) -> float | None:
        if made.fields["pruned"]:
            return None
        if number == 0:
            self._first = made.sums
        if number == 0 or self._first is None:
            return None
        apart = [ours - first for ours, first in zip(made.sums, self._first, strict=True)]
        return error_of_mean(apart, made.sizes)

    def choose(self) -> Choice:
        """The tuner's choice. Raises StageFailed if all trials failed, or it cannot be used."""
        if self.results and all(result.score is None for result in self.results):
            raise StageFailed("tune", _why_all_failed(self.results))
        view = replace(self.view, results=tuple(self.results), key=self.ctx.key("choose"))
        view.key.seed_globals()
        choice = self.tuner.choose(view)
        if not isinstance(choice, Choice):
            raise DataError(f"Expected a Choice from choose(), got {choice!r}.")
        if not choice.share >= 0 or (choice.share == 0 and choice.start != TRIAL):
            raise StageFailed("tune", f"the share of a fit must be above 0; the tuner named {choice.share}")
        if choice.start == TRIAL and (self._weights is None or self._weights[0] != choice.trial):
            raise StageFailed(
                "tune",
                f"a start must be the best trial whose weights were kept; the tuner named {choice.trial!r}",
            )
        if choice.start != TRIAL:
            check_start(choice.start, view.starts)
        return replace(choice, settings=self.ctx.components.tuned(choice.settings))

    def output(self, choice: Choice) -> StageOutput:
        """What the stage leaves: the trials, the carry, and weights that became a start."""
        from safetensors.torch import load

        outputs, carry_kept = carry_of(self.tuner, choice.carry)
        if self.results or self.view.prior:
            outputs = {"trials": [result.json() for result in self.results], **outputs}
        if self._curves:
            outputs["curves"] = curves_of_trials(self._curves)
        if choice.start == TRIAL and self._weights:
            outputs["weights"] = load(self._weights[1])
        facts = TuneFacts(
            settings=choice.settings,
            start=choice.start,
            units=self.units.facts if self.results else None,
            trial=choice.trial,
            share=choice.share,
            reason=choice.reason,
            importance={name: round(share, 4) for name, share in choice.importance.items()},
            carry_kept=carry_kept,
        )
        return StageOutput(outputs, facts, self.units.seconds if self.results else None)


def _score(result: TrialResult) -> float:
    return -1.0 if result.score is None else result.score


def _why_all_failed(results: Sequence[TrialResult]) -> str:
    (reason, count), *_ = Counter(result.failure for result in results).most_common(1)
    return f"all {len(results)} trials failed, {count} of them so: {reason}"
