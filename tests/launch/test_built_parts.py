"""A run of parts that are given as objects, without any YAML of a recipe."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import flywheel
from flywheel.config.parts import sections_of
from flywheel.curators import Confident
from flywheel.errors import ConfigError, ExitCode, IdentityError
from flywheel.graders import Confidence
from flywheel.testing.moons.model import Classifier
from flywheel.testing.moons.task import Moons


class Own(Moons):
    """A task whose arguments are not its fields."""

    def __init__(self, items: int, rows: Any = ()) -> None:
        super().__init__(items=items)
        self.rows = rows


def make(settings: dict[str, Any]) -> Classifier:
    """A model of the settings."""
    return Classifier(settings["width"], settings["lr"])


def config(runs: Path, **more: Any) -> dict[str, Any]:
    settings = {"width": 8, "lr": 0.05, "batch_size": 16, "steps": 5}
    trainer = {"max_steps": "${settings.steps}", "accelerator": "cpu"}
    own = {"recipe": "mine", "settings": settings, "trainer": trainer, "generations": 1, "threads": 1}
    return {**own, "runs_dir": runs, "log": "quiet", **more}


def chosen(**more: Any) -> dict[str, Any]:
    return {"grader": Confidence(), "curator": Confident(by="label"), **more}


def test_a_lambda_and_an_object_make_a_run_that_goes_on_with_equal_ones(tmp_path: Path) -> None:
    def parts(width: int = 8) -> dict[str, Any]:
        return chosen(task=Own(40), model=lambda settings: Classifier(width, settings["lr"]))

    run = flywheel.run(config(tmp_path), **parts())
    assert run.exit_code is ExitCode.FINISHED
    assert run.path.parent == tmp_path / "mine"
    assert isinstance(run.champion().load(), Classifier)
    again = flywheel.run(config(tmp_path, generations=2, seal="reopen"), **parts())
    assert (again.path, len(again.generations())) == (run.path, 3)
    other = flywheel.run(config(tmp_path), **parts(width=9))
    assert other.path != run.path, "what a closure holds is identity"
    opened = flywheel.open_run(run.path)
    with pytest.raises(ConfigError, match=r"model was given as an object.*give it again, model="):
        opened.champion().load()
    assert opened.resume({"generations": 3, "seal": "reopen"}, **parts()).exit_code is ExitCode.FINISHED
    assert flywheel.open_run(run.path, **parts()).champion().load() is not None
    with pytest.raises(IdentityError, match="sha256"):
        opened.resume({"generations": 4}, **parts(width=9))


def test_dataclasses_and_functions_that_can_be_imported_are_recorded_as_yaml_would_have_them(
    tmp_path: Path,
) -> None:
    run = flywheel.run(config(tmp_path), **chosen(task=Moons(items=40), model=make))
    recorded = run.generation(0).state.created.config
    assert recorded["task"]["_target_"] == "flywheel.testing.moons.task.Moons"
    assert recorded["task"]["items"] == 40
    assert recorded["model"]["_target_"] == f"{__name__}.make"
    assert recorded["model"]["settings"] == recorded["settings"]
    alone = flywheel.open_run(run.path)
    assert isinstance(alone.champion().load(), Classifier), "built from the record alone"
    assert alone.fork(0, {"settings.lr": 0.1, "seal": "reopen"}).exit_code is ExitCode.FINISHED


def test_an_object_takes_the_place_of_a_section_of_a_recipe(tmp_path: Path) -> None:
    from flywheel.testing import CONFIG_DIR

    small = {"recipe": "moons", "generations": 0, "settings.steps": 2, "log": "quiet", "runs_dir": tmp_path}
    run = flywheel.run(small, config_dir=CONFIG_DIR, task=Own(30))
    assert run.generation(0).task().items == 30


@dataclass
class Keyed:
    """A grader with a credential."""

    api_key: str = "literal"


NUMBER = 3
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no part": ({"graders": Confidence()}, "got graders. Did you mean grader"),
    "a class": ({"grader": Confidence}, "Call it first"),
    "a module": ({"model": Classifier()}, "model=lambda settings: Classifier"),
    "an open file": ({"task": Own(3, io.TextIOWrapper(io.BytesIO()))}, "that of task cannot be read"),
    "a credential": (
        {"task": Own(3), "model": make, "grader": Keyed(), "curator": Confident()},
        "never recorded",
    ),
    "no grader": ({"task": Own(3), "model": make, "curator": Confident()}, "grader must name a class"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_recorded_is_refused(tmp_path: Path, what: str) -> None:
    parts, words = REFUSED[what]
    with pytest.raises(ConfigError, match=words):
        flywheel.run(config(tmp_path / "runs"), **parts)
    assert not (tmp_path / "runs").exists()


def digest(model: Callable[[Any], Any]) -> str:
    return str(sections_of({"model": model})["model"]["_object_"]["sha256"])


def test_what_a_function_reads_is_part_of_its_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.arange(3)
    first = digest(lambda settings: (NUMBER, rows))
    assert first == digest(lambda settings: (NUMBER, rows))
    monkeypatch.setitem(globals(), "NUMBER", 4)
    second = digest(lambda settings: (NUMBER, rows))
    rows = torch.arange(4)
    assert (
        len({first, second, digest(lambda settings: (NUMBER, rows)), digest(lambda settings: (rows, NUMBER))})
        == 4
    )
