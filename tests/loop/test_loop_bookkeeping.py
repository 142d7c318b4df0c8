"""A turn's bookkeeping: the same work however many turns came before; every second is counted, once."""

from __future__ import annotations

import errno
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from flywheel import loop
from flywheel.errors import AwaitingReview, ExitCode, Interrupted, StageFailed, StopRequested
from flywheel.lineage.status import read_state
from flywheel.runtime.meter import Meter
from flywheel.storage import files
from flywheel.storage.events import Cost, Event, StageDone
from flywheel.storage.ledger import Ledger
from flywheel.storage.store import Store
from tests.support.fake_stages import FakeComponents, on_strings, play
from tests.support.harness import events

COST = {"seconds": 2.0, "cpu_seconds": 1.0}
WATCHED = {"loop.py", "runner.py", "state.py", "retention.py", "slim.py", "sources.py", "stages.py"}
ROUND, ROUNDS = 4, 5


@pytest.fixture(autouse=True)
def fakes():
    with on_strings() as patch:
        yield patch


class Newest:
    """Keeps people's rows and the newest, so that what a corpus draws on does not grow by itself."""

    def curate(self, samples: pa.Table, carry: Any, key: Any) -> Any:
        made_in = samples["made_in"].to_numpy()
        keep = np.equal(samples["origin"].to_numpy(), "human") | (made_in == made_in.max())
        columns = {"id": samples["id"], "keep": keep, "reason": ["newest"] * len(keep)}
        return columns | {"weight": np.ones(len(keep)), "count": keep.astype(int)}, {}


class Work:
    """Counts lines that are run in the files above, and objects that are opened, by turn."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.lines, self.opened, self.turn = Counter[int](), Counter[int](), 0
        turn, opened = loop.turn, Store.open

        def counted(run: Any, generation: Any) -> None:
            self.turn = generation.number
            turn(run, generation)

        def opening(store: Store, name: str) -> Any:
            self.opened[self.turn] += 1
            return opened(store, name)

        patch.setattr(loop, "turn", counted)
        patch.setattr(Store, "open", opening)

    def trace(self, frame: Any, event: str, arg: Any) -> Any:
        if Path(frame.f_code.co_filename).name not in WATCHED:
            return None
        self.lines[self.turn] += event == "line"
        return self.trace


def of_round(counts: Counter[int], number: int) -> int:
    return sum(counts[turn] for turn in range(number * ROUND, (number + 1) * ROUND))


@pytest.mark.parametrize(
    "retention", [{"promoted": True, "last": 3}, {"promoted": False, "last": 1}], ids=str
)
def test_a_late_turn_is_as_much_work_as_an_early_one(tmp_path, fakes, retention):
    fakes.setattr(FakeComponents, "verdict", lambda self, ctx: ctx.generation % ROUND == 0)
    work, before = Work(fakes), sys.gettrace()
    limits = {"retention": retention, "patience": 9, "budget": {"seconds": 10**6}}
    sys.settrace(work.trace)
    try:
        play(tmp_path / "run", ROUND * ROUNDS, curator=Newest(), **limits)
    finally:
        sys.settrace(before)
    assert of_round(work.lines, 3) == of_round(work.lines, 4)
    assert of_round(work.opened, 3) == of_round(work.opened, 4)


def in_stages(run: Path, *, more: int = 0) -> bool:
    """Whether the run took the time of the stages that are done, and of so many more."""
    return read_state(run).seconds == 2.0 * (len(events(run, event="stage")) + more)


@pytest.fixture
def clock(fakes):
    """Each stage takes two seconds."""
    fakes.setattr(Meter, "cost", lambda self, units=None: Cost(**COST))


LEFT = {
    "run_stopped": StopRequested("a test"),
    "run_interrupted": Interrupted("a test"),
    "run_awaiting_review": AwaitingReview(),
}


@pytest.mark.parametrize("kind", LEFT)
def test_the_time_of_a_stage_that_was_cut_off_is_recorded(tmp_path, clock, kind):
    play(tmp_path, 2, leaves={(1, "train"): LEFT[kind]})
    last = events(tmp_path)[-1]
    assert (last["event"], last["generation"], last["cost"]) == (kind, 1, COST)
    assert in_stages(tmp_path, more=1)
    assert read_state(tmp_path).generations[1].lost_seconds == 2.0


def test_a_stage_whose_line_is_durable_is_not_said_to_be_cut_off(tmp_path, fakes, clock):
    """Ctrl-C comes between its line in the ledger and what the loop knows of it."""
    real = Ledger.append

    def append(ledger: Ledger, event: Event) -> Event:
        written = real(ledger, event)
        if isinstance(event, StageDone) and event.stage == "train" and event.generation == 1:
            raise Interrupted("a test")
        return written

    fakes.setattr(Ledger, "append", append)
    play(tmp_path, 2)
    last = events(tmp_path)[-1]
    assert last["event"] == "run_interrupted"
    assert not {"generation", "cost"} & last.keys()


def test_a_stop_between_stages_names_no_stage(tmp_path):
    play(tmp_path, 1, stages=3)
    last = events(tmp_path)[-1]
    assert last["event"] == "run_interrupted"
    assert not {"generation", "cost"} & last.keys()


def test_a_sealed_look_that_fails_or_is_cut_off_counts(tmp_path, clock):
    for left, lost in ((StageFailed("sealed", "on purpose"), 1), (StopRequested("a test"), 2)):
        play(tmp_path, 0, leaves={(0, "sealed"): left})
        assert in_stages(tmp_path, more=lost)
    play(tmp_path, 0)
    assert in_stages(tmp_path, more=2)


def test_a_failed_stage_is_counted_once(tmp_path, clock):
    play(tmp_path, 1, leaves={(1, "train"): StageFailed("train", "on purpose")})
    ended, failed = events(tmp_path)[-2:]
    assert (ended["event"], ended["cost"], failed["event"]) == ("generation_ended", COST, "run_failed")
    assert "cost" not in failed
    assert in_stages(tmp_path, more=1)
    assert read_state(tmp_path).generations[1].lost_seconds == 2.0


def test_failed_stages_use_the_budget_up(tmp_path, clock):
    play(tmp_path, 0)
    turn = ("generate", "grade", "tune", "curate", "train")
    budget = {"seconds": read_state(tmp_path).seconds + 2.0 * len(turn)}
    leaves = {(number, "train"): StageFailed("train", "on purpose") for number in (1, 2, 3)}
    assert play(tmp_path, 3, leaves=leaves, on_failure="go_on", budget=budget) is ExitCode.STOPPED
    statuses = [str(generation.status) for generation in read_state(tmp_path).generations]
    assert statuses == ["promoted", "failed"]
    assert "budget" in events(tmp_path)[-1]["reason"]


@pytest.mark.parametrize("full", [1, 4, 7])
def test_a_stage_whose_line_is_durable_has_happened_though_head_fails(tmp_path, fakes, clock, full):
    """The disk is full for one instant: where HEAD is to follow the line of some stage."""
    real, count = files.write_atomic, iter(range(1000))

    def write_atomic(path: Path, data: bytes) -> None:
        is_stage = path.name == "HEAD" and events(tmp_path)[-1]["event"] == "stage"
        if is_stage and next(count) == full:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, data)

    fakes.setattr(files, "write_atomic", write_atomic)
    assert play(tmp_path, 1) is ExitCode.FINISHED
    assert next(count) > full
    assert not events(tmp_path, status="failed")
    assert in_stages(tmp_path)
