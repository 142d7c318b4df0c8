"""Trackers follow a run: they see each event after it is in the ledger, and progress in between.

They run on rank 0 and never decide anything; what they show can be derived from the ledger.
"""

from __future__ import annotations

from typing import Protocol

from flywheel.lineage.ledger import Event
from flywheel.lineage.state import RunState
from flywheel.records import Progress


class Tracker(Protocol):
    """Something that follows a run."""

    def event(self, event: Event, state: RunState) -> None:
        """An event was recorded; ``state`` includes it."""

    def progress(self, progress: Progress) -> None:
        """A stage got further. Called often: return quickly."""

    def close(self) -> None:
        """The session ends."""


class NoTracker:
    """Follows nothing."""

    def event(self, event: Event, state: RunState) -> None:
        """Ignore it."""

    def progress(self, progress: Progress) -> None:
        """Ignore it."""

    def close(self) -> None:
        """Nothing to close."""
