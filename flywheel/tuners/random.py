"""Random search: what any other tuner must beat."""

from __future__ import annotations

from dataclasses import dataclass

from flywheel.protocols import TunerView
from flywheel.records import Settings
from flywheel.space import Point
from flywheel.tuners.search import Search, draw_new


@dataclass(kw_only=True, eq=False)
class Random(Search):
    """Try settings that are drawn from the space, each point once. See ``Search`` for the arguments."""

    def propose(self, view: TunerView, seen: frozenset[Point]) -> Settings | None:
        """A feasible point that was not tried."""
        return draw_new(view, seen)
