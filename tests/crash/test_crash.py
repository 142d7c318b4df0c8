"""SIGKILL at random instants; the same command after each; the champion of a run that was left alone."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

import flywheel
from tests.support.harness import (
    MOONS,
    artifacts,
    champion_hash,
    events,
    has_run,
    only_run,
    shared_fork_server,
    wait_until,
)
from tests.support.loop_runs import TURN, signal_at

WORDS = (*MOONS, "log=quiet", "name=run", "generations=2")


def stage_under_way(folder: Path) -> str:
    """What the run was doing when it ended: the last thing that is recorded, and its generation."""
    if not has_run(folder):
        return "start"
    last = events(only_run(folder))[-1:]
    return f"{last[0].get('generation')}/{last[0].get('stage', last[0]['event'])}" if last else "start"


def reference(folder: Path) -> tuple[Path, float]:
    """A run that is left alone, and how many seconds it takes."""
    folder.mkdir()
    fork_server = shared_fork_server()
    began = time.monotonic()
    done = fork_server.run(WORDS, folder)
    assert done.code == 0, done.err
    return only_run(folder), time.monotonic() - began


def kill_at(folder: Path, delay: float) -> bool:
    """Start or resume the run and kill it after so many seconds; False if it ended before."""
    child = shared_fork_server().start(WORDS, folder)
    time.sleep(delay)
    child.signal(signal.SIGKILL)
    done = child.wait()
    assert done.code in (0, -signal.SIGKILL), done.err
    return done.code != 0


def check_kills(tmp_path: Path, kills: int, stages: int) -> None:
    """Kill so many times, anew whenever a run got to its end, and compare each run with the reference."""
    calm, seconds = reference(tmp_path / "calm")
    instants, seen, done, attempt, longer, before = random.Random(2026), set(), 0, 0, 1.0, ""
    while done < kills or len(seen) < stages:
        folder = tmp_path / f"killed-{attempt}"
        folder.mkdir(exist_ok=True)
        # each session gets some way, so that one run meets several kills before it comes to its end
        killed = kill_at(folder, instants.uniform(0.1, 0.7) * seconds * longer)
        done += killed
        assert done < 3 * kills, f"all in {seen}"
        if killed:
            now = stage_under_way(folder)
            longer = longer * 1.5 if now == before else 1.0  # the machine got slower: the fit must end once
            before = now
            seen.add(now)
        if killed and (done < kills or len(seen) < stages):
            continue
        finish_and_compare(folder, calm)
        attempt += 1


def finish_and_compare(folder: Path, calm: Path) -> None:
    done = shared_fork_server().run(WORDS, folder)
    assert done.code == 0, done.err
    killed = only_run(folder)
    assert champion_hash(killed) == champion_hash(calm) != ""
    assert artifacts(killed) == artifacts(calm)
    assert flywheel.open_run(killed).verify().first_bad is None


def test_six_kills(tmp_path):
    check_kills(tmp_path, kills=6, stages=3)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_three_hundred_kills(tmp_path, monkeypatch):
    """Of runs of four generations after genesis."""
    monkeypatch.setattr(sys.modules[__name__], "WORDS", (*MOONS, "log=quiet", "name=run", "generations=4"))
    check_kills(tmp_path, kills=int(os.environ.get("FLYWHEEL_KILLS", "300")), stages=8)


@pytest.mark.parametrize("stage", ["seed", "generate", "train", "gate", "generation_ended"])
def test_killed_right_after_a_stage_was_recorded(folder, calm, stage):
    """At the most delicate instant: the ledger has the line, and nothing after it has happened."""
    number = 0 if stage == "seed" else 1
    deadly = signal_at(stage=stage, generation=number, number=9)
    done = shared_fork_server().run([*TURN, *(f"{key}={value}" for key, value in deadly.items())], folder)
    assert done.code == -signal.SIGKILL
    last = events(only_run(folder))[-1]
    assert last.get("stage", last["event"]) == stage
    assert shared_fork_server().run(TURN, folder).code == 0
    assert artifacts(only_run(folder)) == calm


def test_a_torn_last_line_is_cut_off_and_written_again(folder):
    words = [*TURN, "generations=0"]
    assert shared_fork_server().run(words, folder).code == 0
    run = only_run(folder)
    whole = artifacts(run)
    lines = (run / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (run / "ledger.jsonl").write_bytes(b"".join(lines[:5]) + lines[5][:100])
    (run / "HEAD").write_text(events(run)[4]["hash"] + "\n")
    wait_until(lambda: len(events(run)) == 5, "torn ledger")
    assert shared_fork_server().run(words, folder).code == 0
    assert artifacts(run) == whole
    assert flywheel.open_run(run).verify().first_bad is None
