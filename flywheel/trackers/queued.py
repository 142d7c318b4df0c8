"""A tracker behind a bounded queue, in a thread of its own: however slow, it does not hold up the run."""

from __future__ import annotations

import copy
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from flywheel.protocols import Tracker
    from flywheel.records import Progress, Step
    from flywheel.storage.events import Event
    from flywheel.storage.state import RunState

SIZE = 1000
"""Calls that may wait for a tracker."""
WAIT_SECONDS = 10.0
"""How long a run waits for a tracker whose queue is full, all its events together."""
CLOSE_SECONDS = 60.0
"""How long a run that ends waits for a tracker to take what is left, e.g. to upload it."""


class TooSlow(Exception):
    """A tracker did not take what happened in time."""


class Queued:
    """Hands calls on to a tracker, in order. What it raised, or that it is too slow, the next call raises.

    Events are never dropped. Progress and metrics are, while the queue is full. The tracker sees a state of
    its own, which is as the run's was when the event was recorded.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self._calls: queue.Queue[Callable[[], None] | None] = queue.Queue(SIZE)
        self._thread = threading.Thread(target=self._work, name=type(tracker).__name__, daemon=True)
        self._patience = WAIT_SECONDS
        self._state: RunState | None = None
        self._error: BaseException | None = None

    def open(self, directory: Path) -> None:
        """Start the thread."""
        self._thread.start()
        self._put(lambda: self.tracker.open(directory))

    def event(self, event: Event, state: RunState) -> None:
        """An event was recorded; waits while the queue is full, in all no more than ``WAIT_SECONDS``."""
        first = copy.deepcopy(state) if self._state is None else None
        self._state = self._state or first

        def call() -> None:
            assert self._state is not None
            if first is None:
                self._state.apply(event)
            self.tracker.event(event, self._state)

        self._put(call)

    def progress(self, progress: Progress) -> None:
        """A stage got further."""
        self._put_if_free(lambda: self.tracker.progress(progress))

    def metrics(self, step: Step, values: Mapping[str, float]) -> None:
        """A fit logged values."""
        self._put_if_free(lambda: self.tracker.metrics(step, values))

    def close(self) -> None:
        """The session ends; waits for the tracker, ``CLOSE_SECONDS`` at most."""
        self._put(self.tracker.close)
        self._put(None)
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            raise TooSlow(f"it has not closed {CLOSE_SECONDS:g} s after the session's end")
        self._raise_error()

    def _put(self, call: Callable[[], None] | None) -> None:
        self._raise_error()
        began = time.monotonic()
        try:
            self._calls.put(call, timeout=self._patience)
        except queue.Full:
            raise TooSlow(f"the run waited {WAIT_SECONDS:g} s for it, and {SIZE} calls still wait") from None
        self._patience = max(0.0, self._patience - (time.monotonic() - began))

    def _put_if_free(self, call: Callable[[], None]) -> None:
        self._raise_error()
        if not self._calls.full():  # the run's thread alone puts
            self._calls.put_nowait(call)

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call()
            except BaseException as error:
                self._error = error if isinstance(error, Exception) else RuntimeError(repr(error))
                return
