"""The report that a run draws by itself: when, how much of its time that takes, and what goes wrong."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from flywheel.records import Progress
from flywheel.storage import lock
from flywheel.storage.state import RunState
from flywheel.trackers import redraw as drawing
from flywheel.trackers.redraw import SWITCH, DrawingFailed, Redraw, drawn_report, redraw

pytest.importorskip("altair")
PROGRESS = Progress(1, "train", 1, 2)
STATE = RunState()


class Happened:
    """An event, of which only the kind counts."""

    def __init__(self, event: str) -> None:
        self.event = event


TURN, END = Happened("generation_ended"), Happened("run_finished")


@pytest.fixture
def session(run_copy: Path) -> Any:
    """A session that began so many seconds ago, and its run's directory."""

    def begin(ago: float = 0.0, *, during: bool = True) -> tuple[Redraw, Path]:
        tracker = Redraw(during=during)
        tracker.open(run_copy)
        tracker._began -= ago
        return tracker, run_copy / "report.html"

    return begin


def finish(tracker: Redraw) -> None:
    """Wait for the drawing that is on, as a run does by its progress."""
    while tracker._drawing is not None:
        time.sleep(0.05)
        tracker.progress(PROGRESS)


def test_a_report_is_drawn_at_the_end_and_is_named_while_it_is_current(session: Any) -> None:
    tracker, report = session()
    tracker.event(TURN, STATE)  # too early in a run to spend a second on it
    assert tracker._drawing is None
    lock.acquire(report.parent)  # as a run has it until its trackers are closed
    try:
        tracker.event(END, STATE)
        tracker.close()
    finally:
        lock.release(report.parent)
    assert re.findall(r"Where does it stand\?</p>\s*<p[^>]*>(\w+)", report.read_text()) == ["Finished"]
    assert drawn_report(report.parent) == report
    os.utime(report, ns=(0, 0))
    assert drawn_report(report.parent) is None


def test_while_a_run_goes_on_one_drawing_at_a_time_takes_no_more_than_its_share(session: Any) -> None:
    tracker, report = session(ago=400.0)
    tracker.event(TURN, STATE)
    first = tracker._drawing
    assert first is not None
    assert os.getpriority(os.PRIO_PROCESS, first.process.pid) > os.getpriority(os.PRIO_PROCESS, 0)
    tracker.event(TURN, STATE)
    assert tracker._drawing is first, "never two at once"
    finish(tracker)
    assert report.is_file()
    assert 0 < tracker._spent == tracker._expected
    tracker._spent = 4.0  # of 400 s that is 1%
    tracker.event(TURN, STATE)
    assert tracker._drawing is None
    tracker._began -= 100 * tracker._expected
    tracker.event(TURN, STATE)
    last = tracker._drawing
    assert last is not None
    tracker.event(END, STATE)
    assert last.process.returncode == -signal.SIGKILL, "it drew what was before the end"
    tracker.close()


def test_only_at_the_end_or_not_at_all(session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker, _report = session(ago=1e6, during=False)
    tracker.event(TURN, STATE)
    assert tracker._drawing is None
    monkeypatch.delenv(SWITCH)
    assert [redraw(mode) is None for mode in ("auto", "final", "none")] == [False, False, True]
    monkeypatch.setenv(SWITCH, "none")
    assert redraw("auto") is None


def test_a_drawing_that_fails_is_said_at_the_end_with_its_reason_and_the_remedy(session: Any) -> None:
    tracker, report = session(ago=1000.0)
    (report.parent / "ledger.jsonl").write_text("nonsense\n")
    tracker.event(TURN, STATE)
    finish(tracker)
    tracker.event(TURN, STATE)
    assert tracker._drawing is None, "it would fail again"
    tracker.event(END, STATE)
    with pytest.raises(
        DrawingFailed, match=r"ledger.*`python -m flywheel report RUN` draws it, and report=n"
    ):
        tracker.close()
    assert not report.exists()


def test_a_drawing_that_hangs_is_ended(session: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(drawing, "MOST_SECONDS", 0.1)
    monkeypatch.setattr(drawing, "END_SECONDS", 0.1)
    tracker, _report = session(ago=1000.0)
    tracker.event(TURN, STATE)
    during = tracker._drawing
    finish(tracker)
    tracker.event(END, STATE)
    last = tracker._drawing
    with pytest.raises(DrawingFailed, match=r"not drawn within 0\.1 s of the run's end"):
        tracker.close()
    assert during.process.returncode == last.process.returncode == -signal.SIGKILL


def test_a_session_that_ends_without_an_end_waits_for_nothing(session: Any) -> None:
    tracker, report = session(ago=1000.0)
    tracker.event(TURN, STATE)
    process = tracker._drawing.process
    tracker.close()
    assert process.returncode == -signal.SIGKILL
    assert not report.exists()
