"""Trackers follow a run, several at once, and none of them harms it."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flywheel.records import Progress, Step
from flywheel.storage.events import RunEnded
from flywheel.storage.state import RunState
from flywheel.trackers import NoTracker, TrackerGroup, queued
from tests.support.harness import wait_until
from tests.support.loop_runs import run_moons

EVENT = RunEnded(event="run_stopped")
STEP = Step(1, "train", 50, 150)


class Broken(NoTracker):
    closed = 0

    def event(self, event: Any, state: Any) -> None:
        raise RuntimeError("no network")

    def close(self) -> None:
        self.closed += 1


class Counting(NoTracker):
    """Counts calls; waits in the first for leave to go on."""

    def __init__(self, leave: threading.Event | None = None) -> None:
        self.calls: list[str] = []
        self.threads: set[threading.Thread] = set()
        self._leave = leave

    def _count(self, name: str) -> None:
        self.calls.append(name)
        self.threads.add(threading.current_thread())
        if self._leave is not None:
            self._leave.wait()

    def open(self, directory: Path) -> None:
        self._count("open")

    def event(self, event: Any, state: Any) -> None:
        self._count("event")

    def progress(self, progress: Progress) -> None:
        self._count("progress")

    def metrics(self, step: Step, values: Any) -> None:
        self._count("metrics")

    def close(self) -> None:
        self._count("close")


class Synchronous(Counting):
    synchronous = True


def follow(group: TrackerGroup, events: int = 3) -> None:
    group.open(Path())
    for _ in range(events):
        group.event(EVENT, RunState())
        group.progress(Progress(1, "train", 1, 2))
        group.metrics(STEP, {"loss": 1.0})
    group.close()


@pytest.mark.parametrize("synchronous", [True, False])
def test_a_tracker_that_raises_is_removed_and_reported_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, synchronous: bool
) -> None:
    monkeypatch.setattr(Broken, "synchronous", synchronous, raising=False)
    counting, broken = Counting(), Broken()
    follow(TrackerGroup({"tracker.broken": broken, "tracker.counting": counting}))
    assert broken.closed == 1
    assert counting.calls == ["open", *["event", "progress", "metrics"] * 3, "close"]
    said = "tracker.broken failed and was removed; the run goes on without it. RuntimeError: no network"
    assert capsys.readouterr().err.count(said) == 1


def test_a_synchronous_tracker_is_called_by_the_run_and_others_are_not() -> None:
    one, other = Synchronous(), Counting()
    follow(TrackerGroup({"one": one, "other": other}))
    assert one.threads == {threading.current_thread()}
    assert len(other.threads) == 1
    assert other.threads != one.threads
    assert one.calls == other.calls


def test_while_a_tracker_is_slow_progress_and_metrics_are_dropped_and_counted_and_events_are_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queued, "SIZE", 8)
    leave = threading.Event()
    slow, quick = Counting(leave), Synchronous()
    group = TrackerGroup({"slow": slow, "quick": quick})
    group.open(Path())
    for _ in range(20):
        group.progress(Progress(1, "train", 1, 2))
    for _ in range(2):
        group.metrics(STEP, {"loss": 1.0})
    leave.set()
    for _ in range(20):
        group.event(EVENT, RunState())
    group.close()
    assert slow.calls.count("event") == 20
    taken = slow.calls.count("progress")
    assert 3 <= taken <= 5, "half of the queue is left to events"
    assert quick.calls.count("progress") == 20
    said = f"slow missed 2 metrics, {20 - taken} progress reports. The ledger has every event.\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("size", [2, 100], ids=["at an event", "at the end"])
def test_trackers_that_hang_are_left_behind_and_waited_for_together(
    size: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("SIZE", size), ("WAIT_SECONDS", 0.2), ("CLOSE_SECONDS", 0.2)):
        monkeypatch.setattr(queued, name, value)
    leave, began = threading.Event(), time.monotonic()
    hanging, quick = {str(k): Counting(leave) for k in range(20)}, Synchronous()
    follow(TrackerGroup({**hanging, "quick": quick}))
    seconds = time.monotonic() - began
    leave.set()
    assert seconds < 2, "20 of them, and 0.2 s to wait and 0.2 s to close"
    assert quick.calls == ["open", *["event", "progress", "metrics"] * 3, "close"]
    said = capsys.readouterr().err
    assert said.count(" failed and was removed") == said.count("The ledger has every event") == 20
    assert all(tracker.calls[1:] == [] for tracker in hanging.values())


def test_a_tracker_that_raises_is_still_closed() -> None:
    class Raises(Counting):
        def event(self, event: Any, state: Any) -> None:
            raise KeyboardInterrupt

    tracker = Raises()
    follow(TrackerGroup({"raises": tracker}))
    wait_until(lambda: tracker.calls[-1:] == ["close"], "call of close")


@pytest.fixture
def _takes_ctrl_c() -> Iterator[None]:
    """As a command in the foreground does; one that a script starts beside it ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_takes_ctrl_c")
def test_ctrl_c_ends_the_wait_for_trackers(capsys: pytest.CaptureFixture[str]) -> None:
    hanging = {name: Counting(threading.Event()) for name in "ab"}
    group, began = TrackerGroup(hanging), time.monotonic()
    group.open(Path())
    threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT]).start()
    group.close()
    assert time.monotonic() - began < queued.CLOSE_SECONDS / 2
    assert "it had not closed when Ctrl-C was pressed" in capsys.readouterr().err


def test_trackers_that_were_never_opened_are_not_closed(capsys: pytest.CaptureFixture[str]) -> None:
    tracker = Counting()
    TrackerGroup({"one": tracker}).close()
    assert tracker.calls == []
    assert capsys.readouterr().err == ""


class Follows(NoTracker):
    """Notes what it is told, and of which state: by name, as each run builds its own."""

    seen: dict[str, list[Any]] = {}  # noqa: RUF012 - shared on purpose

    def __init__(self, name: str) -> None:
        self.name = name

    def event(self, event: Any, state: RunState) -> None:
        about = [event.seq, len(state.generations), state.champion and state.champion.number]
        self.seen.setdefault(self.name, []).append(about)

    def metrics(self, step: Step, values: Any) -> None:
        self.seen.setdefault(f"{self.name} metrics", []).append((step, sorted(values)))


class AtOnce(Follows):
    synchronous = True


LOGS = {"model._target_": "tests.support.probe_parts.Logs", "trainer.log_every_n_steps": 10}


def test_several_see_each_event_with_the_state_of_then_and_what_fits_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Follows, "seen", {})
    both = {
        f"+tracker.{name}": {"_target_": f"{__name__}.{kind}", "name": name}
        for name, kind in (("one", "Follows"), ("two", "AtOnce"))
    }
    run = run_moons(tmp_path / "one", generations=1, **LOGS, **both)
    seen = Follows.seen
    assert seen["one"] == seen["two"]
    assert [seq for seq, *_ in seen["one"]] == list(range(1 + seen["one"][-1][0]))
    assert seen["one"][-1][1:] == [2, run.champion().number]
    assert seen["one metrics"] == seen["two metrics"]
    steps = [step for step, names in seen["one metrics"] if names == ["half_loss"]]
    total = [g["cost"]["steps"] for g in run.status().json()["generations"]]
    every_tenth = [(g, s, total[0] * g + s) for g in (0, 1) for s in range(10, total[g] + 1, 10)]
    assert steps == [Step(g, "train", step, whole) for g, step, whole in every_tenth]
    alone = run_moons(tmp_path / "two", generations=1, **LOGS)
    assert alone.champion().weights == run.champion().weights, "following changes nothing"
