"""One run at a time in a process: runs draw from the generators that Python, NumPy and torch share.

A second one beside it, or a model that another thread builds meanwhile, would take numbers from the first,
and both would become something else than they are alone, silently.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flywheel.errors import RunError

_guard = threading.Lock()
_running: tuple[Path, int] | None = None
"""The run of this process and the thread that runs it."""


@contextmanager
def only_run(directory: Path) -> Iterator[None]:
    """For the length of a run, or of what trains like one. Raises RunError if there is one already."""
    global _running  # noqa: PLW0603 - the generators are the process's, too
    with _guard:
        if _running is not None:
            _refuse(f"{directory} cannot be run", _running[0])
        _running = (directory, threading.get_ident())
    try:
        yield
    finally:
        _running = None


def refuse_beside_a_run(what: str) -> None:
    """Raise RunError if another thread runs a run. Within a stage, ``what`` belongs to the stage."""
    running = _running
    if running is not None and running[1] != threading.get_ident():
        _refuse(what, running[0])


def _refuse(what: str, directory: Path) -> None:
    raise RunError(
        f"A process runs one run at a time, as its random generators are shared: {what} while {directory} is "
        "running here. Wait until that has ended, or use another process."
    )
