"""SIGKILL at every named point between write, sync and rename; the same command goes on."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest

import flywheel
from tests.support.deadly import POINTS
from tests.support.harness import artifacts, has_run, only_run, shared_fork_server
from tests.support.loop_runs import TURN

# How often a run of one turn reaches the points at least; what is beyond its end is no kill.
REACHED = {
    "half-written": 20,
    "written": 70,
    "synced": 70,
    "renaming": 50,
    "renamed": 50,
    "directory-synced": 70,
}


def killed_and_resumed(folder: Path, point: str, number: int, calm: list) -> None:
    child = shared_fork_server().start(TURN, folder, env={"PROBE_KILL": f"{point}:{number}"})
    done = child.wait()
    assert done.code == -signal.SIGKILL, (point, number, done)
    if has_run(folder):
        assert flywheel.open_run(only_run(folder)).verify().first_bad is None
    resumed = shared_fork_server().run(TURN, folder)
    assert resumed.code == 0, resumed.err
    run = only_run(folder)
    assert artifacts(run) == calm
    assert flywheel.open_run(run).verify().first_bad is None
    assert not list(run.rglob("*.tmp")), "what was left aside is swept"


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_named_point(folder, calm, point):
    number = random.Random(point).randrange(2, REACHED[point])
    killed_and_resumed(folder, point, number, calm)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_each_named_point_all_along_the_run(folder, calm, point):
    for number in range(1, REACHED[point], 5):
        place = folder / str(number)
        place.mkdir()
        killed_and_resumed(place, point, number, calm)
