"""A run that was stopped, interrupted or cut short ends as one that was not."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import flywheel
from flywheel.errors import ExitCode
from tests.support.harness import artifacts, champion_hash, events, kinds
from tests.support.loop_runs import run_probe, signal_at, statuses, unsealed


def assert_same_ending(run: flywheel.Run, uninterrupted: flywheel.Run) -> None:
    assert run.exit_code is ExitCode.FINISHED
    assert artifacts(run.path) == artifacts(uninterrupted.path)
    assert champion_hash(run.path) == champion_hash(uninterrupted.path) != ""
    assert run.verify().first_bad is None


def test_stopped_after_every_single_stage(probe, uninterrupted):
    run, sessions = probe(**signal_at(), generations=1), 1
    while run.exit_code is ExitCode.STOPPED:
        assert run.status().state == "stopped"
        run, sessions = probe(**signal_at(), generations=1), sessions + 1
        assert sessions < 40
    stages = [event for event in events(run.path) if event["event"] == "stage"]
    assert sessions >= len(stages) - 1  # nothing asks for a stop after the last
    assert run.exit_code is ExitCode.FINISHED
    assert unsealed(run.path) == [made for made in unsealed(uninterrupted.path) if made[0] < 2]
    assert run.verify().first_bad is None


@pytest.mark.parametrize(
    ("stage", "number", "times", "code"),
    [
        ("generate", signal.SIGINT, 1, ExitCode.STOPPED),
        ("train", signal.SIGINT, 1, ExitCode.STOPPED),
        ("train", signal.SIGINT, 2, ExitCode.INTERRUPTED),
        ("train", signal.SIGTERM, 1, ExitCode.STOPPED),
        ("evaluate", signal.SIGINT, 1, ExitCode.STOPPED),
    ],
)
def test_a_signal_within_a_stage(probe, uninterrupted, stage, number, times, code):
    run = probe(**signal_at(stage=stage, generation=1, within=True, number=int(number), times=times))
    assert run.exit_code is code
    assert events(run.path)[-1]["reason"] == ("SIGTERM" if number == signal.SIGTERM else "Ctrl-C")
    if stage == "train":
        assert kinds(run.path)[-2] == "curate", "a fit that was stopped records nothing"
    assert_same_ending(probe(), uninterrupted)


def test_sigterm_between_our_step_and_lightnings_stops_too(probe, uninterrupted, fault):
    """Lightning looks for SIGTERM itself, after the last hook of a batch."""
    fault("train:sigterm")
    run = probe()
    assert (run.exit_code, run.status().state) == (ExitCode.STOPPED, "stopped")
    fault("")
    assert_same_ending(probe(), uninterrupted)


@pytest.mark.parametrize("stage", ["generation_started", "curate", "train", "generation_ended"])
def test_interrupted_loses_nothing_recorded(probe, uninterrupted, stage):
    run = probe(**signal_at(stage=stage, generation=1, times=2))
    assert (run.exit_code, run.status().state) == (ExitCode.INTERRUPTED, "interrupted")
    assert kinds(run.path)[-2:] == [stage, "run_interrupted"]
    assert run.verify().first_bad is None
    assert_same_ending(probe(), uninterrupted)


@pytest.mark.parametrize("moment", ["line", "HEAD"])
def test_interrupted_while_the_ledger_is_written(probe, uninterrupted, monkeypatch, moment):
    """Ctrl-C twice lands in the fsync of a ledger line, or in that of HEAD: the slowest calls there are."""
    fsync, calls = os.fsync, []

    def fsync_and_signal(descriptor: int) -> None:
        name = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
        fsync(descriptor)
        if name == "ledger.jsonl" if moment == "line" else name.startswith(".HEAD"):
            calls.append(name)
            if len(calls) == 9:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync_and_signal)
        run = probe()
    # both may be told as one: signals that wait for a write to end are not counted
    assert run.exit_code in (ExitCode.INTERRUPTED, ExitCode.STOPPED)
    assert "cost" not in events(run.path)[-1], "the stage that is recorded has it"
    assert run.verify().first_bad is None
    assert_same_ending(probe(), uninterrupted)


def test_a_run_may_go_on_and_be_moved_and_ends_as_one_of_one_session(probe, uninterrupted, folder):
    first = probe(generations=0)
    assert first.status().state == "finished"
    (first.path / "stop").touch()  # left over: it does not stop the next session
    second = probe(generations=1)
    assert (second.exit_code, statuses(second)) == (ExitCode.FINISHED, ["promoted", "promoted"])
    assert not (second.path / "stop").exists()
    moved = folder / "elsewhere"
    (folder / "runs").rename(moved)
    run = run_probe(moved)
    assert unsealed(run.path) == unsealed(uninterrupted.path)
    assert champion_hash(run.path) == champion_hash(uninterrupted.path)
    assert run.champion().load() is not None
    assert run.verify().first_bad is None
    before = [(run.path / name).read_bytes() for name in ("ledger.jsonl", "HEAD")]
    codes = [run_probe(moved, generations=generations).exit_code for generations in (2, 1)]
    assert codes == [ExitCode.FINISHED] * 2
    assert [(run.path / name).read_bytes() for name in ("ledger.jsonl", "HEAD")] == before


def test_runs_of_the_same_seed_are_equal_and_of_another_differ(uninterrupted, folder):
    twin = run_probe(folder / "twin")
    other = run_probe(folder / "other", seed=1)
    assert champion_hash(twin.path) == champion_hash(uninterrupted.path) != champion_hash(other.path)
