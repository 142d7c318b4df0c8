"""Trackers that do a run what harm they can. ``TRACKER_PATIENCE`` divides the seconds that a run waits."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flywheel.trackers import NoTracker, queued
from tests.support.harness import wait_until

for name in ("WAIT_SECONDS", "CLOSE_SECONDS", "EXIT_SECONDS"):
    setattr(queued, name, getattr(queued, name) / float(os.environ.get("TRACKER_PATIENCE", "1")))


class _Every(NoTracker):
    """Does the same at every call."""

    def do(self, call: str) -> None:
        raise NotImplementedError

    def open(self, directory: Path) -> None:
        self.do("open")

    def event(self, event: Any, state: Any) -> None:
        self.do("event")

    def progress(self, progress: Any) -> None:
        self.do("progress")

    def metrics(self, step: Any, values: Any) -> None:
        self.do("metrics")

    def close(self) -> None:
        self.do("close")


@dataclass
class Sleeps(_Every):
    seconds: float = 10.0

    def do(self, call: str) -> None:
        time.sleep(self.seconds)


class Refuses(BaseException):
    pass


@dataclass
class Raises(_Every):
    """``at``: a call; ``kind``: of the exception."""

    at: str
    kind: str = "RuntimeError"

    def do(self, call: str) -> None:
        if call == self.at:
            kinds = (RuntimeError, SystemExit, KeyboardInterrupt, Refuses)
            raise {kind.__name__: kind for kind in kinds}[self.kind]("on purpose\x1b[2J")


class Unreachable(NoTracker):
    """Its server does not answer when it is built."""

    def __init__(self) -> None:
        raise ConnectionRefusedError("no server at tracker.example")


@dataclass
class Lingers(NoTracker):
    """Leaves behind a thread and a hook for which the interpreter waits when it ends."""

    seconds: float = 60.0

    def open(self, directory: Path) -> None:
        threading.Thread(target=time.sleep, args=[self.seconds], daemon=False).start()
        atexit.register(time.sleep, self.seconds)


class OwnProcess(NoTracker):
    """Works in a process of its own, which dies at the second event."""

    def open(self, directory: Path) -> None:
        read = [sys.executable, "-c", "import sys\nfor k, _ in zip(range(2), sys.stdin): pass"]
        self._process = subprocess.Popen(read, stdin=subprocess.PIPE, text=True)

    def event(self, event: Any, state: Any) -> None:
        assert self._process.stdin is not None
        print(event.event, file=self._process.stdin, flush=True)
        time.sleep(0.05)

    def close(self) -> None:
        self._process.kill()


@dataclass
class KillsWandb(NoTracker):
    """Kills the process of the tracker beside it, W&B's, once it is there."""

    synchronous = True
    killed: bool = False

    def event(self, event: Any, state: Any) -> None:
        if event.event == "generation_ended" and not self.killed:
            pid = wait_until(lambda: next(children("wandb-core"), None), "process of W&B")
            os.kill(pid, signal.SIGKILL)
            self.killed = True


def children(name: str) -> Iterator[int]:
    """Processes of this name that this process began."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            pid, _, rest = path.read_text().partition(f" ({name}) ")
            if rest and int(rest.split()[1]) == os.getpid():
                yield int(pid)


class FullDisk(NoTracker):
    """Writes to a disk on which nothing is left."""

    def event(self, event: Any, state: Any) -> None:
        with open("/dev/full", "w") as file:
            file.write(event.event)
