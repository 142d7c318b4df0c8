"""Guard suites in force: what is better overall but worse somewhere is rejected, and says where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from flywheel.errors import ConfigError, ExitCode
from flywheel.records import Role, Suite
from flywheel.testing.moons.task import Moons
from tests.support.harness import events
from tests.support.loop_runs import run_moons
from tests.support.one_class import few_of_class_1


@dataclass(kw_only=True)
class WithClasses(Moons):
    """Moons, of which the gate has few of class 1, and guard suites of each class."""

    def suites(self) -> list[Suite]:
        dev, gate, sealed = super().suites()
        few, by_class = few_of_class_1(gate)
        guards = [Suite(f"class_{label}", Role.GUARD, own) for label, own in enumerate(by_class)]
        return [dev, few, *guards, sealed]


GUARD = {"+guards.classes._target_": "flywheel.guards.NonInferior", "+guards.classes.margin": 0.05}
PLANTED = {
    "task._target_": f"{__name__}.WithClasses",
    "task.items": 600,
    "+genesis_settings.steps": 1,
    "curator._target_": "tests.support.one_class.OnlyClass0",
    "generations": 2,
}


def test_better_overall_but_worse_on_one_class_is_rejected_by_name(folder: Path) -> None:
    run = run_moons(folder / "runs", **PLANTED, **GUARD)
    assert run.exit_code is ExitCode.FINISHED
    genesis, *turns = run.status().generations
    assert [turn.status for turn in turns] == ["rejected"] * 2
    for turn in turns:
        assert turn.metrics["gate"]["score"].value > genesis.metrics["gate"]["score"].value
        shown = run.show(turn.generation)
        assert shown.verdict is not None
        assert shown.verdict.promote
        (alarm,) = shown.alarms
        assert (alarm.guard, alarm.action) == ("classes", "reject")
        assert alarm.reason.startswith("harm shown on class_1: -")
        assert "class_0" not in alarm.reason
        assert turn.reason == f"guard classes: {alarm.reason}, though {shown.verdict.reason}"
    without = run_moons(folder / "without", **PLANTED, **{"+guards.classes": None})
    assert [g.status for g in without.status().generations][1] == "promoted"
    assert not [e for e in events(without.path) if e.get("stage") == "guard"]


def test_what_passes_is_recorded_and_promoted(folder: Path) -> None:
    sound = PLANTED | {"generations": 1, "curator._target_": "flywheel.curators.Confident"}
    run = run_moons(folder / "runs", **sound, **GUARD)
    assert [g.status for g in run.status().generations] == ["promoted"] * 2
    (alarm,) = run.show(1).alarms
    assert alarm.action == "pass"
    assert "no harm shown on class_0: " in alarm.reason
    assert "; no harm shown on class_1: " in alarm.reason


def test_guard_suites_without_a_guard_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"class_0, class_1\. Give \+guards\.guard_suites"):
        run_moons(folder / "runs", **PLANTED)


def test_a_guard_that_would_reject_equal_candidates_is_refused(folder: Path) -> None:
    small = {**PLANTED, **GUARD, "task.items": 100}
    with pytest.raises(ConfigError, match=r"guards\.classes: .*suite class_0 has 50 items and needs about"):
        run_moons(folder / "runs", **small)
    assert not (folder / "runs").exists()
    small |= {"generations": 0, "+guards.classes.allow_low_power": True}
    assert run_moons(folder / "runs", **small).exit_code is ExitCode.FINISHED
