"""The append-only record of a run: one JSON event a line, hash-chained, with HEAD beside it.

A line is canonical JSON (sorted keys, no spaces) of ``{"seq", "prev", "time", "event", ...,
"hash"}``, where ``hash`` is the SHA-256 of the same JSON without ``hash``; ``prev`` is inside, so
that the chain is covered. A line is appended and fsynced first, and has happened; then HEAD is replaced by
its hash:

    HEAD names the last line            nothing happened
    HEAD names the line before a whole  the process died between the two: HEAD is moved on
    HEAD names the line before a torn   the last append did not finish: the torn bytes, which do not end in a
                                        newline, are cut off
    anything else                       somebody, or the disk, changed the file: DamagedError

Reading comes in two strengths. ``verify`` and whoever writes check every line against all of the above.
``read`` checks hashes and the chain over the bytes as they lie, which is several times as fast; what it lets
pass are lines of a forger that are not canonical. Both make typed events of lines: see ``events``.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import hashlib
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from flywheel.errors import DamagedError, DataError
from flywheel.records import as_builtin
from flywheel.storage import events, files
from flywheel.storage.events import Event

Parser = Callable[[bytes, str, int], Event]

GENESIS_HASH = "0" * 64
_RESERVE_BYTES = 64 * 1024
_READ_ATTEMPTS = 100
_MAY_USE_RESERVE = {
    "recalled",
    "rolled_back",
    "pruned",
    "generation_ended",
    "run_failed",
    "run_stopped",
    "run_interrupted",
}
MAX_LINE_BYTES = 16 << 20
_decode = json.JSONDecoder().decode
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def canonical(value: Any) -> bytes:
    """The one JSON text of a value: sorted keys, no spaces, no NaN."""
    return _encode(_plain(value)).encode()


def seal(content: Mapping[str, Any]) -> bytes:
    """The line of an event, with the hash of its content added."""
    plain = _plain(content)
    digest = hashlib.sha256(_encode(plain).encode()).hexdigest()
    return _encode({**plain, "hash": digest}).encode() + b"\n"


def _plain(value: Any) -> Any:
    """Dicts with keys of text, which can be sorted, lists and scalars. Raises ValueError for NaN."""
    return json.loads(json.dumps(value, allow_nan=False, default=_builtins))


def _builtins(value: Any) -> Any:
    return msgspec.to_builtins(value, str_keys=True, enc_hook=as_builtin)


def parse(line: bytes, prev: str, seq: int) -> Event:
    """The event of a line. Raises ValueError with the reason if the line is not the one written."""
    content = _load(line)
    if not isinstance(content, dict) or _encode(content).encode() + b"\n" != line:
        raise ValueError("it is not canonical JSON")
    digest = content.pop("hash", None)
    if hashlib.sha256(_encode(content).encode()).hexdigest() != digest:
        raise ValueError("its content does not match its hash")
    return _follows(events.decode(line), prev, seq)


def parse_quickly(line: bytes, prev: str, seq: int) -> Event:
    """As ``parse``, of the bytes as they lie: see the top of this module."""
    try:
        event = events.decode(line) if len(line) <= MAX_LINE_BYTES and line.endswith(b"}\n") else None
    except ValueError:
        event = None
    if event is None or event.hash != _hash_without(event.hash, line):
        return parse(line, prev, seq)  # it says what is wrong
    return _follows(event, prev, seq)


def _hash_without(said: str, line: bytes) -> str:
    """The hash of the content of a line, which is all of it but ``"hash":"3f...",``."""
    content = line.replace(b'"hash":"%b",' % said.encode(errors="replace"), b"", 1)
    return hashlib.sha256(content[:-1]).hexdigest()


def _follows(event: Event, prev: str, seq: int) -> Event:
    if event.prev != prev or event.seq != seq:
        raise ValueError("it does not follow the line before it")
    return event


def _load(line: bytes) -> Any:
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"it is longer than the {MAX_LINE_BYTES} bytes that a line may have")
    if not line.endswith(b"\n"):
        raise ValueError("it does not end in a newline")
    try:
        return _decode(line.decode())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


@dataclass(slots=True)
class Scan:
    """What reading a ledger file found."""

    events: list[Event] = field(default_factory=list)
    good_bytes: int = 0
    """Length of the valid prefix."""
    bad_line: str | None = None
    """Why the line after the prefix is not valid; None if the file ends there."""
    is_torn: bool = False
    """That line is what an append that was cut off leaves: it does not end in a newline."""
    is_last: bool = False
    """Nothing follows that line."""

    @property
    def head(self) -> str:
        """Hash of the last valid line."""
        return self.events[-1].hash if self.events else GENESIS_HASH

    @property
    def behind(self) -> str:
        """Hash of the line before that."""
        return self.events[-2].hash if len(self.events) > 1 else GENESIS_HASH


def scan(path: Path, parser: Parser = parse) -> Scan:
    """Read the valid prefix of a ledger file, and what is wrong after it."""
    result, head = Scan(), GENESIS_HASH
    with open(path, "rb", buffering=1 << 20) as file, no_garbage_collection():
        for line in iter(partial(file.readline, MAX_LINE_BYTES + 1), b""):
            try:
                event = parser(line, head, len(result.events))
            except ValueError as error:
                result.bad_line = f"line {len(result.events) + 1}: {error}"
                result.is_torn = not line.endswith(b"\n") and len(line) <= MAX_LINE_BYTES
                result.is_last = not file.readline(1)
                break
            result.events.append(event)
            head = event.hash
            result.good_bytes += len(line)
    return result


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """The collector would go through all events again and again while they only become more."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def inspect(directory: Path, parser: Parser = parse) -> tuple[Scan, str | None]:
    """The lines of a run, and why they and HEAD cannot both be what was written (None: they can).

    A writer may overtake the reader between HEAD and the lines: then both are read again.
    """
    head = read_head(directory)
    for _ in range(_READ_ATTEMPTS):
        result = scan(directory / "ledger.jsonl", parser)
        reason = damage(result, head)
        if reason is None or head == (head := read_head(directory)):
            break
    return result, reason


def read(directory: Path) -> list[Event]:
    """The events of a run; a torn last line that HEAD does not name yet is left out.

    Raises DamagedError if the ledger is not what was written.
    """
    return _undamaged(directory, parse_quickly).events


def first_event(directory: Path) -> Event | None:
    """The first line of a run; None if it has none that can be read."""
    try:
        with open(directory / "ledger.jsonl", "rb") as file:
            return parse(file.readline(MAX_LINE_BYTES + 1), GENESIS_HASH, 0)
    except (ValueError, OSError):
        return None


def _undamaged(directory: Path, parser: Parser) -> Scan:
    lines, reason = inspect(directory, parser)
    if reason:
        raise DamagedError(f"{directory} is damaged: {reason}. Restore it from a copy.")
    return lines


def read_head(directory: Path) -> str:
    """The hash in HEAD; that before the first line if there is no HEAD, "damaged" if it is none."""
    try:
        text = (directory / "HEAD").read_bytes()
    except FileNotFoundError:
        return GENESIS_HASH
    return text[:-1].decode() if re.fullmatch(rb"[0-9a-f]{64}\n", text) else "damaged"


def damage(lines: Scan, head: str) -> str | None:
    """Why these lines and this HEAD cannot both be what was written; None if they can."""
    if head == "damaged":
        return "HEAD is not a hash and a newline"
    if lines.bad_line and not (lines.is_torn and head == lines.head):
        may_be_cut = lines.is_last and head == lines.head and head != GENESIS_HASH
        return f"ledger.jsonl: {lines.bad_line}" + (_CUT_IT % lines.good_bytes if may_be_cut else "")
    if head not in (lines.head, lines.behind):
        return f"HEAD is {head[:12]}…, the last line {lines.head[:12]}…: lines were lost, or HEAD was"
    return None


_CUT_IT = (
    ", and HEAD names the line before it. If the power failed while it was written, nothing that was "
    "recorded before is lost: cut it off with `truncate -s %d ledger.jsonl`, and the run goes on from there"
)


class Ledger:
    """The writer's view of a run's ledger. Hold the run's lock while one is open."""

    def __init__(self, directory: Path, *, has_start: bool = False) -> None:
        """Open, and repair what a crash left: see the table above. Raises DamagedError."""
        self._directory = directory
        self._path = directory / "ledger.jsonl"
        files.make_directory(directory)
        if not has_start:  # a fork brings the weights that it starts from
            _refuse_fresh_start(directory)
        if not self._path.exists():
            files.write_atomic(self._path, b"")
        scanned = _undamaged(directory, parse)
        self.events = scanned.events
        self._size = scanned.good_bytes
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        if scanned.bad_line:
            os.ftruncate(self._descriptor, self._size)
            os.fsync(self._descriptor)
        self._is_torn = False
        self._head_is_behind = read_head(directory) != self.head
        if self._head_is_behind:
            self._move_head()
        self._reserve()

    @property
    def head(self) -> str:
        """Hash of the last line."""
        return self.events[-1].hash if self.events else GENESIS_HASH

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def append(self, event: Event) -> Event:
        """Write one event, durably, and move HEAD. Returns it as a reader will see it.

        Raises DataError if it is not as its type says, OSError if the line is not written. If it is and only
        HEAD cannot be moved, nothing is raised: the next append, or whoever opens the ledger next, moves HEAD
        first.
        """
        line, written = self._line(event)
        with _signals_wait():  # a second Ctrl-C must not come between the line and what we know of it
            error = self._put(written, line)
            if error and error.errno in _NO_ROOM and event.event in _MAY_USE_RESERVE:
                # That a full disk ended a generation is worth recording: the reserve makes the room.
                (self._directory / ".reserve").unlink(missing_ok=True)
                error = self._put(written, line)
        if error and len(self.events) == written.seq:
            raise error
        return written  # it has happened, though HEAD may be for the next append to move

    def _line(self, event: Event) -> tuple[bytes, Event]:
        """The line of an event, and the event as whoever reads that line sees it. Raises DataError."""
        place = {"seq": len(self.events), "prev": self.head, "time": round(time.time(), 3)}
        content = {**_builtins(event), **place}
        content.pop("hash", None)  # of an event that was read and is written again
        line = seal(content)
        if len(line) > MAX_LINE_BYTES:
            raise DataError(
                f"An event has at most {MAX_LINE_BYTES} bytes; this {event.event} would have {len(line)}. "
                "Large values are outputs of a stage, which become artifacts, and not facts."
            )
        try:
            return line, events.decode(line)
        except ValueError as error:
            raise DataError(f"An event is as its type says; of this {event.event}, {error}.") from None

    def _put(self, event: Event, line: bytes) -> OSError | None:
        """Append the line, unless that was done, and move HEAD, which is never two lines behind."""
        try:
            if self._head_is_behind:
                self._move_head()
            if len(self.events) == event.seq:
                self._append(line)
                self.events.append(event)
                self._move_head()
        except OSError as error:
            return error
        return None

    def _append(self, line: bytes) -> None:
        if self._is_torn:
            self._cut()
        self._is_torn = True
        try:
            files.append(self._descriptor, line)
        except BaseException:
            self._cut()
            raise
        self._is_torn = False
        self._size += len(line)

    def _cut(self) -> None:
        """Take away what an append that failed has left, so that no line is put after half of one."""
        os.ftruncate(self._descriptor, self._size)
        self._is_torn = False

    def _move_head(self) -> None:
        self._head_is_behind = True
        files.write_atomic(self._directory / "HEAD", self.head.encode() + b"\n")
        self._head_is_behind = False

    def _reserve(self) -> None:
        reserve = self._directory / ".reserve"
        if not reserve.exists():
            with contextlib.suppress(OSError):  # no room now is no reason not to read and go on
                files.write_atomic(reserve, b"\0" * _RESERVE_BYTES)

    def close(self) -> None:
        """Close the file; the ledger cannot be appended to afterwards."""
        if self._head_is_behind:
            with contextlib.suppress(OSError):
                self._move_head()
        os.close(self._descriptor)


def _refuse_fresh_start(directory: Path) -> None:
    """Raise DamagedError if there was a run here: what cannot go on must not begin anew."""
    ledger = directory / "ledger.jsonl"
    if not (ledger.exists() and ledger.stat().st_size) and (directory / "objects").exists():
        raise DamagedError(
            f"Expected lines in ledger.jsonl, since {directory} has artifacts; got none. "
            "Restore it from a copy, or give another name= to start anew."
        )


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back until the block ends."""
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
