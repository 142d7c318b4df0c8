"""For tests of your own recipe or part: the contract suites, and a recipe that turns in a second.

    from flywheel.testing import check_recipe, check_grader

The suites are imported on first use, so that using the recipe costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from flywheel.testing.places import CONFIG_DIR

if TYPE_CHECKING:
    from flywheel.gates.evidence import FixedEvidence
    from flywheel.testing.contracts.bench import ContractBroken
    from flywheel.testing.contracts.gate import check_gate
    from flywheel.testing.contracts.parts import (
        check_curator,
        check_grader,
        check_guard,
        check_reviewer,
        check_tuner,
    )
    from flywheel.testing.contracts.recipe import check_recipe
    from flywheel.testing.contracts.task import check_task
    from flywheel.testing.contracts.tracker import check_tracker

_MODULES = {"ContractBroken": "bench", "FixedEvidence": "gate"}
_MODULES |= {f"check_{seam}": seam for seam in ("gate", "recipe", "task", "tracker")}
__all__ = [
    "CONFIG_DIR",
    "ContractBroken",
    "FixedEvidence",
    "check_curator",
    "check_gate",
    "check_grader",
    "check_guard",
    "check_recipe",
    "check_reviewer",
    "check_task",
    "check_tracker",
    "check_tuner",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        module = import_module(f"flywheel.testing.contracts.{_MODULES.get(name, 'parts')}")
        return getattr(module, name)
    raise AttributeError(f"module 'flywheel.testing' has no attribute {name!r}")
