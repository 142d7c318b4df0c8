"""A run that was stopped, interrupted or cut short ends as one that was not."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

import flywheel
from flywheel.errors import ExitCode
from tests.support.harness import artifacts, champion_hash, events, kinds
from tests.support.loop_runs import run_probe


def signal_at(**arguments: Any) -> dict[str, Any]:
    arguments["_target_"] = "tests.support.probe_parts.SignalAt"
    return {f"+tracker.{key}": value for key, value in arguments.items()}


def assert_same_ending(run: flywheel.Run, uninterrupted: flywheel.Run) -> None:
    assert run.exit_code is ExitCode.FINISHED
    assert artifacts(run.path) == artifacts(uninterrupted.path)
    assert champion_hash(run.path) == champion_hash(uninterrupted.path) != ""
    assert run.verify().first_bad is None


def test_stopped_after_every_single_stage(probe, uninterrupted):
    run, sessions = probe(**signal_at()), 1
    while run.exit_code is ExitCode.STOPPED:
        assert run.status().json()["state"] == "stopped"
        run, sessions = probe(**signal_at()), sessions + 1
        assert sessions < 40
    stages = [event for event in events(run.path) if event["event"] == "stage"]
    assert sessions >= len(stages) - 1  # nothing asks for a stop after the last
    assert_same_ending(run, uninterrupted)


@pytest.mark.parametrize("stage", ["generate", "train", "evaluate"])
def test_stopped_within_a_stage(probe, uninterrupted, stage):
    run = probe(**signal_at(stage=stage, generation=1, within=True))
    assert run.exit_code is ExitCode.STOPPED
    last = [event for event in events(run.path) if event["event"] == "stage"][-1]
    assert ((last["generation"], last["stage"]) < (2, "") and last["generation"] == 1) or stage == "generate"
    if stage == "train":
        assert last["stage"] == "tune", "a fit that was stopped records nothing"
    assert_same_ending(probe(), uninterrupted)


def test_sigterm_stops_like_ctrl_c(probe, uninterrupted):
    number = int(signal.SIGTERM)
    run = probe(**signal_at(stage="train", generation=1, within=True, number=number))
    assert run.exit_code is ExitCode.STOPPED
    assert events(run.path)[-1]["reason"] == "SIGTERM"
    assert_same_ending(probe(), uninterrupted)


def test_sigterm_between_our_step_and_lightnings_stops_too(probe, uninterrupted, fault):
    """Lightning looks for SIGTERM itself, after the last hook of a batch."""
    fault("train:sigterm")
    run = probe()
    assert run.exit_code is ExitCode.STOPPED
    assert run.status().json()["state"] == "stopped"
    fault("")
    assert_same_ending(probe(), uninterrupted)


@pytest.mark.parametrize("stage", ["generation_started", "curate", "train", "generation_ended"])
def test_interrupted_loses_nothing_recorded(probe, uninterrupted, stage):
    run = probe(**signal_at(stage=stage, generation=1, times=2))
    assert run.exit_code is ExitCode.INTERRUPTED
    assert run.status().json()["state"] == "interrupted"
    assert kinds(run.path)[-2:] == [stage, "run_interrupted"]
    assert run.verify().first_bad is None
    assert_same_ending(probe(), uninterrupted)


def test_interrupted_within_a_fit(probe, uninterrupted):
    run = probe(**signal_at(stage="train", generation=1, within=True, times=2))
    assert run.exit_code is ExitCode.INTERRUPTED
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
    assert run.verify().first_bad is None
    assert_same_ending(probe(), uninterrupted)


def test_more_generations_later_equal_as_many_at_once(probe, uninterrupted):
    first = probe(generations=0)
    assert first.status().json()["state"] == "finished"
    second = probe(generations=1)
    assert [g["generation"] for g in second.status().json()["generations"]] == [0, 1]
    third = probe(generations=2)
    made = [entry for entry in artifacts(third.path) if entry[1] != "sealed"]
    assert made == [entry for entry in artifacts(uninterrupted.path) if entry[1] != "sealed"]
    assert champion_hash(third.path) == champion_hash(uninterrupted.path)


def test_finished_run_appends_nothing(probe):
    run = probe(generations=1)
    before = (run.path / "ledger.jsonl").read_bytes(), (run.path / "HEAD").read_bytes()
    again = probe(generations=1)
    fewer = probe(generations=0)
    assert again.exit_code is fewer.exit_code is ExitCode.FINISHED
    assert ((run.path / "ledger.jsonl").read_bytes(), (run.path / "HEAD").read_bytes()) == before


def test_stop_file_left_over_does_not_stop_the_next_session(probe):
    run = probe(generations=0)
    (run.path / "stop").touch()
    assert probe(generations=1).exit_code is ExitCode.FINISHED
    assert not (run.path / "stop").exists()


def test_runs_of_the_same_seed_are_equal_and_of_another_differ(uninterrupted, folder):
    twin = run_probe(folder / "twin")
    other = run_probe(folder / "other", seed=1)
    assert champion_hash(twin.path) == champion_hash(uninterrupted.path) != champion_hash(other.path)


def test_a_run_can_be_moved(probe, folder):
    first = probe(generations=0)
    moved = folder / "elsewhere" / "probe"
    moved.mkdir(parents=True)
    first.path.rename(moved / "run")
    run = probe(generations=1, runs_dir=str(folder / "elsewhere"))
    assert run.exit_code is ExitCode.FINISHED
    assert len(run.generations()) == 2
    assert run.champion().load() is not None
