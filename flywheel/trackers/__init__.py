"""Trackers follow a run: they see each event after it is in the ledger, and progress in between.

They run on rank 0 and never decide anything; what they show can be derived from the ledger.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from flywheel.errors import Control
from flywheel.trackers import queued
from flywheel.trackers.base import NoTracker
from flywheel.trackers.console import printable
from flywheel.trackers.queued import EVENT, METRICS, PROGRESS, Patience, Queued, TooSlow

if TYPE_CHECKING:  # --help and the errors of the command line pass here
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from flywheel.protocols import Tracker
    from flywheel.records import Progress, Step
    from flywheel.storage.events import Event
    from flywheel.storage.state import RunState


__all__ = ["NoTracker", "TrackerGroup"]


class TrackerGroup:
    """Several trackers as one. One that raises is reported once and removed: it must not fail the run.

    Each has a queue and a thread of its own, but those that are ``synchronous``. At the end the run waits for
    all of them together, and what a tracker missed is counted and said.
    """

    def __init__(self, trackers: Mapping[str, Tracker]) -> None:
        """``trackers``: by the key of the configuration, e.g. ``tracker.wandb``."""
        patience = Patience(queued.WAIT_SECONDS)
        self._trackers: dict[str, Tracker | Queued] = {
            name: tracker if getattr(tracker, "synchronous", False) else Queued(tracker, patience)
            for name, tracker in trackers.items()
        }
        self._removed: dict[str, Queued] = {}
        self._is_open = False

    def open(self, directory: Path) -> None:
        """Call each tracker."""
        self._is_open = True
        self._call_all(lambda tracker: tracker.open(directory))

    def event(self, event: Event, state: RunState) -> None:
        """Call each tracker."""
        self._call_all(lambda tracker: tracker.event(event, state), EVENT)

    def progress(self, progress: Progress) -> None:
        """Call each tracker."""
        self._call_all(lambda tracker: tracker.progress(progress), PROGRESS)

    def metrics(self, step: Step, values: Mapping[str, float]) -> None:
        """Call each tracker."""
        self._call_all(lambda tracker: tracker.metrics(step, values), METRICS)

    def close(self) -> None:
        """Close each tracker, all of them within ``CLOSE_SECONDS``; say what was dropped."""
        if not self._is_open:
            return
        self._is_open = False
        self._call_all(lambda tracker: tracker.close())
        patience = Patience(queued.CLOSE_SECONDS)
        self._wait_closed(patience)
        queued.bound_exit.waited = queued.CLOSE_SECONDS - patience.seconds
        for name, tracker in {**self._trackers, **self._removed}.items():
            if isinstance(tracker, Queued) and tracker.missed:
                counts = ", ".join(f"{count} {kind}" for kind, count in sorted(tracker.missed.items()))
                _report(f"{name} missed {counts}. The ledger has every event.")

    def _wait_closed(self, patience: Patience) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                if isinstance(tracker, Queued):
                    tracker.wait_closed(patience)
            except KeyboardInterrupt:  # Ctrl-C: whoever pressed it does not want to wait
                patience.seconds = 0.0
                self._remove(name, TooSlow("it had not closed when Ctrl-C was pressed"))
            except Exception as error:
                self._remove(name, error)

    def _call_all(self, call: Callable[[Tracker | Queued], None], kind: str | None = None) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                call(tracker)
            except (KeyboardInterrupt, Control):  # not the tracker's: of the process, or of the run
                raise
            except BaseException as error:
                self._remove(name, error)
        for removed in self._removed.values():
            if kind is not None:
                removed.miss(kind)

    def _remove(self, name: str, error: BaseException) -> None:
        tracker = self._trackers.pop(name)
        if isinstance(tracker, Queued):
            self._removed[name] = tracker
            tracker.leave()
        elif self._is_open:  # else it is its close that failed
            with suppress(Exception):
                tracker.close()
        kinds = "" if isinstance(error, TooSlow) else f"{type(error).__name__}: "
        _report(f"{name} failed and was removed; the run goes on without it. {kinds}{error}")


def _report(text: str) -> None:
    """Say it on standard error, above a live view; a full disk there must not fail the run either."""
    with suppress(OSError, ValueError):
        print(printable(text), file=sys.stderr)
