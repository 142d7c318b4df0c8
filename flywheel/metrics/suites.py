"""Metrics of a suite: what its outcomes are summed up to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from flywheel.metrics.intervals import mean_interval, reach
from flywheel.records import Interval

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean score over items; of a duel the share of the points, a draw being half a one."""

    name: str = "score"
    """Its name in reports, e.g. ``accuracy``."""

    @property
    def columns(self) -> tuple[str, ...]:
        """None beside the outcomes'."""
        return ()

    def measure(self, outcomes: pa.Table, items: pa.Table) -> Mapping[str, Interval]:
        """The mean with its interval; see ``mean_interval``."""
        return {self.name: mean_interval(outcomes["score"].to_numpy(), outcomes["cluster"].to_numpy())}


@dataclass(frozen=True, slots=True)
class Reach:
    """How far up a ladder a model gets: the highest level with all levels up to it mastered."""

    name: str
    """Its name in reports, e.g. ``digits95``."""
    level: str
    """Integer column of the suite's items."""
    share: float = 0.95
    """Mean score from which a level is mastered."""

    @property
    def columns(self) -> tuple[str, ...]:
        """That of the levels."""
        return (self.level,)

    def measure(self, outcomes: pa.Table, items: pa.Table) -> Mapping[str, Interval]:
        """The level with its interval, in levels; see ``reach``."""
        scores, clusters = outcomes["score"].to_numpy(), outcomes["cluster"].to_numpy()
        far = reach(scores, items[self.level].to_numpy(), self.share, clusters)
        return {self.name: replace(far, unit="level")}
