"""A tracker behind a bounded queue, in a thread of its own: however slow, it does not hold up the run.

What a run may lose to all its trackers together: ``WAIT_SECONDS`` while it goes on, ``CLOSE_SECONDS`` when
its session ends, and ``EXIT_SECONDS`` when the process ends, with what is left of ``CLOSE_SECONDS``.
"""

from __future__ import annotations

import copy
import os
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from flywheel.trackers.base import ignores

if TYPE_CHECKING:
    from pathlib import Path

    from flywheel.protocols import Tracker
    from flywheel.records import Progress, Step
    from flywheel.storage.events import Event
    from flywheel.storage.state import RunState

SIZE = 4000
"""Calls that may wait for a tracker; progress and metrics take half at most, so that events find room."""
WAIT_SECONDS = 3.0
"""How long a run waits at events for trackers whose queues are full."""
CLOSE_SECONDS = 9.0
"""How long a session that ends waits for trackers to take what is left, e.g. to upload it."""
EXIT_SECONDS = 2.0
"""How long a process that ends waits for what trackers left behind, e.g. threads or hooks of ``atexit``."""
EVENT, METRICS, PROGRESS = "events", "metrics", "progress reports"


class TooSlow(Exception):
    """A tracker did not take what happened in time."""


class Patience:
    """The seconds that are left to wait, for all trackers of a run together."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def wait(self, condition: threading.Condition, until: Callable[[], bool]) -> bool:
        """Wait for a condition that is held; whether it came."""
        began = time.monotonic()
        came = condition.wait_for(until, timeout=self.seconds)
        self.seconds = max(0.0, self.seconds - (time.monotonic() - began))
        return came


class Queued:
    """Hands calls on to a tracker, in order. What it raised, or that it is too slow, the next call raises.

    Events are never dropped. Progress and metrics are, while half of the queue is taken, and they are
    counted. The tracker sees a state of its own, which is as the run's was when the event was recorded.
    """

    def __init__(self, tracker: Tracker, patience: Patience) -> None:
        self.tracker = tracker
        self.missed: Counter[str] = Counter()
        """How many calls of each kind never reached it."""
        self._patience = patience
        self._calls: deque[tuple[str, Callable[[], None]]] = deque()
        self._changed = threading.Condition()
        self._is_closing = self._has_ended = False
        self._thread = threading.Thread(target=self._work, name=type(tracker).__name__, daemon=True)
        self._state: RunState | None = None
        self._error: Exception | None = None

    def open(self, directory: Path) -> None:
        """Start the thread."""
        bound_exit.is_needed |= not getattr(self.tracker, "leaves_nothing", False)
        self._thread.start()
        self._put(EVENT, lambda: self.tracker.open(directory))

    def event(self, event: Event, state: RunState) -> None:
        """An event was recorded; waits while the queue is full, as long as there is patience left."""
        first = copy.deepcopy(state) if self._state is None else None
        self._state = self._state or first

        def call() -> None:
            assert self._state is not None
            if first is None:
                self._state.apply(event)
            self.tracker.event(event, self._state)

        self._put(EVENT, call)

    def progress(self, progress: Progress) -> None:
        """A stage got further."""
        if not ignores(self.tracker, "progress"):
            self._put(PROGRESS, lambda: self.tracker.progress(progress))

    def metrics(self, step: Step, values: Mapping[str, float]) -> None:
        """A fit logged values."""
        own = dict(values)
        if not ignores(self.tracker, "metrics"):
            self._put(METRICS, lambda: self.tracker.metrics(step, own))

    def close(self) -> None:
        """The session ends: let the tracker take what is left, and close; see ``wait_closed``."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()

    def wait_closed(self, patience: Patience) -> None:
        """Wait for the tracker to have closed. Raises what it raised, or TooSlow."""
        with self._changed:
            if not patience.wait(self._changed, lambda: self._has_ended):
                self._skip()
                raise TooSlow("it had not closed in time when the session ended")
        self._raise_error()

    def miss(self, kind: str) -> None:
        """Count a call of a kind that never reaches it, if it does something with such calls."""
        call = {METRICS: "metrics", PROGRESS: "progress"}.get(kind, "event")
        if not ignores(self.tracker, call):
            self.missed[kind] += 1

    def leave(self) -> None:
        """Leave the tracker behind."""
        with self._changed:
            self._is_closing = True
            self._skip()
            self._changed.notify_all()

    def _put(self, kind: str, call: Callable[[], None]) -> None:
        with self._changed:
            self._raise_error()
            if kind != EVENT and len(self._calls) >= SIZE // 2:
                self.missed[kind] += 1
                return
            if len(self._calls) >= SIZE and not self._patience.wait(
                self._changed, lambda: len(self._calls) < SIZE or self._error is not None
            ):
                raise TooSlow(f"{len(self._calls)} calls wait for it, and the run waits no longer")
            self._raise_error()
            self._calls.append((kind, call))
            self._changed.notify_all()

    def _skip(self) -> None:
        """Empty the queue; what was in it is counted."""
        self.missed.update(kind for kind, _ in self._calls)
        self._calls.clear()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            while (call := self._next()) is not None:
                call()
        except BaseException as error:
            with self._changed:
                self._error = _as_exception(error)
                self._skip()
        try:
            self.tracker.close()
        except BaseException as error:
            self._error = self._error or _as_exception(error)
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def _next(self) -> Callable[[], None] | None:
        """The next call, once there is one; None: there is none left, and the session ends."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._calls) or self._is_closing)
            if not self._calls:
                return None
            _, call = self._calls.popleft()
            self._changed.notify_all()
            return call


def _as_exception(error: BaseException) -> Exception:
    """What a tracker raised, so that the run does not take it for its own, e.g. a KeyboardInterrupt."""
    return error if isinstance(error, Exception) else RuntimeError(repr(error))


class _BoundExit:
    """Ends the process if it does not end by itself in the seconds that trackers may still cost it.

    A tracker may leave threads behind that the interpreter would wait for, or hooks of ``atexit``: W&B's
    waits for its own process. What others have such hooks for has as long, e.g. a recipe's own logger.
    """

    is_needed = False
    waited = 0.0
    """Seconds that the last session waited for its trackers to close."""

    def __call__(self, code: int) -> None:
        """``code``: what the process ends with."""
        if self.is_needed:
            seconds = EXIT_SECONDS + max(0.0, CLOSE_SECONDS - self.waited)
            timer = threading.Timer(seconds, _exit_now, [code])
            timer.daemon = True
            timer.start()


def _exit_now(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code)


bound_exit = _BoundExit()
