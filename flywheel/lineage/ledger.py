"""The append-only record of a run: one JSON event a line, hash-chained, with HEAD beside it.

A line is canonical JSON (sorted keys, no spaces) of ``{"seq", "prev", "time", "event", ...,
"hash"}``, where ``hash`` is the SHA-256 of the same JSON without ``hash``; ``prev`` is inside, so
that the chain is covered. A line is appended and fsynced first, then HEAD is replaced by its hash:

    HEAD names the last line            nothing happened
    HEAD names the line before a whole  the process died between the two: HEAD is moved on
    HEAD names the line before a torn   the last append did not finish: the torn bytes are cut off
    anything else                       somebody changed the file: DamagedError
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flywheel.errors import DamagedError
from flywheel.lineage import files

Event = dict[str, Any]

GENESIS_HASH = "0" * 64
_RESERVE_BYTES = 64 * 1024
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def canonical(value: Any) -> bytes:
    """The one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def seal(event: Event) -> bytes:
    """The event's line, with its hash added to it."""
    event["hash"] = hashlib.sha256(canonical(event)).hexdigest()
    return canonical(event) + b"\n"


def parse(line: bytes, prev: str, seq: int) -> Event:
    """The event of a line. Raises ValueError with the reason if the line is not the one written."""
    if not line.endswith(b"\n"):
        raise ValueError("it does not end in a newline")
    event = json.loads(line)
    if not isinstance(event, dict) or canonical(event) + b"\n" != line:
        raise ValueError("it is not canonical JSON")
    content = {key: value for key, value in event.items() if key != "hash"}
    if hashlib.sha256(canonical(content)).hexdigest() != event.get("hash"):
        raise ValueError("its content does not match its hash")
    if event.get("prev") != prev or event.get("seq") != seq:
        raise ValueError("it does not follow the line before it")
    return event


@dataclass(slots=True)
class Scan:
    """What reading a ledger file found."""

    events: list[Event] = field(default_factory=list)
    good_bytes: int = 0
    """Length of the valid prefix."""
    bad_line: str | None = None
    """Why the line after the prefix is not valid; None if the file ends there."""
    bad_is_last: bool = False

    @property
    def head(self) -> str:
        """Hash of the last valid line."""
        return self.events[-1]["hash"] if self.events else GENESIS_HASH


def scan(path: Path) -> Scan:
    """Read the valid prefix of a ledger file, and what is wrong after it."""
    found = Scan()
    with open(path, "rb") as file:
        for line in file:
            try:
                found.events.append(parse(line, found.head, len(found.events)))
            except ValueError as error:
                found.bad_line = f"line {len(found.events) + 1}: {error}"
                found.bad_is_last = not file.readline()
                break
            found.good_bytes += len(line)
    return found


def read(directory: Path) -> list[Event]:
    """The events of a run, for readers: a torn last line that HEAD does not name yet is left out.

    Raises DamagedError if the ledger is not what was written.
    """
    head = read_head(directory)  # before the lines, which may grow meanwhile
    found = scan(directory / "ledger.jsonl")
    reason = damage(found, head)
    if reason:
        raise DamagedError(
            f"{directory / 'ledger.jsonl'} is damaged: {reason}. "
            "Restore the file from a copy; `verify` lists what else is affected."
        )
    return found.events


def read_head(directory: Path) -> str:
    """The content of HEAD, or the hash before the first line if there is none yet."""
    try:
        return (directory / "HEAD").read_text().strip()
    except FileNotFoundError:
        return GENESIS_HASH


def damage(found: Scan, head: str) -> str | None:
    """Why lines and HEAD cannot both be what was written; None if they can."""
    known = [GENESIS_HASH, *(event["hash"] for event in found.events)]
    if head not in known:
        return f"HEAD is {head[:12]}…, which no valid line has (first bad: {found.bad_line})"
    if found.bad_line and not (found.bad_is_last and head == found.head):
        return found.bad_line
    return None


class Ledger:
    """The writer's view of a run's ledger. Hold the run's lock while one is open."""

    def __init__(self, directory: Path, listener: Callable[[Event], None] | None = None) -> None:
        """Open, and repair what a crash left: see the table above. Raises DamagedError."""
        self._directory = directory
        self._listener = listener
        self._path = directory / "ledger.jsonl"
        files.make_directory(directory)
        if not self._path.exists():
            files.write_atomic(self._path, b"")
        self.events = read(directory)
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        found = scan(self._path)
        if found.bad_line:
            os.ftruncate(self._descriptor, found.good_bytes)
            os.fsync(self._descriptor)
        self._size = found.good_bytes
        if read_head(directory) != self.head:
            self._move_head()
        self._reserve()

    @property
    def head(self) -> str:
        """Hash of the last line."""
        return self.events[-1]["hash"] if self.events else GENESIS_HASH

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def append(self, event: str, **content: Any) -> Event:
        """Write one event, durably, and move HEAD."""
        record: Event = {
            "seq": len(self.events),
            "prev": self.head,
            "time": round(time.time(), 3),
            "event": event,
            **content,
        }
        line = seal(record)
        try:
            self._write(line)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            # A full disk is a fact worth recording: the reserve makes the room for it.
            (self._directory / ".reserve").unlink(missing_ok=True)
            self._write(line)
        self._size += len(line)
        self.events.append(record)
        self._move_head()
        if self._listener:
            self._listener(record)
        return record

    def _write(self, line: bytes) -> None:
        try:
            files.append(self._descriptor, line)
        except OSError:
            os.ftruncate(self._descriptor, self._size)
            raise

    def _move_head(self) -> None:
        try:
            files.write_atomic(self._directory / "HEAD", self.head.encode() + b"\n")
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            (self._directory / ".reserve").unlink(missing_ok=True)
            files.write_atomic(self._directory / "HEAD", self.head.encode() + b"\n")

    def _reserve(self) -> None:
        reserve = self._directory / ".reserve"
        if not reserve.exists():
            files.write_atomic(reserve, b"\0" * _RESERVE_BYTES)

    def close(self) -> None:
        """Close the file; the ledger cannot be appended to afterwards."""
        os.close(self._descriptor)
