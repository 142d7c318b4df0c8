"""What is counted: turns, patience, and every second that a stage took."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from flywheel.errors import AwaitingReview, ExitCode, Interrupted, StageFailed, StopRequested
from flywheel.lineage.status import read_state, summary_line
from flywheel.runtime import runner
from flywheel.storage import files
from flywheel.storage.events import Cost
from tests.support.fake_stages import on_strings, play
from tests.support.harness import events

COST = {"seconds": 2.0, "cpu_seconds": 1.0}


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch):
    with on_strings():
        yield


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stage takes two seconds."""
    monkeypatch.setattr(runner._Clock, "cost", lambda self, units=None: Cost(**COST))


def statuses(run: Path) -> list[str]:
    return [str(generation.status) for generation in read_state(run).generations]


def broken(*places: tuple[int, str]) -> dict[str, Any]:
    return {"leaves": {place: StageFailed(place[1], "on purpose") for place in places}}


@pytest.mark.parametrize("on_failure", ["stop", "go_on"])
def test_a_genesis_that_fails_ends_the_session_and_uses_up_no_turn(tmp_path: Path, on_failure: str) -> None:
    code = play(tmp_path, 1, on_failure=on_failure, **broken((0, "train")))
    assert code is ExitCode.FAILED
    assert events(tmp_path)[-1]["reason"] == "train: on purpose"
    assert "all generations are made" not in summary_line(tmp_path, read_state(tmp_path))
    assert play(tmp_path, 1, on_failure=on_failure) is ExitCode.FINISHED
    assert statuses(tmp_path)[0] == "failed"
    assert len(statuses(tmp_path)) == 3
    assert "all generations are made" in summary_line(tmp_path, read_state(tmp_path))


@pytest.mark.parametrize("on_failure", ["stop", "go_on"])
def test_a_genesis_that_fails_uses_up_no_patience(tmp_path: Path, on_failure: str) -> None:
    given = {"patience": 1, "on_failure": on_failure, "verdicts": {2: False}}
    for _ in range(2):
        assert play(tmp_path, 9, **given, **broken((0, "train"), (1, "train"))) is ExitCode.FAILED
    given["verdicts"] = {3: True, 4: False}
    assert play(tmp_path, 9, **given) is ExitCode.FINISHED
    assert statuses(tmp_path) == ["failed", "failed", "promoted", "promoted", "rejected"]


def test_no_generations_are_a_genesis_alone(tmp_path: Path) -> None:
    assert play(tmp_path, 0, on_failure="go_on", **broken((0, "train"))) is ExitCode.FAILED
    assert play(tmp_path, 0, on_failure="go_on") is ExitCode.FINISHED
    assert statuses(tmp_path) == ["failed", "promoted"]


LEFT = {
    "run_stopped": StopRequested("a test"),
    "run_interrupted": Interrupted("a test"),
    "run_awaiting_review": AwaitingReview(),
}


@pytest.mark.parametrize(("kind", "error"), LEFT.items(), ids=LEFT)
def test_the_time_of_a_stage_that_was_cut_off_is_recorded(
    tmp_path: Path, clock: None, kind: str, error: BaseException
) -> None:
    play(tmp_path, 2, leaves={(1, "train"): error})
    last = events(tmp_path)[-1]
    assert (last["event"], last["generation"], last["cost"]) == (kind, 1, COST)
    done = sum(2.0 for event in events(tmp_path) if event["event"] == "stage")
    assert read_state(tmp_path).seconds == done + 2.0
    assert read_state(tmp_path).generations[1].lost_seconds == 2.0


def test_a_job_that_is_stopped_again_and_again_reaches_its_budget(tmp_path: Path, clock: None) -> None:
    leaves = {(1, "train"): StopRequested("the cluster")}
    play(tmp_path, 1, leaves=leaves)
    limit = {"seconds": read_state(tmp_path).seconds + 4.0}
    codes = [play(tmp_path, 1, leaves=leaves, budget=limit) for _ in range(2)]
    assert read_state(tmp_path).seconds == limit["seconds"]
    assert codes == [ExitCode.STOPPED] * 2
    before = len(events(tmp_path))
    assert play(tmp_path, 1, budget=limit) is ExitCode.STOPPED
    assert [e["event"] for e in events(tmp_path)[before:]] == ["session_started", "run_stopped"]
    assert play(tmp_path, 1, budget={"seconds": 10_000.0}) is ExitCode.FINISHED


def test_a_budget_that_is_spent_without_a_champion_stops_the_run(tmp_path: Path, clock: None) -> None:
    play(tmp_path, 1, **broken((0, "train")))
    before = len(events(tmp_path))
    assert play(tmp_path, 1, budget={"seconds": 1.0}) is ExitCode.STOPPED
    assert [e["event"] for e in events(tmp_path)[before:]] == ["session_started", "run_stopped"]


def test_a_stop_between_stages_names_no_stage(tmp_path: Path) -> None:
    play(tmp_path, 1, stages=3)
    last = events(tmp_path)[-1]
    assert last["event"] == "run_interrupted"
    assert not {"generation", "cost"} & last.keys()


def test_a_sealed_look_that_fails_or_is_cut_off_counts(tmp_path: Path, clock: None) -> None:
    play(tmp_path, 0, **broken((0, "sealed")))
    before = [event for event in events(tmp_path) if event["event"] == "stage"]
    assert read_state(tmp_path).seconds == 2.0 * (len(before) + 1)
    play(tmp_path, 0, leaves={(0, "sealed"): StopRequested("a test")})
    assert read_state(tmp_path).seconds == 2.0 * (len(before) + 2)
    play(tmp_path, 0)
    assert read_state(tmp_path).seconds == 2.0 * (len(before) + 3)


def test_a_failed_stage_is_counted_once(tmp_path: Path, clock: None) -> None:
    play(tmp_path, 1, **broken((1, "train")))
    told = events(tmp_path)
    assert [event["event"] for event in told[-2:]] == ["generation_ended", "run_failed"]
    assert "cost" not in told[-1]
    assert read_state(tmp_path).seconds == sum(e["cost"]["seconds"] for e in told if "cost" in e)


@pytest.mark.parametrize("full", [1, 4, 7])
def test_a_stage_whose_line_is_durable_has_happened_though_head_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: None, full: int
) -> None:
    """The disk is full for one instant: where HEAD is to follow the line of some stage."""
    real, count = files.write_atomic, iter(range(1000))

    def write_atomic(path: Path, data: bytes) -> None:
        is_stage = path.name == "HEAD" and events(tmp_path)[-1]["event"] == "stage"
        if is_stage and next(count) == full:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, data)

    monkeypatch.setattr(files, "write_atomic", write_atomic)
    assert play(tmp_path, 1) is ExitCode.FINISHED
    assert next(count) > full
    told = events(tmp_path)
    assert "failed" not in statuses(tmp_path)
    stages = [(e["generation"], e["stage"]) for e in told if e["event"] == "stage"]
    assert len(set(stages)) == len(stages)
    assert read_state(tmp_path).seconds == 2.0 * len(stages)
