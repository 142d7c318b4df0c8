"""For tests of your own recipe or part: the contract suites, and a recipe that turns in a second.

    from flywheel.testing import check_recipe, check_grader

The suites are imported on first use, so that using the recipe costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flywheel.testing.places import CONFIG_DIR

if TYPE_CHECKING:
    from flywheel.testing.contracts import (
        ContractBroken,
        FixedEvidence,
        check_curator,
        check_gate,
        check_grader,
        check_guard,
        check_recipe,
        check_reviewer,
        check_task,
        check_tuner,
    )

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
    "check_tuner",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from flywheel.testing import contracts

        return getattr(contracts, name)
    raise AttributeError(f"module 'flywheel.testing' has no attribute {name!r}")
