"""What is refused once the task is built, and before anything is trained."""

from pathlib import Path

import pytest

from flywheel.errors import ConfigError
from flywheel.records import Role, Suite
from flywheel.testing.moons.task import Moons
from tests.support.loop_runs import run_moons


class WithoutDev(Moons):
    """Moons with a gate only."""

    def suites(self) -> list[Suite]:
        return [suite for suite in super().suites() if suite.role == Role.GATE]


SPACE = {"tune.space.lr": {"low": 0.001, "high": 0.1, "log": True}}
WITHOUT_DEV = {"task._target_": "tests.launch.test_preflight.WithoutDev"}


def test_a_space_without_a_dev_suite_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"Trials are scored on suites with role dev.* the task has gate \(gate\)"
    ):
        run_moons(tmp_path, **SPACE, **WITHOUT_DEV, tuner="random")
    assert not list(tmp_path.rglob("ledger.jsonl"))


def test_without_a_tuner_or_a_space_none_is_needed(tmp_path: Path) -> None:
    small = {"generations": 0, "settings.steps": 2, **WITHOUT_DEV}
    assert run_moons(tmp_path, name="fixed", **SPACE, **small).exit_code == 0
    assert run_moons(tmp_path, name="nothing", tuner="random", **small).exit_code == 0
