"""A launch is a straight line: compose, plan, preflight, open, loop."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import flywheel
from flywheel.errors import DataError, ExitCode
from flywheel.storage import ledger
from flywheel.testing import CONFIG_DIR
from flywheel.testing.moons.task import Moons
from tests.launch.test_built_parts import chosen, config, make
from tests.support.harness import PROBE, PROBE_CONF, events, kinds
from tests.support.ranks import ended, torchrun

SMALL = {"recipe": "moons", "log": "quiet", "threads": 1, "generations": 0, "settings.steps": 2}
PHASES = ["compose", "plan", "preflight", "session", "loop"]
"""Modules of the line; beside them, helpers that hold no phase."""


def phase_of(frame: FrameType) -> str | None:
    name = str(frame.f_globals.get("__name__"))
    short = {"flywheel.config.compose": "compose", "flywheel.loop": "loop"}.get(name)
    return short or (name.removeprefix("flywheel.launch.") if name.startswith("flywheel.launch.") else None)


@contextmanager
def watched_calls() -> Iterator[list[tuple[str, str]]]:
    """(the phase under way, or none; the phase that is called), for each call of a function of a phase."""
    calls: list[tuple[str, str]] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        callee = phase_of(frame) if event == "call" else None
        if callee not in PHASES or frame.f_code.co_name == "<module>":  # to import it is no call
            return
        caller = frame.f_back
        while caller is not None and phase_of(caller) not in PHASES:
            caller = caller.f_back
        calls.append((phase_of(caller) if caller else "", callee))

    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)


def composed(runs: Path) -> flywheel.Run:
    return flywheel.run({**SMALL, "runs_dir": runs}, config_dir=CONFIG_DIR)


def built(runs: Path) -> flywheel.Run:
    return flywheel.run(config(runs, generations=0), **chosen(task=Moons(items=40), model=make))


def resumed(runs: Path) -> flywheel.Run:
    return composed(runs).resume({"generations": 1, "seal": "reopen"})


def forked(runs: Path) -> flywheel.Run:
    return composed(runs).fork(0, {"generations": 1, "name": "fork", "seal": "reopen"})


@pytest.mark.parametrize("start", [composed, built, resumed, forked])
def test_every_launch_passes_the_same_phases_and_none_calls_back(
    start: Callable[[Path], flywheel.Run], tmp_path: Path
) -> None:
    with watched_calls() as calls:
        assert start(tmp_path).exit_code is ExitCode.FINISHED
    order = {phase: place for place, phase in enumerate(PHASES)}
    assert not {(caller, callee) for caller, callee in calls if caller and order[caller] > order[callee]}
    entered = [phase for phase, _ in groupby(callee for caller, callee in calls if not caller)]
    launches = 1 if start in (composed, built) else 2
    assert entered == [*PHASES, "session"] * launches, "the session is left at the end"


def test_nothing_is_written_before_the_preflight_has_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Moons) -> None:
        raise OSError("the disk with the data is gone")

    run = composed(tmp_path / "runs")
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    monkeypatch.setattr(Moons, "suites", fail)
    for start in (composed, built):
        with pytest.raises(DataError, match="the disk with the data is gone"):
            start(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="the disk with the data is gone"):
        run.resume({"generations": 1, "seal": "reopen"})
    with pytest.raises(DataError, match="the disk with the data is gone"):
        run.fork(0, {"name": "fork", "seal": "reopen"})
    assert not (tmp_path / "elsewhere").exists()
    assert {path: path.read_bytes() for path in run.path.parent.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("way", ["resume", "fork"])
def test_the_ledger_is_read_once_before_a_run_is_opened(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening reads it again, under the lock."""
    run, reads, real = composed(tmp_path), list[Path](), ledger.read
    monkeypatch.setattr(ledger, "read", lambda directory: reads.append(directory) or real(directory))
    if way == "resume":
        run.resume({"generations": 1, "seal": "reopen"})
    else:
        run.fork(0, {"name": "fork", "seal": "reopen"})
    assert reads == [run.path]


def test_two_ranks_resume_a_run_of_one(folder: Path) -> None:
    small = {"recipe": "probe", "name": "run", "log": "quiet", "generations": 0, "settings.steps": 2}
    run = flywheel.run({**small, "runs_dir": folder / "runs", "threads": 1}, config_dir=PROBE_CONF)
    words = ["resume", "run", "generations=1", "seal=reopen", "log=plain", *PROBE[:2]]
    with torchrun(words, folder) as process:
        done = ended(process)
    assert done.code == 0, done.err
    assert kinds(run.path)[-1] == "run_finished"
    sessions = [event for event in events(run.path) if event["event"] == "session_started"]
    assert [session["world_size"] for session in sessions] == [1, 2]
    assert len(run.generations()) == 2
    assert run.verify().first_bad is None
    assert done.out.count("generation 1, turn 1 of 1") == 1, "one rank speaks"
