"""Trackers follow a run: they see each event after it is in the ledger, and progress in between.

They run on rank 0 and never decide anything; what they show can be derived from the ledger.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # --help and the errors of the command line pass here
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from flywheel.protocols import Tracker
    from flywheel.records import Progress, Step
    from flywheel.storage.events import Event
    from flywheel.storage.state import RunState
from flywheel.trackers.queued import Queued


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


class TrackerGroup:
    """Several trackers as one. One that raises is reported once and removed: it must not fail the run.

    Each has a queue and a thread of its own, but those that are ``synchronous``.
    """

    def __init__(self, trackers: Iterable[Tracker]) -> None:
        self._trackers: list[Tracker] = [
            tracker if getattr(tracker, "synchronous", False) else Queued(tracker) for tracker in trackers
        ]

    def open(self, directory: Path) -> None:
        """Call each tracker."""
        self._call_all(lambda tracker: tracker.open(directory))

    def event(self, event: Event, state: RunState) -> None:
        """Call each tracker."""
        self._call_all(lambda tracker: tracker.event(event, state))

    def progress(self, progress: Progress) -> None:
        """Call each tracker."""
        self._call_all(lambda tracker: tracker.progress(progress))

    def metrics(self, step: Step, values: Mapping[str, float]) -> None:
        """Call each tracker."""
        self._call_all(lambda tracker: tracker.metrics(step, values))

    def close(self) -> None:
        """Call each tracker."""
        self._call_all(lambda tracker: tracker.close())

    def _call_all(self, call: Callable[[Tracker], None]) -> None:
        for tracker in list(self._trackers):
            try:
                call(tracker)
            except Exception as error:
                self._trackers.remove(tracker)
                name = type(tracker.tracker if isinstance(tracker, Queued) else tracker).__name__
                print(f"{name} failed and was removed: {error}", file=sys.stderr)
