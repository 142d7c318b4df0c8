"""One run at a time in a process: a second one, or what draws beside it, is refused and changes nothing."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import flywheel
from flywheel.errors import RunError
from flywheel.runtime.exclusive import only_run, refuse_beside_a_run
from tests.support import probe_parts
from tests.support.harness import artifacts
from tests.support.loop_runs import run_probe

REFUSED = "A process runs one run at a time"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> flywheel.Run:
    return run_probe(tmp_path_factory.mktemp("alone"), generations=1)


@pytest.fixture(autouse=True)
def forgotten() -> None:
    probe_parts.meanwhile.clear()
    probe_parts.happened.clear()


def run_meanwhile(folder: Path, action, *, own_thread: bool = False) -> flywheel.Run:
    probe_parts.meanwhile.append(action)
    tracker = {"_target_": "tests.support.probe_parts.Meanwhile", "own_thread": own_thread}
    return run_probe(folder, generations=1, **{f"+tracker.{key}": value for key, value in tracker.items()})


ACTIONS = {
    "run": lambda run, folder: run_probe(folder / "second", name="second", seed=1, generations=0),
    "fork": lambda run, folder: run.fork(0, {"name": "fork", "runs_dir": str(folder / "fork")}),
    "reproduce": lambda run, folder: run.reproduce(0),
    "load": lambda run, folder: run.champion().load(),
    "evaluate": lambda run, folder: run.champion().evaluate([{"point": [0.1, 0.2], "label": 0}]),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_what_draws_in_another_thread_is_refused_and_the_run_is_what_it_is_alone(tmp_path, alone, action):
    run = run_meanwhile(tmp_path, lambda: ACTIONS[action](alone, tmp_path))
    (error,) = probe_parts.happened
    assert isinstance(error, RunError), error
    assert REFUSED in str(error)
    assert str(run.path) in str(error)
    assert artifacts(run.path) == artifacts(alone.path)
    assert not (tmp_path / "second").exists()
    assert not (tmp_path / "fork").exists()


@pytest.mark.parametrize("action", ["run", "reproduce"])
def test_no_run_within_a_run(tmp_path, alone, action):
    run_meanwhile(tmp_path, lambda: ACTIONS[action](alone, tmp_path), own_thread=True)
    (error,) = probe_parts.happened
    assert REFUSED in str(error)


def test_a_part_may_use_the_champion_of_another_run_and_anybody_may_look(tmp_path, alone):
    run_meanwhile(tmp_path / "a", lambda: alone.champion().load(), own_thread=True)
    run_meanwhile(tmp_path / "b", lambda: (alone.status().json()["state"], alone.show(1), alone.samples(1)))
    model, (state, *_) = probe_parts.happened
    assert isinstance(model, probe_parts.Model)
    assert state == "finished"


def test_after_a_run_that_ended_or_was_refused_the_next_one_may_begin(tmp_path, alone):
    with pytest.raises(flywheel.errors.FlywheelError):
        run_probe(tmp_path, generations=1, task___target_="tests.support.probe_parts.NoGate")
    assert run_probe(tmp_path, generations=0).status().json()["state"] == "finished"
    assert alone.champion().load() is not None


def test_of_many_threads_one_gets_the_process():
    started, won, lost = threading.Barrier(8), [], []

    def enter(number: int) -> None:
        started.wait()
        try:
            with only_run(Path(f"run{number}")):
                won.append(number)
                tried.wait(10)
        except RunError as error:
            lost.append(str(error))
        if len(lost) == 7:
            tried.set()

    tried = threading.Event()
    threads = [threading.Thread(target=enter, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert all(f"run{won[0]} is running here" in text for text in lost)
    refuse_beside_a_run("nothing is on")
