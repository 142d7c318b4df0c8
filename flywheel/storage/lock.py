"""One writer a run.

POSIX record locks rather than ``flock``: a forked data-loading worker does not inherit them, so
that a killed run is free at once even while an orphaned worker lives. They belong to the process,
not to the file object, hence the registry of runs that this process writes.
"""

from __future__ import annotations

import fcntl
import os
import time
from enum import StrEnum
from pathlib import Path
from typing import NoReturn

from flywheel.errors import LockedError

_ATTEMPTS, _PAUSE_SECONDS = 20, 0.02


class Work(StrEnum):
    """What a run's writer does with it; it is in the lock file after the process's name."""

    RUN = "run"
    PRUNE = "prune"
    RECALL = "recall"
    ROLLBACK = "rollback"
    REVIEW = "review"

    @property
    def passive(self) -> str:
        """What is done to the run, e.g. "pruned"."""
        done = {"run": "run", "prune": "pruned", "recall": "recalled from", "rollback": "rolled back"}
        return {**done, "review": "reviewed"}[self]


_held: dict[Path, tuple[int, Work]] = {}


def acquire(directory: Path, work: Work = Work.RUN) -> None:
    """Become the run's writer. Raises LockedError, naming the process that is."""
    path = _path(directory)
    if path in _held:
        refuse(directory)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    if not _lock(descriptor):
        os.close(descriptor)
        refuse(directory)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"process {os.getpid()} on {os.uname().nodename}: {work}".encode())
    _held[path] = descriptor, work


def _path(directory: Path) -> Path:
    """The lock's one name; the lock itself is never followed, as it would be written to."""
    return directory.resolve() / "lock"


def _lock(descriptor: int) -> bool:
    """Try for a moment: whoever asks ``is_held`` holds a shared lock for an instant."""
    for _ in range(_ATTEMPTS):
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(_PAUSE_SECONDS)
        else:
            return True
    return False


def refuse(directory: Path) -> NoReturn:
    """Raise LockedError, naming the process that is the writer."""
    holder, work = "this process", work_under_way(directory)
    if _path(directory) not in _held:  # this process must not open the file: closing it gives up its lock
        holder = (directory / "lock").read_text(errors="replace").rpartition(": ")[0] or "another process"
    stop = f"stop it with `python -m flywheel stop {directory}`, " if work in (Work.RUN, None) else ""
    raise LockedError(
        f"A run has one writer: {directory} is being {(work or Work.RUN).passive} by {holder}. "
        f"Wait for it, {stop}or give another name=."
    )


def release(directory: Path) -> None:
    """Stop being the run's writer, if this process is."""
    descriptor, _ = _held.pop(_path(directory), (None, None))
    if descriptor is not None:
        os.close(descriptor)


def is_held(directory: Path) -> bool:
    """Whether a living process is the run's writer."""
    return work_under_way(directory) is not None


def work_under_way(directory: Path) -> Work | None:
    """What the run's writer does with it; None if no living process is its writer."""
    path = _path(directory)
    if path in _held:
        return _held[path][1]
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        word = os.read(descriptor, 1 << 12).decode(errors="replace").rpartition(": ")[2]
        return Work(word) if word in list(Work) else Work.RUN
    finally:
        os.close(descriptor)
    return None
