"""A folder of runs that the real code makes, with stages that are fakes: what a random history acts on.

The loop, the ledger, the store, the curate stage, recall, rollback, fork, prune and retention are the real
ones. Weights are safetensors files of two numbers, samples rows of one word. What is kept, drawn, started
from, promoted and left as a carry is drawn from keys, what goes wrong is given. Clocks are fakes: stages take
the time that they are given, and the wall clock jumps where the history says so.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from msgspec.structs import replace
from safetensors.numpy import save

from flywheel import loop
from flywheel.errors import AwaitingReview, ExitCode, Interrupted, StopRequested
from flywheel.executors import Inline
from flywheel.keys import Key
from flywheel.launch import fork, session
from flywheel.records import Start, Trial, TrialResult
from flywheel.runtime.context import Context, StageOutput, StageTools
from flywheel.runtime.data import Data
from flywheel.runtime.runner import StageRunner
from flywheel.runtime.stop import Stop, request
from flywheel.storage import lock, parquet
from flywheel.storage.events import Event, Fields, ForkedFrom, ReviewFacts
from flywheel.storage.ledger import Ledger
from flywheel.storage.state import RunState
from flywheel.storage.store import Store, Stored
from flywheel.tables import AUDITS, OUTCOMES, with_provenance
from flywheel.trackers import NoTracker
from tests.support.events import event_of, facts
from tests.support.fake_stages import drawn_verdict, put

HUMAN, MADE = 5, 3
WORD_BYTES = 2000
"""So many that what stands in for a batch that was pruned is smaller."""
STAGES = [
    "seed",
    "generate",
    "grade",
    "audit",
    "curate",
    "tune",
    "train",
    "adopt",
    "screen",
    "evaluate",
    "sealed",
    "gate",
    "guard",
    "review",
]
FATES = ("fail", "stop", "stop_file", "interrupt", "interrupt_after", "kill", "no_answer")
Fates = dict[int | str, str]
"""What becomes of the n-th stage of a session, or of the first one of a name: one of FATES."""


class Killed(BaseException):
    """The process died: nobody records anything."""


ERRORS = {"fail": RuntimeError, "stop": StopRequested, "interrupt": Interrupted, "kill": Killed}


class Clocks:
    """What ``time.time`` and ``time.monotonic`` say."""

    def __init__(self) -> None:
        self.steady, self.offset = 0.0, 1.7e9

    def monotonic(self) -> float:
        return self.steady

    def time(self) -> float:
        return self.steady + self.offset


@dataclass
class Config:
    """What makes a run: its identity."""

    seed: int
    genesis: str = "train"
    base: Path | None = None
    inits: tuple[str, ...] = ("parent",)
    carry_kept: dict[str, str] = field(default_factory=dict)
    """Component -> always, promotion, or none: it has no carry."""
    level_carry: bool = False
    """The curator's carry has few values, so that different generations leave the same artifact."""
    lends: bool = True
    keep: float = 0.7
    """The share of samples that is kept; of those half are drawn."""
    promote: float = 0.6
    promotion: dict[str, Any] = field(default_factory=dict)
    """The rule by which it promotes; empty: each."""
    guarded: bool = False
    audited: bool = False
    advance: float = 0.8
    """How often a candidate that is screened does no shown harm."""
    still: float = 0.0
    """How often training changes nothing: weights equal to those that it started from."""
    tries: float = 0.0
    """How often a tuner asks for trials."""
    forked_from: ForkedFrom | None = None


class Parts:
    """In place of ``Components``: the configuration, a curator, and the fate of each stage."""

    tuner_memory = None

    def __init__(
        self, directory: Path, config: Config, clocks: Clocks, fates: Fates, **operational: Any
    ) -> None:
        self.directory, self.config, self.clocks, self.fates = directory, config, clocks, dict(fates)
        self.calls, self.fate = 0, None
        base = str(config.base) if config.base else None
        self.resolved = {"seed": config.seed, "genesis": config.genesis, "base": base, "refit": False}
        self.resolved |= {"rivals": {}}
        self.resolved |= {"init": config.inits[0], "on_unit_failure": "fail", **operational}
        self.resolved |= {"genesis_settings": {}, "human_share": None}
        self.resolved["audit"] = {"grader": "drawn" if config.audited else None}
        self.resolved["guards"] = {"drawn": config.guarded or None}

    def settings(self, *, genesis: bool = False) -> dict[str, Any]:
        return {"genesis": genesis}

    def settings_after_genesis(self, settings: Any) -> dict[str, Any]:
        return self.settings()

    def build(self, section: str, settings: Any) -> Any:
        assert section == "curator"
        return self

    @property
    def carry_kept(self) -> str:
        return self.config.carry_kept.get("curator", "promotion")

    def curate(self, samples: pa.Table, carry: Any, key: Any) -> Any:
        self.meet_fate("curate")
        rng, rows = key.numpy(), len(samples)
        keep, count = rng.random(rows) < self.config.keep, rng.integers(0, 2, rows)
        keep[-1], count[-1] = True, rng.random() < 0.95  # else, at times, an empty corpus
        columns = {"id": samples["id"], "keep": keep, "reason": ["drawn"] * rows, "weight": np.ones(rows)}
        return columns | {"count": count}, self.carry_of("curator", carry, rng)

    def carry_of(self, component: str, before: Any, rng: Any) -> dict[str, int]:
        if component not in self.config.carry_kept:
            return {}
        turns = before.get("turns", 0) + 1
        return {"turns": min(turns, int(rng.integers(1, 3))) if self.config.level_carry else turns}

    def meet_fate(self, stage: str) -> None:
        """Take the time that the stage takes, and end it as the history says."""
        self.calls += 1
        self.clocks.steady += round(0.01 + (self.calls * 37 % 11) / 10, 4)
        self.fate = self.fates.pop(self.calls, None) or self.fates.pop(stage, None)
        if self.fate in ERRORS:
            raise ERRORS[self.fate]("so it was drawn")
        if self.fate == "stop_file":
            request(self.directory)


def seed(ctx: Context) -> StageOutput:
    base = ctx.components.config.base
    weights = {"base": Stored(ctx.store.put(base.read_bytes(), ".safetensors"))} if base else {}
    return StageOutput({"samples": ctx.data.human, **weights}, facts("seed", human=len(ctx.data.human)))


def generate(ctx: Context, *, parent: Any, **_: Any) -> StageOutput:
    where = {"made_in": ctx.generation, "made_by": parent.weights, "key": ctx.key.seed}
    words = [ctx.key("word", n).numpy().bytes(WORD_BYTES).hex() for n in range(MADE)]
    rows = pa.table({"prompt": [f"p{n}" for n in range(MADE)], "word": words})
    samples = with_provenance(rows, own=("prompt",), origin="generated", **where)
    ctx.work.meter.add({"samples": len, "tokens": lambda made: 5 * len(made)}, samples)
    return StageOutput({"samples": samples}, facts("generate", made=MADE))


def grade(ctx: Context, *, samples: str, parent: Any) -> StageOutput:
    ids = ctx.store.table(samples)["id"]
    scores = pa.table({"id": ids, "score": ctx.key.numpy().random(len(ids))})
    loaded_parent = parent.weights if ctx.components.config.lends else None
    return StageOutput({"scores": scores}, facts("grade", grader="Fake", loaded_parent=loaded_parent))


def audit(ctx: Context, *, sources: Any, parent: Any, **_: Any) -> StageOutput:
    ids = ctx.store.table(sources[-1][0])["id"][:2]
    audits = [ids, ctx.key.numpy().random(len(ids)), [True] * len(ids), [None] * len(ids)]
    loaded_parent = parent.weights if ctx.components.config.lends else None
    return StageOutput(
        {"audits": pa.table(audits, schema=AUDITS)},
        facts("audit", grader="Fake", loaded_parent=loaded_parent),
    )


def tune(ctx: Context, *, init: str, starts: Any, **_: Any) -> StageOutput:
    rng = ctx.key.numpy()
    chosen = str(rng.choice(sorted(set(starts) & {*ctx.components.config.inits}) or [init]))
    output = left(ctx, "tuner", rng, facts("tune", settings=dict(ctx.settings), start=chosen))
    if rng.random() >= ctx.components.config.tries:
        return output
    trial = Trial(dict(ctx.settings), start=chosen)
    results = [TrialResult(k, trial, float(rng.random())).json() for k in range(rng.integers(0, 3))]
    return StageOutput({"trials": results, **output.outputs}, output.facts)


def train(ctx: Context, *, start: Start, **_: Any) -> StageOutput:
    own = save({"weights": np.array([ctx.key.seed, ctx.generation], np.int64)})
    is_still = start.weights and ctx.key.numpy().random() < ctx.components.config.still
    weights = start.weights if is_still else ctx.store.put(own, ".safetensors")
    return trained(ctx, start, weights)


def adopt(ctx: Context, *, start: Start) -> StageOutput:
    own = save({"weights": np.array([ctx.key.seed], np.int64)})
    weights = start.weights or ctx.store.put(own, ".safetensors")
    return trained(ctx, start, weights)


def trained(ctx: Context, start: Start, weights: str) -> StageOutput:
    fit = facts("train", start=start.json(), settings=dict(ctx.settings))
    return StageOutput({"weights": Stored(weights)}, fit)


def evaluate(ctx: Context, *, weights: str, opponent: Any, **_: Any) -> StageOutput:
    """Outcomes of a suite that is solved alone, and of one that is a duel."""
    rivals = [None, opponent.weights] if opponent else [None]
    rows = [
        {"suite": "duel" if rival else "solo", "item": "1", "cluster": "1", "subject": weights}
        | {"opponent": rival, "score": float(ctx.key.numpy().integers(0, 2))}
        for rival in rivals
    ]
    return StageOutput({"outcomes": pa.Table.from_pylist(rows, OUTCOMES)}, facts("evaluate"))


def screen(ctx: Context, *, weights: str, opponent: Any, against: dict[str, str], **_: Any) -> StageOutput:
    rng = ctx.key.numpy()
    advance = bool(rng.random() < ctx.components.config.advance)
    found = {"effect": 0.1 if advance else -0.1, "p_value": float(advance)}
    compared = [{"generation": int(number), **found} for number in against]
    said = {"advance": advance, "reason": "drawn"}
    said |= {"score": float(rng.integers(0, 4)) / 4, "against": compared}
    return StageOutput(evaluate(ctx, weights=weights, opponent=opponent).outputs, facts("screen", **said))


def sealed(ctx: Context, *, weights: str, opponent: Any) -> StageOutput:
    return evaluate(ctx, weights=weights, opponent=opponent)


def gate(ctx: Context, *, level: float, **_: Any) -> StageOutput:
    rng = ctx.key.numpy()
    return left(ctx, "gate", rng, drawn_verdict(bool(rng.random() < ctx.components.config.promote), level))


def guard(ctx: Context, **_: Any) -> StageOutput:
    action = str(ctx.key.numpy().choice(["pass", "warn", "reject", "halt"], p=[0.5, 0.2, 0.15, 0.15]))
    return StageOutput({}, facts("guard", alarms=[{"guard": "drawn", "action": action, "reason": "drawn"}]))


def review(ctx: Context, **_: Any) -> StageOutput:
    if ctx.components.fate == "no_answer":
        raise AwaitingReview
    return StageOutput({}, ReviewFacts(consent=bool(ctx.key.numpy().random() < 0.9), reviewer="Fake"))


def left(ctx: Context, component: str, rng: Any, content: Fields) -> StageOutput:
    """Facts of a stage, and the carry that its component leaves."""
    kept = ctx.components.config.carry_kept.get(component)
    if kept is None:
        return StageOutput({}, content)
    carry = ctx.components.carry_of(component, ctx.carry.get(component, {}), rng)
    return StageOutput({"carry": carry}, replace(content, carry_kept=kept))


def human() -> pa.Table:
    sources = ["vendor 7"] * 2 + ["vendor 8"] * (HUMAN - 2)
    rows = pa.table({"prompt": [f"h{n}" for n in range(HUMAN)], "source": sources})
    return with_provenance(rows, own=("prompt", "source"), origin="human", made_in=0, key=0)


class Watcher(NoTracker):
    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    def event(self, event: Event, state: RunState) -> None:
        if event.event == "stage" and self.parts.fate == "interrupt_after":
            raise Interrupted("the history")


class World:
    def __init__(self, runs_dir: Path, clocks: Clocks) -> None:
        self.runs_dir, self.clocks = runs_dir, clocks
        self.configs: dict[Path, Config] = {}

    def add(self, recipe: str, name: str, config: Config) -> Path:
        directory = self.runs_dir / recipe / name
        self.configs[directory] = config
        return directory

    def fork(
        self, source: Path, generation: int, recipe: str, name: str, config: Config, *, fresh: bool
    ) -> Path:
        """A new run that starts from a generation of another one; it is not played yet.

        ``fresh``: its sealed items are others.
        """
        directory = self.runs_dir / recipe / name
        origin = fork.Origin.of(source, generation)
        config.forked_from = origin.begin(directory, 0 if fresh else origin.state.times_opened)
        config.genesis, config.base = "load", Store(directory).path(config.forked_from.weights)
        return self.add(recipe, name, config)

    def play(self, directory: Path, fates: Fates, **operational: Any) -> ExitCode | None:
        """A session: run, or go on. None: it was killed."""
        config = self.configs[directory]
        there = Parts(directory, config, self.clocks, fates, **operational)
        directory.mkdir(parents=True, exist_ok=True)
        lock.acquire(directory)
        Stop(directory).consume()
        ledger = Ledger(directory, has_start=config.forked_from is not None)
        try:
            state, store = RunState.replay(ledger), Store(directory)
            data = Data(human(), {})
            tools = StageTools(there, store, data, Stop(directory), Inline(lambda: None))
            runner = StageRunner(directory, tools, Watcher(there), state, ledger)
            if state.created is None:
                names = {"recipe": directory.parent.name, "name": directory.name}
                configured = {"seed": config.seed, "promotion": config.promotion}
                identity = {"config": configured, "forked_from": config.forked_from}
                identity["data"] = {"suite sealed": {"role": "sealed"}}
                identity["error_budget"] = {"alpha": 0.05, "looks": 1 + config.seed % 6}
                runner.record(event_of("run_created", format=1, **names, **identity))
            runner.record(event_of("session_started"))
            session._make_room(runner)
            tools.data = data.as_recorded(state, store)
            return loop.run_loop(runner)
        except (Killed, Interrupted):  # the loop's own interrupts are recorded; one at run_created is not
            return None
        finally:
            ledger.close()
            lock.release(directory)


def with_fate(stage: Callable[..., StageOutput]) -> Callable[..., StageOutput]:
    """A stage that takes its time, and may not come to its end."""

    @functools.wraps(stage)
    def done(ctx: Context, **inputs: Any) -> StageOutput:
        ctx.components.meet_fate(stage.__name__)
        return stage(ctx, **inputs)

    return done


@contextmanager
def staged() -> Iterator[Clocks]:
    """Put the fakes in the places of the loop's stages and of the clocks; nothing is synced."""
    clocks = Clocks()
    with pytest.MonkeyPatch.context() as patch:
        for stage in (
            seed,
            generate,
            grade,
            audit,
            tune,
            train,
            adopt,
            screen,
            evaluate,
            sealed,
            gate,
            guard,
            review,
        ):
            put(patch, with_fate(stage))
        patch.setattr(parquet, "read", functools.lru_cache(4096)(parquet.read))  # of bytes that were hashed
        patch.setattr("os.fsync", lambda descriptor: None)
        patch.setattr(Key, "seed_globals", lambda key: None)  # the fakes draw from keys alone
        patch.setattr("time.time", clocks.time)
        for name in ("time.monotonic", "time.process_time"):  # a fork's keys hang on its source's lines
            patch.setattr(name, clocks.monotonic)
        yield clocks
