"""Whatever tables a task gives: one session and any cut into sessions make the same, or it is refused.

The real loop, ledger, store and stages seed, generate, grade, curate and evaluate; what would need a model
looks at its tables instead, to the last type and chunk, so that who saw something else made something else.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.errors import DataError, ExitCode
from flywheel.launch.identity import check_data, check_prompts
from flywheel.records import Role, Start, Suite
from flywheel.runtime.context import Context, StageOutput
from flywheel.runtime.data import read_data
from flywheel.runtime.runner import StageRunner
from flywheel.stages import table
from flywheel.storage.corpus import read_corpus
from flywheel.storage.events import TrainFacts
from flywheel.storage.sources import read_sources
from flywheel.storage.store import Store
from flywheel.tables import as_table
from tests.support import fake_stages
from tests.support.arrow_tables import tables
from tests.support.events import event_of
from tests.support.harness import artifacts, events

ROWS, ASKED, ITEMS = 3, 4, 2


def seen(table: pa.Table) -> int:
    """A number that follows from all that can be seen of a table."""
    chunks = [chunk for column in table.columns for chunk in column.chunks]
    texts = [str(table.schema), *(chunk.to_string(window=99, container_window=99) for chunk in chunks)]
    return int.from_bytes(hashlib.sha256("\n".join(texts).encode()).digest()[:4], "big")


class Task:
    """Gives the tables as they were drawn, each chunk and each session anew."""

    def __init__(self, human: pa.Table, made: pa.Table, asked: pa.Table, items: pa.Table, graded: pa.Table):
        self.human, self.made, self.asked, self.items, self.graded = human, made, asked, items, graded

    def seed(self) -> pa.Table:
        return self.human.append_column("prompt", pa.array([f"h{k}" for k in range(ROWS)]))

    def suites(self) -> list[Suite]:
        items = self.items.append_column("item", pa.array([f"i{k}" for k in range(ITEMS)]))
        return [Suite(role, role, items) for role in (Role.GATE, Role.SEALED)]

    def prompts(self, generation: int, carry: Any, key: Any) -> pa.Table:
        return self.asked.append_column("prompt", pa.array([f"p{k}" for k in range(ASKED)]))

    def generate(self, model: Any, prompts: pa.Table, settings: Any, keys: Any) -> Any:
        first = int(prompts["prompt"][0].as_py()[1:])
        answers = self.made.slice(first, len(prompts))
        return answers.append_column("prompt", prompts["prompt"]).append_column(
            "seen", pa.array([seen(prompts)] * len(prompts))
        )

    def evaluate(self, model: Any, opponent: Any, items: pa.Table, keys: Any) -> Any:
        return [seen(items) % 11 / 10] * len(items)

    def grade(self, samples: pa.Table, load_parent: Any, keys: Any) -> Any:
        grades = as_table(self.graded).slice(0, len(samples))
        renamed = grades.rename_columns([f"graded {k}" for k in range(grades.num_columns)])
        return renamed.append_column("score", pa.array([seen(samples) / 2**32] * len(samples)))


class Parts(fake_stages.FakeComponents):
    """The components of a run of a task."""

    def __init__(self, task: Task, *, broken: bool) -> None:
        super().__init__(generations=2, chunk_size=2)
        self.task, self.broken = task, broken

    def build(self, section: str, settings: Any) -> Any:
        return self.task if section == "grader" else self

    def curate(self, samples: pa.Table, carry: Any, key: Any) -> Any:
        number, rows = seen(samples), len(samples)
        keep = pa.array([k == 0 or bool(number >> k & 1) for k in range(rows)])
        columns = {"id": samples["id"], "keep": keep, "reason": [str(number)] * rows}
        return columns | {"weight": [1 + number % 7] * rows, "count": [1] * rows}, {"last": number}

    def leave(self, ctx: Context, stage: str) -> None:
        if self.broken and stage == "train" and ctx.generation == 0:
            raise RuntimeError("a bug that is mended before the next session")

    def verdict(self, ctx: Context) -> bool:
        return bool(ctx.key("gate").seed % 3)


def train(ctx: Context, *, corpus: str, sources: str, start: Start, **_: Any) -> StageOutput:
    ctx.components.leave(ctx, "train")
    rows = read_corpus(ctx.store, corpus, read_sources(ctx.store, sources))
    facts = TrainFacts(start=start, settings=dict(ctx.settings), steps=1, loss=0.0)
    return StageOutput({"weights": pa.table({"seen": [seen(rows)]})}, facts)


@contextmanager
def without_models() -> Iterator[None]:
    kept = [table.generate, table.grade, table.evaluate, table.sealed]
    with fake_stages.on_strings() as patch:
        for stage in kept:
            patch.setattr(table, stage.name, stage)
        fake_stages.put(patch, train)
        patch.setattr(Context, "load_model", lambda *_: None)
        patch.setattr("flywheel.stages.grade.fingerprint", lambda *_: "0" * 64)
        yield


def session(directory: Path, task: Task, *, stages: int | None = None, broken: bool = False) -> ExitCode:
    """A session of at most so many stages."""
    data, parts = read_data(task, needs_seed=True), Parts(task, broken=broken)

    def begin(run: StageRunner) -> None:
        if run.state.created is None:
            run.record(event_of("run_created", name="run", config={"seed": 0}, data=data.identity))
        else:
            run.tools.data = check_data(directory, run.state, run.store, data)
            check_prompts(directory, run.state, run.store, parts)

    return fake_stages.session(directory, parts, data, begin, stages=stages)


@st.composite
def tasks(draw: Any) -> Task:
    """A task; what it generates has the columns of the seed samples, or others, or both."""
    human = draw(tables(ROWS, 2))
    same = draw(st.booleans())
    made = draw(tables(ASKED, 2))
    if same:  # rows of the seed samples' types
        made = pa.concat_tables([human, human]).slice(draw(st.integers(0, 2)), ASKED)
    return Task(human, made, draw(tables(ASKED, 2)), draw(tables(ITEMS, 2)), draw(tables(ASKED, 1)))


CUTS = st.lists(st.integers(1, 6), max_size=6)


def check_cuts(task: Task, cuts: list[int], *, fails: bool) -> None:
    with tempfile.TemporaryDirectory() as folder, without_models():
        whole, parts = Path(folder, "whole"), Path(folder, "parts")
        try:
            if fails:
                assert session(whole, task, broken=True) is ExitCode.FAILED
            code = session(whole, task)
        except DataError:
            assert not whole.exists()  # refused before anything was begun
            return
        if fails:
            session(parts, task, broken=True)
        for stages in cuts:
            if session(parts, task, stages=stages) is not ExitCode.INTERRUPTED:
                break
        else:
            assert session(parts, task) is code
        assert artifacts(parts) == artifacts(whole)
        check_human_rows(whole)


def check_human_rows(run: Path) -> None:
    """All decisions are on each sample once, and all seeds are the same."""
    store, made = Store(run), [event for event in events(run) if event["event"] == "stage"]
    seeds = [event["outputs"] for event in made if event["stage"] == "seed"]
    assert all(outputs == seeds[0] for outputs in seeds)
    for event in made:
        if event["stage"] == "curate":
            ids = store.table(event["outputs"]["decisions"])["id"]
            assert pc.count_distinct(ids).as_py() == len(ids)


@given(tasks(), CUTS, st.booleans())
@settings(max_examples=30, suppress_health_check=list(HealthCheck))
def test_any_cut_into_sessions_makes_what_one_session_makes(task: Task, cuts: list[int], fails: bool) -> None:
    check_cuts(task, cuts, fails=fails)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@given(tasks(), CUTS, st.booleans())
@settings(max_examples=2000, suppress_health_check=list(HealthCheck))
def test_any_cut_of_many_tasks(task: Task, cuts: list[int], fails: bool) -> None:
    check_cuts(task, cuts, fails=fails)
