"""Evidence that is given, not evaluated: for tests of a gate, and for what would have come of other pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flywheel.records import Differences


@dataclass(frozen=True, slots=True)
class FixedEvidence:
    """Evidence that is given: the differences of each suite, all of them however many are asked for."""

    by_suite: Mapping[str, Differences]

    @property
    def suites(self) -> list[str]:
        """Names of the gate suites."""
        return list(self.by_suite)

    def differences(self, suite: str, clusters: int | None = None) -> Differences:
        """Those that were given."""
        return self.by_suite[suite]
