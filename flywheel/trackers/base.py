"""A base for trackers that need only some of the calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from flywheel.records import Progress, Step
    from flywheel.storage.events import Event
    from flywheel.storage.state import RunState


class NoTracker:
    """Follows nothing; a base for trackers that need only some of the calls."""

    def open(self, directory: Path) -> None:
        """Nothing to prepare."""

    def event(self, event: Event, state: RunState) -> None:
        """Ignore it."""

    def progress(self, progress: Progress) -> None:
        """Ignore it."""

    def metrics(self, step: Step, values: Mapping[str, float]) -> None:
        """Ignore them."""

    def close(self) -> None:
        """Nothing to close."""


def ignores(tracker: Any, call: str) -> bool:
    """Whether a tracker does nothing with a call, e.g. ``metrics``: then it costs nothing to leave it out."""
    return getattr(type(tracker), call, None) is getattr(NoTracker, call)
