from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest

from flywheel import loop
from flywheel.config.schema import Config
from flywheel.runtime.context import Stage
from flywheel.stages import table
from flywheel.storage.retention import DROPPED

FOLDER = Path(table.__file__).parent


@pytest.mark.parametrize("stage", table.STAGES, ids=lambda stage: stage.name)
def test_a_row_is_of_a_function_that_there_is_and_of_a_part_that_is_configured(stage: Stage) -> None:
    assert getattr(table, stage.name) is stage
    with pytest.raises(TypeError, match=rf"{stage.name}\(\) got an unexpected keyword argument 'nothing'"):
        stage.function(None, nothing=1)
    assert stage.part in inspect.signature(Config).parameters


def test_every_file_has_a_row_and_the_loop_does_every_row() -> None:
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "table"}
    functions = {
        name
        for file in files
        for name, value in vars(importlib.import_module(f"flywheel.stages.{file}")).items()
        if inspect.isfunction(value) and value.__module__ == f"flywheel.stages.{file}" and _is_stage(value)
    }
    names = {stage.name for stage in table.STAGES}
    assert functions - {"outcomes_on"} == names
    said = ast.walk(ast.parse(inspect.getsource(loop)))
    used = {n.attr for n in said if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "stages"}
    assert used - {"STAGES"} == names


def _is_stage(function: object) -> bool:
    signature = inspect.signature(function, eval_str=False)  # type: ignore[arg-type]
    first = next(iter(signature.parameters.values()), None)
    return (
        first is not None and first.annotation == "Context" and signature.return_annotation == "StageOutput"
    )


def test_what_retention_drops_is_of_stages() -> None:
    assert {stage for stage, _ in DROPPED} <= {stage.name for stage in table.STAGES}
