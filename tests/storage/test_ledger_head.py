"""A disk that fails between a line and HEAD, or between a file and its directory, loses nothing."""

from __future__ import annotations

import contextlib
import errno
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from flywheel.storage import files
from flywheel.storage import ledger as ledgers
from flywheel.storage.events import Event
from flywheel.storage.ledger import Ledger

FATES = ("well", "not replaced", "not synced")
Fate = Callable[[str], None]


@pytest.fixture
def fate(monkeypatch: pytest.MonkeyPatch) -> Fate:
    """Decides what happens to HEAD from now on: one of FATES."""
    now = ["well"]
    write_atomic, sync_directory = files.write_atomic, files.sync_directory

    def write(path: Path, data: bytes) -> None:
        if path.name == "HEAD" and now[0] == "not replaced":
            raise OSError(errno.EIO, "the disk broke")
        write_atomic(path, data)

    def sync(path: Path) -> None:
        if now[0] == "not synced":
            raise OSError(errno.EIO, "the disk broke")
        sync_directory(path)

    monkeypatch.setattr(files, "write_atomic", write)
    monkeypatch.setattr(files, "sync_directory", sync)
    return lambda what: now.__setitem__(0, what)


def names(directory: Path) -> list[str]:
    return [event.event for event in ledgers.read(directory)]


def reopened(directory: Path) -> list[str]:
    ledger = Ledger(directory)
    ledger.close()
    assert ledgers.read_head(directory) == ledger.head
    return [event.event for event in ledger.events]


def try_append(ledger: Ledger, name: str) -> bool:
    with contextlib.suppress(OSError):
        ledger.append(Event(event=name))
        return True
    return False


def assert_head_is_near(directory: Path) -> None:
    """HEAD names the last line or the one before."""
    scan = ledgers.scan(directory / "ledger.jsonl")
    assert scan.bad_line is None
    assert ledgers.read_head(directory) in (scan.head, scan.behind)


@pytest.mark.parametrize("fates", list(itertools.product(FATES, repeat=3)), ids="-".join)
def test_whatever_befalls_head_durable_lines_are_read_again(
    tmp_path: Path, fate: Fate, fates: tuple[str, ...]
) -> None:
    """A durable line has happened, though HEAD is behind; none comes after it until HEAD has moved."""
    ledger, appended, before = Ledger(tmp_path), [], "well"
    for number, what in enumerate(fates):
        fate(what)
        is_appended = try_append(ledger, f"event {number}")
        assert is_appended == ("well" in (before, what))
        appended += [f"event {number}"] * is_appended
        assert_head_is_near(tmp_path)
        assert names(tmp_path) == [event.event for event in ledger.events] == appended
        before = what
    ledger.close()
    fate("well")
    assert reopened(tmp_path) == appended


def test_an_opening_that_cannot_move_head_can_be_tried_again(tmp_path: Path, fate: Fate) -> None:
    ledger = Ledger(tmp_path)
    ledger.append(Event(event="one"))
    fate("not replaced")
    assert try_append(ledger, "two")
    ledger.close()
    with pytest.raises(OSError, match="the disk broke"):
        Ledger(tmp_path)
    fate("well")
    assert reopened(tmp_path) == ["one", "two"]


def test_closing_brings_head_up_to_the_last_line(tmp_path: Path, fate: Fate) -> None:
    ledger = Ledger(tmp_path)
    fate("not replaced")
    ledger.append(Event(event="one"))
    fate("well")
    ledger.close()
    assert ledgers.read_head(tmp_path) == ledger.head
