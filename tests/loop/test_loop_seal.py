"""Sealed means sealed: each opening is charged, and a run that was opened goes on only if it is said."""

from __future__ import annotations

import pytest

import flywheel
from flywheel.errors import ExitCode, RunError
from flywheel.records import Role, Suite
from tests.support.harness import artifacts, events
from tests.support.loop_runs import Probe
from tests.support.probe_parts import Task

KEEP, REOPEN = {"seal": "keep"}, {"seal": "reopen"}
REFUSED = r"opened once.*seal=reopen.*other sealed items"


class NothingSealed(Task):
    """The same without its sealed suite."""

    def suites(self) -> list[Suite]:
        return [suite for suite in super().suites() if suite.role != Role.SEALED]


def openings(run: flywheel.Run) -> list[tuple[int, int]]:
    """Generation and number of each opening."""
    return [(e["generation"], e["number"]) for e in events(run.path, event="look", role="sealed")]


def test_the_end_of_a_run_opens_the_sealed_suites_once(probe: Probe) -> None:
    run = probe(generations=1, **KEEP)
    assert openings(run) == [(1, 1)]
    order = [e.get("stage", e["event"]) for e in events(run.path)]
    assert order[-4:] == ["look", "sealed", "sealed", "run_finished"]
    assert "level" not in events(run.path, role="sealed")[0]
    assert run.status().sealed_openings == 1


def test_an_opened_run_does_not_go_on_unless_it_is_said(probe: Probe) -> None:
    run = probe(generations=1, **KEEP)
    before = events(run.path)
    assert probe(generations=1, **KEEP).exit_code is ExitCode.FINISHED
    for go_on in (lambda: probe(generations=2, **KEEP), lambda: run.resume({"generations": 2})):
        with pytest.raises(RunError, match=REFUSED):
            go_on()
    assert events(run.path) == before
    run = run.resume({"generations": 2, **REOPEN})
    assert openings(run) == [(1, 1), (2, 2)]
    with pytest.raises(RunError, match=r"opened 2 times"):  # it was said for that session
        run.resume({"generations": 3})


def test_nor_is_another_champion_looked_at(probe: Probe) -> None:
    run = probe(generations=2, **KEEP)
    run.rollback(1, why="a test")
    with pytest.raises(RunError, match=REFUSED):
        run.resume({})
    run.recall(generation=2, why="a test", yes=True)
    with pytest.raises(RunError, match=REFUSED):
        probe(generations=2, **KEEP)
    assert openings(run.resume(REOPEN))[1:] == [(3, 2)]


def test_what_was_stopped_before_its_end_goes_on(probe: Probe, fault) -> None:
    run = probe(generations=0, **KEEP)
    fault("train:raise")
    assert run.resume({"generations": 1, **REOPEN}).exit_code is ExitCode.FAILED
    fault("")
    assert openings(run.resume({"generations": 1})) == [(0, 1), (2, 2)]


def test_a_look_that_fails_is_made_up_for_within_its_opening(probe: Probe, fault) -> None:
    fault("sealed:raise")
    assert probe(generations=1, **KEEP).exit_code is ExitCode.FAILED
    fault("")
    with pytest.raises(RunError, match=REFUSED):
        probe(generations=2, **KEEP)
    run = probe(generations=1, **KEEP)
    assert (run.exit_code, openings(run)) == (ExitCode.FINISHED, [(1, 1)])


def test_a_champion_that_was_looked_at_is_not_looked_at_again(probe: Probe) -> None:
    run = probe(generations=0, **KEEP, **{"+gate.promote": False})
    run = run.resume({"generations": 1, **REOPEN})
    assert openings(run) == [(0, 1)]


def test_a_task_without_sealed_suites_goes_on(probe: Probe) -> None:
    here = {"task._target_": f"{__name__}.NothingSealed", **KEEP}
    probe(generations=0, **here)
    run = probe(generations=1, **here)
    assert (openings(run), run.status().sealed_openings) == ([], 0)
    assert "sealed" not in [stage for _, stage, *_ in artifacts(run.path)]


def fork_of(run: flywheel.Run, name: str, **more: object) -> flywheel.Run:
    own = {"generations": 0, "log": "quiet", "name": name, **more}
    return run.fork("champion", [f"{key}={value}" for key, value in own.items()])


def test_a_fork_with_the_same_sealed_items_goes_on_with_the_count(probe: Probe) -> None:
    run = probe(generations=0, **KEEP)
    with pytest.raises(RunError, match=REFUSED):
        fork_of(run, "fork")
    assert not run.path.with_name("fork").exists()
    fork = fork_of(run, "fork", **REOPEN)
    assert (openings(fork), fork.status().sealed_openings) == ([(0, 1)], 2)
    with pytest.raises(RunError, match=r"opened 2 times"):
        fork_of(fork, "again")
    assert fork_of(fork, "again", **REOPEN).status().sealed_openings == 3


def test_a_fork_with_fresh_sealed_items_begins_anew(probe: Probe) -> None:
    fork = fork_of(probe(generations=0, **KEEP), "fork", **{"task.seed_value": 9})
    assert (openings(fork), fork.status().sealed_openings) == ([(0, 1)], 1)


def test_a_fork_before_the_end_is_not_refused(probe: Probe, fault) -> None:
    fault("train:raise")
    run = probe(generations=1, genesis="fresh", **KEEP)
    fault("")
    assert fork_of(run, "fork").status().sealed_openings == 1


def test_the_count_and_the_gate_stand_beside_the_sealed_figures(probe: Probe) -> None:
    run = probe(generations=1, **KEEP)
    (beside,) = run.status().gate_beside_sealed
    shown = {g.generation: g.metrics for g in run.status().generations}[run.champion().number]
    assert beside.gate_value == shown["gate"]["accuracy"].value
    assert beside.sealed_value == shown["sealed"]["accuracy"].value
    assert beside.difference == beside.gate_value - beside.sealed_value


def test_a_candidate_that_wins_on_the_gates_items_only_is_caught_by_name(probe: Probe) -> None:
    parts = {"task._target_": "tests.support.probe_parts.Memorises"}
    parts |= {"model._target_": "tests.support.probe_parts.Learner"}
    run = probe(generations=1, genesis="fresh", **parts, **{"settings.steps": 1, "settings.lr": 1e-9})
    assert run.champion().number == 1
    (beside,) = run.status().gate_beside_sealed
    assert beside.flatters
    assert str(beside).endswith("it wins on the gate's items only, believe the sealed ones")


def test_an_honest_champion_is_not(probe: Probe) -> None:
    (beside,) = probe(generations=1, **KEEP).status().gate_beside_sealed
    assert beside.low < 0 < beside.high
    assert not beside.flatters
