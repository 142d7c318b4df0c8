"""The report of a run, drawn anew while the run goes on and when it ends, by a process of its own.

That process runs ``python -m flywheel report`` at low priority, and never two at once. What it may take of a
run's time is limited: see ``SHARE``. A failure is said once, at the end.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from typing import IO, TYPE_CHECKING

from flywheel.report import FILE
from flywheel.trackers.base import NoTracker

if TYPE_CHECKING:
    from pathlib import Path

    from flywheel.records import Progress
    from flywheel.storage.events import Event
    from flywheel.storage.state import RunState

SHARE = 0.01
"""Of a session's wall time: what redrawing may take while it goes on. The drawing at its end comes on top."""
FIRST_SECONDS = 3.0
"""What the first drawing is expected to take; the next ones what the last one took."""
MOST_SECONDS = 120.0
"""A drawing that takes longer is ended: a recipe's ``show`` may hang."""
END_SECONDS = 8.0
"""How long a run that ends waits for its report; less than it waits for trackers at all."""
SWITCH = "FLYWHEEL_REPORT"
"""Environment variable; ``none``: no run draws its report by itself, whatever is configured, as in tests."""
_DRAWN_BY = ("altair", "vl_convert")
_DRAWN_AT = frozenset({"run_finished", "run_stopped", "run_failed", "run_awaiting_review"})
_NOT_OF_A_RANK = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID")


def redraw(mode: str) -> Redraw | None:
    """The tracker that ``report=MODE`` asks for; None with ``none``, or without the extra ``report``."""
    is_none = "none" in (mode, os.environ.get(SWITCH)) or not all(map(find_spec, _DRAWN_BY))
    return None if is_none else Redraw(during=mode == "auto")


def drawn_report(directory: Path) -> Path | None:
    """The report in a run's directory; None if there is none, or the run went on since it was drawn."""
    report, ledger = directory / FILE, directory / "ledger.jsonl"
    is_current = report.is_file() and report.stat().st_mtime_ns >= ledger.stat().st_mtime_ns
    return report if is_current else None


class DrawingFailed(Exception):
    """The report could not be drawn."""


class Redraw(NoTracker):
    """Draws the report when a run ends, and with ``during`` after generations, too, within ``SHARE``."""

    leaves_nothing = True
    """Its process is ended by ``close``: nothing holds up the end of the run's."""

    def __init__(self, *, during: bool) -> None:
        self._during = during
        self._directory: Path | None = None
        self._began = time.monotonic()
        self._drawing: _Drawing | None = None
        """The one that is on."""
        self._last: _Drawing | None = None
        """The one of the run's end."""
        self._spent, self._expected = 0.0, FIRST_SECONDS

    def open(self, directory: Path) -> None:
        """Note where the run is."""
        self._directory, self._began = directory, time.monotonic()

    def progress(self, progress: Progress) -> None:
        """See whether a drawing has ended."""
        self._note_end()

    def event(self, event: Event, state: RunState) -> None:
        """Begin to draw, if it is time."""
        assert self._directory is not None, "a session is opened before anything happens in it"
        self._note_end()
        if event.event in _DRAWN_AT:
            self._kill()  # it draws what was before
            self._drawing = self._last = _Drawing.of(self._directory)
        elif self._during and event.event == "generation_ended" and self._may_draw():
            self._drawing = _Drawing.of(self._directory, nice=10)

    def close(self) -> None:
        """Wait for the drawing of the run's end. Raises DrawingFailed."""
        if self._last is not None:
            self._last.wait(END_SECONDS)
        self._note_end()
        is_late = self._drawing is not None and self._drawing is self._last
        self._kill()
        if is_late:
            raise DrawingFailed(f"it was not drawn within {END_SECONDS:g} s of the run's end{_REMEDY}")

    def _may_draw(self) -> bool:
        limit = SHARE * (time.monotonic() - self._began)
        return self._drawing is None and self._spent + self._expected <= limit

    def _note_end(self) -> None:
        """Note what a drawing took that has ended. Raises DrawingFailed for that of the run's end.

        One before it that failed or took too long is the last one until then.
        """
        drawing = self._drawing
        if drawing is None:
            return
        code, seconds = drawing.process.poll(), time.monotonic() - drawing.began
        if code is None and seconds > MOST_SECONDS and drawing is not self._last:
            self._kill()
            self._during = False
        if code is not None:
            self._drawing, self._expected = None, seconds
            self._spent += seconds
            self._during &= code == 0
            said = drawing.said()
            if code != 0 and drawing is self._last:
                raise DrawingFailed(f"{said or f'exit code {code}'}{_REMEDY}")

    def _kill(self) -> None:
        if self._drawing is not None:
            self._drawing.kill()
            self._drawing = None


_REMEDY = "; `python -m flywheel report RUN` draws it, and report=none does without"


@dataclass(frozen=True, slots=True)
class _Drawing:
    """A process that draws."""

    process: subprocess.Popen[bytes]
    began: float
    errors: IO[bytes]

    @classmethod
    def of(cls, directory: Path, nice: int = 0) -> _Drawing:
        out = str(directory / FILE)
        command = [sys.executable, "-m", "flywheel", "report", str(directory), "--out", out]
        own = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "CUDA_VISIBLE_DEVICES": ""}
        own |= {"OMP_NUM_THREADS": "1"}
        inherited = {name: value for name, value in os.environ.items() if name not in _NOT_OF_A_RANK}
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - it is read when the process has ended
        process = subprocess.Popen(
            command,
            env=inherited | own,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,  # Ctrl-C is for the run
        )
        if nice:
            with contextlib.suppress(OSError):  # it has ended already
                os.setpriority(os.PRIO_PROCESS, process.pid, nice)
        return cls(process, time.monotonic(), errors)

    def wait(self, seconds: float) -> None:
        """Until it ends, but no longer than so many seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)

    def said(self) -> str:
        """The last line that it wrote as an error; empty: none. Afterwards it is done with."""
        with self.errors:
            self.errors.seek(0)
            lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def kill(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        self.errors.close()
