"""What a run may spend on promotions that are wrong is charged look by look, and never given back."""

from __future__ import annotations

import pytest

import flywheel
from flywheel.errors import ConfigError, ExitCode
from flywheel.records import Role, Suite
from flywheel.testing.moons.task import Moons
from tests.support.harness import events

LOSES = {"+gate.promote": False}
BUDGET = {"error_budget.alpha": 0.1, "error_budget.looks": 2, "error_budget.reserve": 0.2}


def looks(run: flywheel.Run) -> list[tuple[int, int, float]]:
    """Generation, number and level of each look."""
    return [
        (e["generation"], e["number"], e["level"])
        for e in events(run.path)
        if e["event"] == "look" and "role" not in e
    ]


def fork_of(run: flywheel.Run, **more: object) -> flywheel.Run:
    own = {"generations": 1, "log": "quiet", "name": "fork", "seal": "reopen", **more}
    return run.fork("champion", [f"{key}={value}" for key, value in own.items()])


def test_planned_looks_share_alpha_and_extensions_the_reserve(probe):
    run = probe(generations=2, **BUDGET, **LOSES)
    assert looks(run) == [(1, 1, 0.04), (2, 2, 0.04)]
    assert run.status().error_budget.json() == {
        "alpha": 0.1,
        "rule": "familywise",
        "planned": 2,
        "looks": 2,
        "spent": 0.08,
        "next_level": 0.01,
    }
    further = run.resume({"generations": 4, "seal": "reopen"})
    assert looks(further)[2:] == [(3, 3, 0.01), (4, 4, float(f"{0.02 / 6:.12g}"))]


def test_a_look_is_charged_before_there_are_outcomes(probe):
    order = [e.get("stage", e["event"]) for e in events(probe(generations=1, **BUDGET, **LOSES).path)]
    assert order.index("look") == order.index("train", order.index("generate")) + 1
    assert order[order.index("look") + 1] == "evaluate"


def test_a_turn_that_fails_has_spent_its_look(probe, fault):
    run = probe(generations=1, **BUDGET, **LOSES)
    fault("gate:raise")
    failed = run.resume({"generations": 2, "seal": "reopen"})
    assert failed.exit_code is ExitCode.FAILED
    fault("")
    again = failed.resume({"generations": 2, "seal": "reopen"})
    assert [number for _, number, _ in looks(again)] == [1, 2, 3]


def test_a_promotion_passes_its_level_on(probe):
    run = probe(generations=3, **{**BUDGET, "error_budget.looks": 4})
    levels = [level for _, _, level in looks(run)]
    assert levels == pytest.approx([0.02, 0.04, 0.06])
    taken = run.recall(generation=3, why="flawed", strict=False, yes=True)
    assert taken.champion.after == 2
    assert run.status().error_budget.next_level == pytest.approx(0.02)
    assert len(looks(run.resume({"generations": 3, "seal": "reopen"}))) == 4


def test_a_fork_on_the_same_items_inherits_what_was_spent(probe):
    run = probe(generations=1, **BUDGET, **LOSES)
    fork = fork_of(run)
    assert fork.status().error_budget.spent == pytest.approx(0.04 + (0.1 - 0.04) * 0.8 / 2)
    assert looks(fork) == [(1, 1, pytest.approx(0.024))]
    again = fork_of(fork, name="again")
    assert looks(again) == [(1, 1, pytest.approx((0.1 - 0.04 - 0.024) * 0.4))]


def test_a_fork_with_nothing_left_is_refused_and_one_with_fresh_items_is_not(probe):
    run = probe(generations=1, **BUDGET, **LOSES)
    with pytest.raises(ConfigError, match=r"0.04, of error_budget.alpha=0.03.*other gate items"):
        fork_of(run, **{"error_budget.alpha": 0.03})
    fresh = fork_of(run, **{"task.seed_value": 9})
    assert looks(fresh) == [(1, 1, 0.04)]


class Both(Moons):
    """The gate items of two seeds, in a suite each."""

    def suites(self) -> list[Suite]:
        other = next(suite for suite in Moons(seed_value=0).suites() if suite.name == "gate")
        return [*super().suites(), Suite("other_gate", Role.GATE, other.items, other.metrics)]


def test_a_fork_on_items_of_several_runs_inherits_what_was_spent_on_each(probe):
    run = probe(generations=1, **BUDGET, **LOSES)
    fresh = fork_of(run, **{"task.seed_value": 9})
    both = {"task._target_": f"{__name__}.Both", "task.seed_value": 9, "name": "both"}
    with pytest.raises(ConfigError, match=r"0.08, of error_budget.alpha=0.05"):
        fork_of(fresh, **{**both, "error_budget.alpha": 0.05})
    assert looks(fork_of(fresh, **both)) == [(1, 1, pytest.approx((0.1 - 0.04 - 0.04) * 0.4))]
