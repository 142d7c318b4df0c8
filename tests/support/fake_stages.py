"""Runs whose stages are fakes: the real loop, ledger, store, curate stage and rules, without a model.

Weights are one-row tables, samples one-word rows; what is kept, drawn, started from and promoted is drawn
from the run's seed, unless ``verdicts`` says it. A run of ten generations takes a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from msgspec.structs import replace

from flywheel import loop
from flywheel.errors import ExitCode, Interrupted
from flywheel.executors import Inline
from flywheel.records import Start, Verdict
from flywheel.runtime.context import Context, StageOutput, StageTools
from flywheel.runtime.data import Data
from flywheel.runtime.runner import StageRunner
from flywheel.runtime.stop import Stop
from flywheel.stages import table
from flywheel.storage import lock
from flywheel.storage.events import GateFacts
from flywheel.storage.ledger import Ledger
from flywheel.storage.state import RunState
from flywheel.storage.store import Store
from flywheel.tables import with_provenance
from flywheel.trackers import NoTracker
from tests.support.events import event_of, facts

HUMAN, MADE = 4, 3
KEEP_ALL = {"promoted": False, "last": None}


class FakeComponents:
    """In place of ``Components``: a curator that keeps and draws at random, and counts its turns."""

    carry_kept = "always"
    tuner_memory = None

    def __init__(self, curator: Any = None, **config: Any) -> None:
        self._curator = curator or self
        ours = {
            "genesis": "train",
            "init": "parent",
            "patience": None,
            "on_failure": "stop",
            "base": None,
            "rivals": {},
            "refit": False,
        }
        ours |= {"on_unit_failure": "fail", "retention": KEEP_ALL, "guards": {}, "verdicts": {}, "leaves": {}}
        ours |= {"audit": {"grader": None}, "human_share": None}
        ours |= {"promotion": {}, "advances": {}, "scores": {}, "genesis_settings": {}}
        self.resolved = {"seed": 0, "budget": {"seconds": None}, **ours, **config}

    def verdict(self, ctx: Context) -> bool:
        """Whether a generation is promoted: as ``verdicts`` says of its number, else drawn."""
        drawn = bool(ctx.key("gate").numpy().random() < 0.6)
        return self.resolved["verdicts"].get(ctx.generation, drawn)

    def advances(self, ctx: Context) -> bool:
        """Whether a generation advances: as ``advances`` says of its number, else it does."""
        return bool(self.resolved["advances"].get(ctx.generation, True))

    def leave(self, ctx: Context, stage: str) -> None:
        """Leave a stage by the error that ``leaves`` has for ``(generation, stage)``."""
        error = self.resolved["leaves"].get((ctx.generation, stage))
        if error is not None:
            raise error

    def settings(self, *, genesis: bool = False) -> dict[str, Any]:
        return {"genesis": genesis}

    def settings_after_genesis(self, settings: Any) -> dict[str, Any]:
        return self.settings()

    def build(self, section: str, settings: Any) -> Any:
        assert section == "curator"
        return self._curator

    def curate(self, samples: pa.Table, carry: Any, key: Any) -> Any:
        rng, rows = key.numpy(), len(samples)
        keep, count = rng.random(rows) < 0.7, rng.integers(0, 2, rows)
        keep[0], count[0] = True, 1
        columns = {"id": samples["id"], "keep": keep, "reason": ["drawn"] * rows, "weight": np.ones(rows)}
        return columns | {"count": count}, {"turns": carry.get("turns", 0) + 1}


def generate(ctx: Context, *, parent: Any, **_: Any) -> StageOutput:
    where = {"made_in": ctx.generation, "made_by": parent.weights, "key": 1}
    rows = pa.table({"prompt": [f"p{n}" for n in range(MADE)], "word": ["made"] * MADE})
    return StageOutput(
        {"samples": with_provenance(rows, own=("prompt",), origin="generated", **where)},
        facts("generate", made=MADE),
    )


def grade(ctx: Context, *, samples: str, parent: Any) -> StageOutput:
    ids = ctx.store.table(samples)["id"]
    return StageOutput(
        {"scores": pa.table({"id": ids, "score": np.ones(len(ids))})}, facts("grade", grader="Puppet")
    )


def tune(ctx: Context, *, init: str, starts: Any, **_: Any) -> StageOutput:
    chosen = str(ctx.key("init").numpy().choice(sorted(starts)))
    return StageOutput({}, facts("tune", settings=dict(ctx.settings), start=chosen))


def train(ctx: Context, *, start: Start, **_: Any) -> StageOutput:
    ctx.components.leave(ctx, "train")
    weights = pa.table({"weights of": [ctx.generation]})
    return StageOutput(
        {"weights": weights},
        facts("train", start=start.json(), settings=dict(ctx.settings), steps=1, loss=0.0),
    )


def evaluate(ctx: Context, **_: Any) -> StageOutput:
    alone = pa.array([None], pa.string())
    return StageOutput({"outcomes": pa.table({"of": [ctx.generation], "opponent": alone})}, facts("evaluate"))


def screen(ctx: Context, *, against: Any, **_: Any) -> StageOutput:
    ctx.components.leave(ctx, "screen")
    score = ctx.components.resolved["scores"].get(ctx.generation, 0.5)
    advance = ctx.components.advances(ctx)
    found = {"effect": 0.1 if advance else -0.1, "p_value": float(advance)}
    compared = [{"generation": int(number), **found} for number in against]
    said = {"advance": advance, "reason": "drawn", "score": score, "against": compared}
    return StageOutput(evaluate(ctx).outputs, facts("screen", **said))


def sealed(ctx: Context, **_: Any) -> StageOutput:
    ctx.components.leave(ctx, "sealed")
    return evaluate(ctx)


def drawn_verdict(promote: bool, level: float) -> GateFacts:
    """A verdict as the gate stage records it."""
    return GateFacts(verdict=Verdict(promote, "drawn", level, p_value=0.0 if promote else 1.0))


def gate(ctx: Context, *, level: float, **_: Any) -> StageOutput:
    return StageOutput({}, drawn_verdict(ctx.components.verdict(ctx), level))


def review(ctx: Context, **_: Any) -> StageOutput:
    ctx.components.leave(ctx, "review")
    return StageOutput({}, facts("review", consent=True))


def human() -> pa.Table:
    rows = pa.table({"prompt": [f"h{n}" for n in range(HUMAN)], "word": ["said"] * HUMAN})
    return with_provenance(rows, own=("prompt",), origin="human", made_in=0, source="x", key=0)


class Interrupter(NoTracker):
    """Interrupts the run after so many stages."""

    def __init__(self, stages: int) -> None:
        self.left = stages

    def event(self, event: Any, state: RunState) -> None:
        self.left -= event.event == "stage"
        if self.left <= 0:
            raise Interrupted("the test")


def put(patch: pytest.MonkeyPatch, function: Callable[..., StageOutput]) -> None:
    """Have this function do the stage of its name, on rank 0."""
    row = getattr(table, function.__name__)
    patch.setattr(table, row.name, replace(row, function=function, on_all_ranks=False))


@contextmanager
def on_strings() -> Iterator[pytest.MonkeyPatch]:
    """Put the fakes in the loop's stages' places; nothing is synced."""
    with pytest.MonkeyPatch.context() as patch:
        stages = (generate, grade, tune, train, screen, evaluate, sealed, gate, review)
        for stage in stages:
            put(patch, stage)
        patch.setattr("os.fsync", lambda descriptor: None)
        yield patch


def play(directory: Path, generations: int, *, stages: int | None = None, **config: Any) -> ExitCode:
    """Run, or go on to so many generations; at most so many stages."""

    def begin(run: StageRunner) -> None:
        if run.state.created is None:
            config = {key: run.config[key] for key in ("seed", "promotion")}
            identity = {"config": config, "data": {"suite sealed": {"role": "sealed"}}}
            run.record(event_of("run_created", recipe="fake", name=directory.name, **identity))

    fakes = FakeComponents(generations=generations, **config)
    return session(directory, fakes, Data(human(), {}), begin, stages=stages)


def session(
    directory: Path,
    components: Any,
    data: Data,
    begin: Callable[[StageRunner], None],
    *,
    stages: int | None = None,
) -> ExitCode:
    """A session of at most so many stages; opened as ``session.open_runner`` opens one."""
    directory.mkdir(parents=True, exist_ok=True)
    lock.acquire(directory)
    ledger = Ledger(directory)
    try:
        tracker = NoTracker() if stages is None else Interrupter(stages)
        tools = StageTools(components, Store(directory), data, Stop(directory), Inline(lambda: None))
        run = StageRunner(directory, tools, tracker, RunState.replay(ledger), ledger)
        begin(run)
        run.record(event_of("session_started"))
        return loop.run_loop(run)
    except Interrupted:
        return ExitCode.INTERRUPTED
    finally:
        ledger.close()
        lock.release(directory)
