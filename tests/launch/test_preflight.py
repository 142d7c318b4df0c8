"""What is refused once the task is built, and before anything is trained."""

from pathlib import Path

import pytest

from flywheel.errors import ConfigError, DataError
from flywheel.records import Role, Suite
from flywheel.testing.moons.task import Moons
from flywheel.tuners import memory
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


@pytest.mark.parametrize("place", ["", "notes", "notes/memory"])
def test_a_memory_that_cannot_be_used_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "notes").write_text("lr,score\n")
    with pytest.raises(DataError, match=r"tuner\.memory must be a file that"):
        run_moons(tmp_path, **SPACE, **{"tuner": "random", "tuner.memory": str(tmp_path / place)})
    assert not list(tmp_path.rglob("ledger.jsonl"))
    assert (tmp_path / "notes").read_text() == "lr,score\n"


def test_a_memory_that_is_not_there_yet_is_none_of_preflights_business(tmp_path: Path) -> None:
    memory.check(tmp_path / "new" / "memory")
    assert not list(tmp_path.iterdir())


GRADER = {
    "grader._target_": "flywheel.graders.Verifier",
    "+grader.function._target_": "tests.support.verifiers.AtLeast",
    "+grader.function.least": 0,
    "+grader.function.column": "label",
    "+grader.answer": "label",
    "+grader.workers": 1,
    "curator.threshold": 0.5,
    "+curator.score": "verified",
}


def test_a_verifier_that_a_constant_answer_passes_is_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at most 10% of constant ones may pass"):
        run_moons(tmp_path, **GRADER)
    assert not list(tmp_path.rglob("ledger.jsonl"))


def test_a_function_by_its_name_alone_is_refused_with_the_remedy(tmp_path: Path) -> None:
    by_name = {
        "+grader.function": "tests.support.verifiers.never",
        "grader._target_": GRADER["grader._target_"],
    }
    with pytest.raises(ConfigError, match=r"grader\.function must be a function.*_partial_: true"):
        run_moons(tmp_path, **by_name)
