"""One writer a run.

POSIX record locks rather than ``flock``: a forked data-loading worker does not inherit them, so
that a killed run is free at once even while an orphaned worker lives. They belong to the process,
not to the file object, hence the registry of runs that this process writes.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from pathlib import Path
from typing import NoReturn

from flywheel.errors import LockedError

_ATTEMPTS, _PAUSE_SECONDS = 20, 0.02
_held: dict[Path, int] = {}


def acquire(directory: Path) -> None:
    """Become the run's writer. Raises LockedError, naming the process that is."""
    path = _path(directory)
    if path in _held:
        refuse(directory)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    if not _lock(descriptor):
        os.close(descriptor)
        refuse(directory)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
    _held[path] = descriptor


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
    holder = "this process"  # which must not open the file: closing it again would give up its lock
    if _path(directory) not in _held:
        holder = (directory / "lock").read_text(errors="replace").strip() or "another process"
    raise LockedError(
        f"A run has one writer: {directory} is being written by {holder}. "
        f"Wait for it, stop it with `python -m flywheel stop {directory}`, or give another name=."
    )


def release(directory: Path) -> None:
    """Stop being the run's writer, if this process is."""
    descriptor = _held.pop(_path(directory), None)
    if descriptor is not None:
        os.close(descriptor)


def is_held(directory: Path) -> bool:
    """Whether a living process is the run's writer."""
    path = _path(directory)
    if path in _held:
        return True
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
