"""Which stage may see what."""

from __future__ import annotations

import pytest

from flywheel.records import Role
from flywheel.stages import table
from flywheel.storage.events import PRUNABLE

JUDGES = {Role.GATE, Role.GUARD, Role.SEALED}


@pytest.mark.parametrize("stage", table.STAGES, ids=lambda stage: stage.name)
def test_what_makes_or_chooses_data_sees_no_item_that_judges(stage) -> None:
    allowed = {
        "evaluate": {Role.GATE, Role.GUARD},
        "gate": {Role.GATE},
        "labels": {Role.GATE},  # of a refit only, which is judged by no gate
        "guard": {Role.GUARD},
        "sealed": {Role.SEALED},
    }
    assert JUDGES & set(stage.sees) == ({"seed": JUDGES} | allowed).get(stage.name, set())


def test_every_prunable_output_is_that_of_a_stage() -> None:
    assert {stage.name: stage.prunable for stage in table.STAGES if stage.prunable} == PRUNABLE
