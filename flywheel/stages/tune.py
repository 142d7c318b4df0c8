"""Tune: choose the settings and the start, by trials: short fits scored on the dev suites."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from flywheel import ranks
from flywheel.config.components import plain_settings
from flywheel.errors import DataError, StageFailed
from flywheel.protocols import TunerView
from flywheel.records import Choice, Role, Settings, Start, Trial, TrialResult
from flywheel.runtime.context import Context, Stage, StageOutput, StageTools, carry_of
from flywheel.runtime.fit import fit
from flywheel.runtime.scoring import score_means
from flywheel.runtime.work import FOLDER
from flywheel.storage.corpus import read_corpus
from flywheel.storage.events import TuneFacts
from flywheel.storage.ledger import canonical
from flywheel.storage.sources import read_sources
from flywheel.storage.state import Generation
from flywheel.storage.store import ScratchStore, Store

if TYPE_CHECKING:
    import pyarrow as pa


def tune(
    ctx: Context,
    *,
    corpus: str,
    sources: str,
    batches: str,
    redo: Mapping[str, Stage],
    starts: Mapping[str, Start],
    init: str,
    recalled: str | None = None,
    parent: Generation | None = None,
    prior: Sequence[tuple[int, str]] | None = None,
) -> StageOutput:
    """The tuner's settings and kind of start, and the trials that it asked for.

    ``batches`` and ``recalled`` are what ``curate`` was given, ``redo`` the stages before this one, in order,
    which a trial may do anew, ``starts`` what a fit may begin from, by kind;
    ``init`` is the configured kind. Duels are against ``parent``. ``prior``: earlier generations with trials,
    and the artifacts of these.
    """
    tuner, carry = ctx.components.build("tuner", ctx.settings), ctx.carry.get("tuner", {})
    earlier = {n: tuple(map(TrialResult.of, ctx.store.json(artifact))) for n, artifact in prior or ()}
    view = TunerView(ctx.settings, starts, init, (), earlier, carry, ctx.key)
    trials = Trials(ctx, corpus, sources, batches, recalled, redo, starts, parent)
    begin_from = {kind: start.json() for kind, start in starts.items()}
    units = ctx.work.one_by_one([corpus, sources, batches, recalled, begin_from, init, prior, carry])
    while not isinstance(answer := ranks.from_rank_0(partial(_ask, tuner, view, ctx)), Choice):
        for trial in answer:
            unit = units.do(partial(trials.run, trial))
            failed = {"trial": trial.json(), "failure": str(unit.error)}
            outcome = json.loads(bytes(unit.data)) if unit.data else failed
            result = TrialResult.of({"number": len(view.results), **outcome})
            view = replace(view, results=(*view.results, result))
    _require_known(answer.start, starts)
    output, carry_kept = carry_of(tuner, answer.carry)
    facts = TuneFacts(
        settings=ctx.components.tuned(answer.settings),
        start=answer.start,
        units=units.done.facts if view.results else None,
        carry_kept=carry_kept,
    )
    if view.results or prior:
        output = {"trials": [result.json() for result in view.results], **output}
    return StageOutput(output, facts, units.done.seconds if view.results else None)


def _ask(tuner: Any, view: TunerView, ctx: Context) -> Choice | list[Trial]:
    """The tuner's answer; what it draws from does not depend on which trials were made in this session."""
    key = ctx.key("ask", len(view.results))
    key.seed_globals()
    answer = tuner.ask(replace(view, key=key))
    if isinstance(answer, Choice):
        return answer
    if not isinstance(answer, Sequence) or not answer or not all(isinstance(t, Trial) for t in answer):
        raise DataError(f"Expected a Choice, or a list of one Trial or more, from ask(), got {answer!r}.")
    return [replace(t, settings=plain_settings(t.settings), start=t.start or view.init) for t in answer]


def _require_known(start: str, starts: Mapping[str, Start]) -> None:
    if start not in starts:
        raise StageFailed("tune", f"init must be one of {', '.join(starts)}; the tuner named {start!r}")


@dataclass(frozen=True, slots=True)
class Trials:
    """Makes trials, on all ranks together; the fields are those that ``tune`` is given."""

    ctx: Context
    corpus: str
    sources: str
    batches: str
    recalled: str | None
    redo: Mapping[str, Stage]
    starts: Mapping[str, Start]
    parent: Generation | None

    def run(self, trial: Trial) -> bytes:
        """The trial, its score, and that of each suite, as JSON. Raises what made it fail."""
        ctx, parent = self.ctx, self.parent
        _require_known(trial.start, self.starts)
        if not trial.fidelity > 0:
            raise StageFailed("tune", f"a trial's fidelity must be above 0; it is {trial.fidelity}")
        settings, key = ctx.components.tuned(trial.settings), ctx.key("trial")  # one key, so that they
        start = self.starts[trial.start].weights  # differ by what was asked for only
        model = fit(ctx, settings, key, self._rows(trial, settings), start, fidelity=trial.fidelity).model
        rival = ctx.load_model(str(parent.weights), parent.settings) if parent else None
        score, suites = score_means(ctx, model, rival, Role.DEV, key)
        return canonical({"trial": trial.json(), "score": score, "suites": suites})

    def _rows(self, trial: Trial, settings: Settings) -> pa.Table:
        """What to train on: the corpus, or one that is made anew and forgotten."""
        store = self.ctx.store
        if trial.redo_from == "train":
            return read_corpus(store, self.corpus, read_sources(store, self.sources))
        with _scratch(store) as scratch:
            return ranks.run_on_all_ranks(lambda: self._redo(trial.redo_from, settings, scratch))

    def _redo(self, first: str, settings: Settings, scratch: Store) -> pa.Table:
        if first not in self.redo:
            known = ", ".join([*self.redo, "train"])
            raise StageFailed("tune", f"redo_from must be one of {known}; it is {first!r}")
        do = partial(self._do, settings, scratch)
        *before, (samples, scores) = scratch.json(self.batches)
        if first != "curate":
            if self.parent is None:
                raise StageFailed("tune", f"a genesis has nothing that {first} could do anew")
            if first == "generate":
                samples = do("generate", parent=self.parent)["samples"]
            scores = do("grade", samples=samples, parent=self.parent)["scores"]
        outputs = do("curate", sources=[*before, [samples, scores]], recalled=self.recalled)
        return read_corpus(scratch, outputs["corpus"], read_sources(scratch, outputs["sources"]))

    def _do(self, settings: Settings, scratch: Store, name: str, **inputs: Any) -> dict[str, str]:
        """The outputs of a stage, in the scratch store."""
        ctx, stage = self.ctx, self.redo[name]
        tools = StageTools(ctx.components, scratch, ctx.data, ctx.stop, ctx.work.executor)
        more = {"carry": ctx.carry, "reports": (ctx.report_progress, None), "meter": ctx.work.meter, **inputs}

        def run() -> StageOutput:
            if not stage.on_all_ranks and ranks.rank() != 0:
                return StageOutput()
            return tools.run(stage, ctx.generation, ctx.key("trial"), settings, **more)

        output = ranks.run_on_all_ranks(run)
        return ranks.from_rank_0(lambda: {key: scratch.put_value(v) for key, v in output.outputs.items()})


@contextmanager
def _scratch(store: Store) -> Iterator[Store]:
    """A store for what is forgotten once the block ends; all ranks see the same."""
    folder = store.directory / FOLDER / "tune" / "trial"
    ranks.from_rank_0(lambda: shutil.rmtree(folder, ignore_errors=True))
    try:
        yield ScratchStore(folder, store)
    finally:
        if ranks.rank() == 0:
            shutil.rmtree(folder, ignore_errors=True)
