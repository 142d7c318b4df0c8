"""Processes that call a function on samples, with a time limit for each: one that hangs or crashes costs one.

They are started afresh (never forked: this process has threads), do not see a Ctrl-C meant for this one, and
die with it. A worker that is too slow is ended with all that it started, and another one goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import selectors
import signal
import struct
import subprocess
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flywheel.errors import DataError

_SCRIPT = Path(__file__).with_name("worker.py")
_ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),  # one core each
    "PYTHONHASHSEED": "0",  # the order of a set does not depend on which worker was asked
}
_START_SECONDS = 120.0
"""A worker that has not imported the function by then never will."""
_BATCH = 32
"""Rows that are handed to a worker at once, at most."""
_CHUNK = 1 << 16

Row = tuple[Mapping[str, Any], int]
"""A sample, and the seed of the global generators for it."""


@dataclass(eq=False, slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    outgoing: bytearray
    """What is still to be written to it."""
    deadline: float
    """When it is too slow with what it is at."""
    is_ready: bool = False
    rows: deque[int] = field(default_factory=deque)
    """The rows that it was handed and has not answered; it is at the first one."""
    incoming: bytearray = field(default_factory=bytearray)

    @classmethod
    def start(cls, function: bytes) -> _Worker:
        """A new process, which is to import the function."""
        process = subprocess.Popen(
            [sys.executable, str(_SCRIPT), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **_ENVIRONMENT},
            start_new_session=True,
        )
        os.set_blocking(process.stdin.fileno(), False)  # type: ignore[union-attr] # it is a pipe
        first = _block(pickle.dumps(sys.path)) + _block(function)
        return cls(process, bytearray(first), time.monotonic() + _START_SECONDS)

    @property
    def is_idle(self) -> bool:
        return self.is_ready and not self.rows

    def hand(self, rows: Sequence[int], block: bytes, seconds: float) -> None:
        """Hand it rows, so many seconds for each."""
        self.rows.extend(rows)
        self.outgoing += _block(block)
        self.deadline = time.monotonic() + seconds

    def write(self) -> None:
        """Write what the pipe takes."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError):  # of a dead one the end is read
            assert self.process.stdin is not None
            del self.outgoing[: os.write(self.process.stdin.fileno(), self.outgoing[:_CHUNK])]

    def read(self) -> list[dict[str, Any]] | None:
        """What it answered since; None: its output has ended."""
        assert self.process.stdout is not None
        data = os.read(self.process.stdout.fileno(), _CHUNK)
        self.incoming += data
        *lines, rest = self.incoming.split(b"\n")
        self.incoming = bytearray(rest)
        return [json.loads(line) for line in lines] if data else None

    def end(self) -> int:
        """End it and all that it started; return how it ended, as ``Popen.returncode``."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        code = self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
        return code


def _block(data: bytes) -> bytes:
    return struct.pack(">Q", len(data)) + data


class Pool:
    """Workers, started when they are needed and kept until ``close``."""

    def __init__(self, function: Callable[[Mapping[str, Any]], Any], workers: int, seconds: float) -> None:
        """``seconds``: how long a sample may take. Raises DataError if the function cannot be handed over."""
        try:
            self._function = pickle.dumps(function)
        except Exception as error:
            raise DataError(_not_importable(function, str(error))) from error
        self._callable, self._seconds, self._size = function, seconds, workers
        self._workers: list[_Worker] = []
        self._close = weakref.finalize(self, _end_all, self._workers)

    def close(self) -> None:
        """End all workers. The pool may be used again."""
        _end_all(self._workers)

    def scores(self, rows: Sequence[Row]) -> list[float | str]:
        """Of each row its score, or why it has none. Raises DataError if the function cannot be imported."""
        self._workers[:] = [worker for worker in self._workers if self._is_fit(worker)]
        call = _Call(rows, deque(range(len(rows))), [None] * len(rows))
        try:
            while call.unanswered:
                self._assign(call)
                self._wait(call)
        except BaseException:
            self.close()  # what they are at is of nobody any more
            raise
        return [answer for answer in call.answers if answer is not None]

    def _is_fit(self, worker: _Worker) -> bool:
        """Whether a worker of an earlier call is still there; one may have ended with a thread of ours."""
        if worker.process.poll() is None:
            return True
        worker.end()
        return False

    def _assign(self, call: _Call) -> None:
        """Hand rows to workers that are idle, and start some if rows are left."""
        share = max(1, min(_BATCH, len(call.rows) // (4 * self._size)))
        for worker in self._workers:
            if worker.is_idle and call.waiting:
                rows = [call.waiting.popleft() for _ in range(min(share, len(call.waiting)))]
                worker.hand(rows, pickle.dumps([call.rows[row] for row in rows]), self._seconds)
        starting = sum(not worker.is_ready for worker in self._workers)
        while len(self._workers) < self._size and len(call.waiting) > starting:
            self._workers.append(_Worker.start(self._function))
            starting += 1

    def _wait(self, call: _Call) -> None:
        """Until something was answered or a worker is too slow, and see to it."""
        busy = [worker for worker in self._workers if not worker.is_idle]
        with selectors.DefaultSelector() as selector:
            for worker in busy:
                assert worker.process.stdout is not None
                selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
                if worker.outgoing:
                    assert worker.process.stdin is not None
                    selector.register(worker.process.stdin, selectors.EVENT_WRITE, worker)
            now = time.monotonic()
            events = selector.select(max(0.0, min(worker.deadline for worker in busy) - now))
        for key, mask in events:
            if mask & selectors.EVENT_WRITE:
                key.data.write()
        for key, mask in events:
            if mask & selectors.EVENT_READ:
                self._read(key.data, call)
        heard = {id(key.data) for key, mask in events if mask & selectors.EVENT_READ}
        for worker in busy:
            if id(worker) not in heard and worker.deadline <= time.monotonic():
                self._lose(worker, call, f"timed out after {self._seconds:g} s")

    def _read(self, worker: _Worker, call: _Call) -> None:
        answers = worker.read()
        if answers is None:
            return self._lose(worker, call, None)
        for answer in answers:
            if "error" in answer:
                raise DataError(_not_importable(self._callable, answer["error"]))
            if worker.is_ready:
                call.answer(
                    worker.rows.popleft(), answer["score"] if "score" in answer else answer["failure"]
                )
            worker.is_ready = True
            worker.deadline = time.monotonic() + self._seconds
        return None

    def _lose(self, worker: _Worker, call: _Call, reason: str | None) -> None:
        """End a worker; the row that it is at has no score, those after it are for another one."""
        self._workers.remove(worker)
        code = worker.end()
        reason = reason or _how(code)
        if not worker.is_ready:
            raise DataError(_not_importable(self._callable, f"{reason} while it was imported"))
        if worker.rows:
            call.answer(worker.rows.popleft(), reason)
        call.waiting.extendleft(reversed(worker.rows))


@dataclass(slots=True)
class _Call:
    """The rows of one call, and what was answered so far."""

    rows: Sequence[Row]
    waiting: deque[int]
    answers: list[float | str | None]
    answered: int = 0

    @property
    def unanswered(self) -> int:
        return len(self.rows) - self.answered

    def answer(self, row: int, answer: float | str) -> None:
        self.answers[row] = answer
        self.answered += 1


def _how(code: int) -> str:
    """How a process ended that was not asked to, e.g. ``its process died by SIGSEGV``."""
    if code < 0:
        return f"its process died by {signal.Signals(-code).name}"
    return f"its process left with exit code {code}"


def _not_importable(function: Any, why: str) -> str:
    return (
        "The function of a verifier must be importable by another process: name one of a module, not of a "
        f"notebook, a lambda or an inner one. {function!r} cannot be had there:\n{why}"
    )


def _end_all(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.end()
    workers.clear()
