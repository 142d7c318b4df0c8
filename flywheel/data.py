"""What a task brings from outside, read and checked once, before a run is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flywheel.errors import DataError
from flywheel.records import Role, Suite
from flywheel.tables import as_table, digest, require, with_provenance

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Data:
    """Human samples, with their provenance, and suites by name."""

    human: pa.Table
    suites: Mapping[str, Suite]

    @property
    def identity(self) -> dict[str, str]:
        """Digest of the human samples' ids and of each suite's items, in order."""
        suites = {f"suite {name}": digest(suite.items["item"]) for name, suite in self.suites.items()}
        return {"seed samples": digest(self.human["id"]), **suites}


def read_data(task: Any) -> Data:
    """The task's seed samples and suites. Raises DataError if they cannot be trained or evaluated on."""
    seed = require(as_table(task.seed()), "Seed samples", unique="prompt")
    human = with_provenance(seed, origin="human", source="recipe", generation=0, key=0)
    suites = {suite.name: suite for suite in task.suites()}
    if not any(suite.role is Role.GATE for suite in suites.values()):
        raise DataError("A task must have a suite with role gate; without one nothing can be promoted.")
    for suite in suites.values():
        require(suite.items, f"Suite {suite.name}", unique="item")
    return Data(human, suites)
