"""Stops on all ranks at a step boundary: asked for by Ctrl-C, SIGTERM, a file or the budget."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from flywheel import ranks
from flywheel.errors import Interrupted, StopRequested

_LOOK_EVERY_SECONDS = 0.25
_AGREE_EVERY_STEPS = 10


class Stop:
    """Whether the run should stop. ``check`` is to be called by all ranks at the same points."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "stop"
        self._by: str | None = None
        self._pid = os.getpid()
        self._next_look = 0.0
        self._reached: Callable[[], str | None] = lambda: None
        self._calls = self._signals = 0

    def hold(self, reached: Callable[[], str | None]) -> None:
        """Stop once ``reached()``, on rank 0, says which limit of the budget is reached."""
        self._reached = reached

    @property
    def asked(self) -> bool:
        """Whether a signal or file asked this rank to stop."""
        return self._by is not None

    @property
    def by(self) -> str:
        """Who asked."""
        return self._by or "another rank"

    def check(self) -> None:
        """Raise StopRequested if a stop was asked for on any rank. Cheap enough for every step."""
        if ranks.world_size() > 1:
            self._calls += 1  # those that a rank makes alone are no other's
            if self._calls % _AGREE_EVERY_STEPS:
                return
        self.check_unit()

    def check_unit(self) -> None:
        """The same, before units: they are longer than steps, so that ranks agree every time."""
        self._look()
        if ranks.any_rank(self.asked):
            raise StopRequested(self.by)

    def _look(self) -> None:
        now = time.monotonic()
        if self._by is None and ranks.rank() == 0:
            self._by = self._reached()
        if self._by is None and ranks.rank() == 0 and now >= self._next_look:
            self._next_look = now + _LOOK_EVERY_SECONDS
            if self._file.exists():
                self._by = "`flywheel stop`"

    def consume(self) -> None:
        """Remove the stop file, so that the resumed run does not stop at once."""
        if ranks.rank() == 0:
            self._file.unlink(missing_ok=True)

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """Answer SIGINT and SIGTERM while the block runs: once stops, twice interrupts."""
        old = self.listen()
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def listen(self) -> dict[signal.Signals, Any]:
        """Install the handlers, also over those of a library; returns the handlers before."""
        if threading.current_thread() is not threading.main_thread():
            return {}  # signals cannot be handled here, e.g. in a notebook's worker thread
        return {s: signal.signal(s, self._handle) for s in (signal.SIGINT, signal.SIGTERM)}

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a forked worker has inherited us
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        self._signals += 1
        if self._signals > 1:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            raise Interrupted(name)
        self._by = name
        if ranks.rank() == 0:
            os.write(2, f"\n{name}: stopping at the next step; once more stops now.\n".encode())


def request(directory: Path) -> None:
    """Ask the process that runs ``directory`` to stop."""
    (directory / "stop").touch()
