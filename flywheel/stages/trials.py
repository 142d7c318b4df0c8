"""One trial: a short fit by one rank, scored on the dev suites, and what it may need made anew for it."""

from __future__ import annotations

import gc
import math
import traceback
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from flywheel import ranks
from flywheel.curves import Curve, Row
from flywheel.errors import StageFailed
from flywheel.executors.inline import Inline
from flywheel.keys import Key
from flywheel.records import Json, Role, Settings, Start, Trial, Unit
from flywheel.runtime.context import Context, Stage, StageTools
from flywheel.runtime.meter import Meter
from flywheel.runtime.scoring import Means, score_means
from flywheel.runtime.work import FOLDER, Work
from flywheel.space import REDO
from flywheel.storage.corpus import read_corpus
from flywheel.storage.ledger import canonical
from flywheel.storage.sources import Source, read_sources
from flywheel.storage.state import Generation
from flywheel.storage.store import Store, scratch_store

if TYPE_CHECKING:
    import lightning
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class MakeTrial:
    """The work of a unit: a trial. The fields are those that ``tune`` is given."""

    ctx: Context
    sources: Sequence[Source]
    recalled: str | None
    after: str | None
    redo: Mapping[str, Stage]
    starts: Mapping[str, Start]
    parent: Generation | None
    rivals: Mapping[str, Generation | Start]
    _corpora: dict[bytes, pa.Table] = field(default_factory=dict, init=False)
    """The corpus that the curator made last of this turn's samples, by its arguments."""

    def __call__(self, unit: Unit) -> bytes:
        """What came of it, see ``read``. Raises what made it fail."""
        trial = msgspec.convert(unit.task, Trial)
        try:
            with ranks.alone():
                return self._make(trial, unit.number)
        except SystemExit as error:
            _forget_locals(error)
            raise RuntimeError(f"the recipe left the process: SystemExit: {error}") from None
        except Exception as error:
            _forget_locals(error)
            raise
        finally:
            _free_memory()

    def _make(self, trial: Trial, number: int) -> bytes:
        check(trial, self.starts)
        key = self.ctx.key("trial", number)
        ctx = _context(self.ctx, number)
        settings = ctx.components.tuned(trial.settings)
        rows = _shared(self._rows(ctx, trial, settings, key), trial.data_share, self.ctx.key("rows"))
        score = partial(self._score, ctx)
        result = fit_in_rungs(ctx, trial, settings, key("fit"), rows, self.starts[trial.start].weights, score)
        means: dict[str, Any] = {"sums": result.means.sums, "sizes": result.means.sizes}
        beside = {"counts": ctx.work.meter.counts, "curve": result.curve.rows(), **means}
        return canonical({**result.facts, **beside}) + b"\n" + result.weights

    def _score(self, ctx: Context, model: lightning.LightningModule) -> Means:
        """The model on dev. All trials are scored with the same random numbers."""
        parent = self.parent
        rival = ctx.load_model(str(parent.weights), parent.settings) if parent else None
        return score_means(ctx, model, rival, Role.DEV, self.ctx.key("dev"))

    def _rows(self, ctx: Context, trial: Trial, settings: Settings, key: Key) -> pa.Table:
        """What to train on: what this turn's samples, or others that are made anew and forgotten, come to.

        The curator draws as it will for the candidate, so that the same settings give the same corpus.
        """
        if trial.redo_from in ("generate", "grade"):
            with _scratch(ctx.store, key) as scratch:
                return self._curated(
                    ctx, scratch, settings, self._regenerated(ctx, scratch, trial, settings, key)
                )
        arguments = canonical(ctx.components.section("curator", settings))
        if arguments not in self._corpora:
            with _scratch(ctx.store, key) as scratch:
                rows = self._curated(ctx, scratch, settings, self.sources)
            self._corpora.clear()
            self._corpora[arguments] = rows
        return self._corpora[arguments]

    def _regenerated(
        self, ctx: Context, scratch: Store, trial: Trial, settings: Settings, key: Key
    ) -> list[Source]:
        """The sources, with the newest batch made, or only graded, anew."""
        if self.parent is None:
            raise StageFailed("tune", f"a genesis has nothing that {trial.redo_from} could do anew")
        *before, (samples, *_) = self.sources
        if trial.redo_from == "generate":
            given = {"parent": self.parent, "rivals": self.rivals, "share": trial.data_share}
            samples = self._do("generate", ctx, scratch, settings, key, **given)["samples"]
        graded = self._do("grade", ctx, scratch, settings, key, samples=samples, parent=self.parent)
        return [*before, [samples, graded["scores"], None]]

    def _curated(
        self, ctx: Context, scratch: Store, settings: Settings, sources: Sequence[Source]
    ) -> pa.Table:
        given = {"sources": sources, "recalled": self.recalled, "after": self.after}
        outputs = self._do("curate", ctx, scratch, settings, ctx.root, **given)
        return read_corpus(scratch, outputs["corpus"], read_sources(scratch, outputs["sources"]))

    def _do(
        self, name: str, ctx: Context, scratch: Store, settings: Settings, key: Key, **inputs: Any
    ) -> dict[str, str]:
        """The outputs of a stage, in the scratch store."""
        tools = StageTools(ctx.components, scratch, ctx.data, ctx.stop, ctx.work.executor)
        reports, meter = (ctx.report_progress, ctx.report_metrics), ctx.work.meter
        given = {"carry": ctx.carry, "reports": reports, "meter": meter, **inputs}
        output = tools.run(self.redo[name], ctx.generation, key, settings, **given)
        return {name: scratch.put_value(value) for name, value in output.outputs.items()}


def check(trial: Trial, starts: Mapping[str, Start]) -> None:
    """Raise StageFailed for a trial that cannot be made."""
    check_start(trial.start, starts)
    if trial.redo_from not in REDO:
        raise StageFailed("tune", f"redo_from must be one of {', '.join(REDO)}; it is {trial.redo_from!r}")
    shares = {"fidelity": trial.fidelity, "data_share": trial.data_share}
    for name, share in shares.items():
        if not share > 0 or (name == "data_share" and share > 1):
            rule = "above 0" if name == "fidelity" else "above 0 and at most 1"
            raise StageFailed("tune", f"a trial's {name} must be {rule}; it is {share}")
    rungs = [rung.share for rung in trial.rungs]
    if rungs != sorted(set(rungs)) or not all(0 < share < 1 for share in rungs):
        raise StageFailed("tune", f"a trial's rungs must rise between 0 and 1; they are {rungs}")
    if trial.keep_weights and (trial.redo_from in ("generate", "grade") or trial.data_share != 1):
        raise StageFailed("tune", "only a trial on the whole corpus of its generation may become a start")


def check_start(start: str, starts: Mapping[str, Start]) -> None:
    """Raise StageFailed for a kind of start that there is not."""
    if start not in starts:
        raise StageFailed("tune", f"init must be one of {', '.join(starts)}; the tuner named {start!r}")


class Read(NamedTuple):
    """A trial that was made, as it was kept."""

    fields: dict[str, Json]
    """Those of its result but for the number."""
    counts: dict[str, float]
    """What it counts for the budget."""
    curve: list[Row]
    sums: list[float]
    """See ``Means``; likewise ``sizes``."""
    sizes: list[int]
    weights: bytes
    """Empty: they were not kept."""


def read(data: Any) -> Read:
    """What ``MakeTrial`` returned."""
    line, _, weights = bytes(data).partition(b"\n")
    fields = msgspec.json.decode(line)
    counts, curve, sums, sizes = (fields.pop(name) for name in ("counts", "curve", "sums", "sizes"))
    return Read(fields, counts, curve, sums, sizes, weights)


def _context(ctx: Context, number: int) -> Context:
    """What a trial may use: units are done by this rank alone, and none is kept."""

    def report_progress(done: int, total: int | None, note: str) -> None:
        ctx.report_progress(done, total, f"trial {number}{note and ', '}{note}")

    def ignore(done: int, total: int | None, note: str) -> None:
        pass  # of scoring: the fit's is what says how far a trial is

    work = Work(
        executor=Inline(ctx.stop.check_unit),
        folder=None,
        stage=ctx.work.stage,
        conditions=None,
        skip_failures=False,
        report_progress=ignore,
        meter=Meter(),
    )
    return replace(ctx, work=work, trial=number, report_progress=report_progress)


def _shared(rows: pa.Table, share: float, key: Key) -> pa.Table:
    """A share of the rows, one at least, in their order. A smaller share is part of a larger one."""
    if share == 1.0:
        return rows
    drawn = key.each(rows["id"].to_pylist()).uniform(1)[:, 0]
    count = max(1, round(len(rows) * share))
    return rows.take(np.sort(np.argsort(drawn, kind="stable")[:count]))


def _scratch(store: Store, key: Key) -> AbstractContextManager[Store]:
    """A store for what a trial makes."""
    return scratch_store(store, store.directory / FOLDER / "tune" / f"trial-{key.path[-1]}")


def _forget_locals(error: BaseException | None) -> None:
    """Let go of what the calls that raised an error held, the model above all: the error outlives them."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _free_memory() -> None:
    """Let go of what a trial held: the next one needs the room, most of all after one that had too little."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of the fit of a trial."""

    facts: dict[str, Json]
    """The fields of its result but for the number."""
    weights: bytes
    curve: Curve
    means: Means
    """Of its last scoring."""


def fit_in_rungs(
    ctx: Context,
    trial: Trial,
    settings: Settings,
    key: Key,
    rows: pa.Table,
    start: str | None,
    score: Any,
) -> Tried:
    """Fit and score, at each rung and at the end; a score below a rung's least ends it."""
    from safetensors.torch import save

    from flywheel.runtime.environment import device
    from flywheel.runtime.fit import check_loads, fit
    from flywheel.runtime.weights import take_weights
    from flywheel.stages.rungs import Climb, Pruned

    climb, curve = Climb(trial.rungs, score), Curve()
    try:
        done = fit(ctx, settings, key, rows, start, fidelity=trial.fidelity, curve=curve, callbacks=[climb])
    except Pruned:
        means, weights = climb.means, b""
    else:
        means = score(done.model.to(device(ctx.components.resolved["trainer"])))
        taken = take_weights(done.model) if trial.keep_weights else None
        weights = save(check_loads(ctx, settings, taken)) if taken else b""
    assert means is not None
    share = trial.rungs[len(climb.scores) - 1].share if climb.is_pruned else 1.0
    facts = {
        "trial": trial.json(),
        "score": means.score,
        "suites": means.suites,
        "error": means.error if means.error is not None and math.isfinite(means.error) else None,
        "rungs": climb.scores,
        "pruned": climb.is_pruned,
        "share": trial.fidelity * share,
    }
    return Tried(facts, weights, curve, means)
