"""What the loop relies on at each seam of ``flywheel.protocols``, as functions to call from a test.

They run the loop's own stages on real artifacts. What a stage refuses is raised as in a run (DataError,
StageFailed, ...); what the loop can only trust, and a test can check, is raised as ContractBroken.
"""

from flywheel.testing.contracts.bench import ContractBroken
from flywheel.testing.contracts.gate import FixedEvidence, check_gate
from flywheel.testing.contracts.parts import (
    check_curator,
    check_grader,
    check_guard,
    check_reviewer,
    check_tuner,
)
from flywheel.testing.contracts.recipe import check_recipe
from flywheel.testing.contracts.task import check_task

__all__ = [
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
