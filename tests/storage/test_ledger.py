from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import re
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from flywheel.errors import DamagedError, DataError
from flywheel.storage import files
from flywheel.storage import ledger as ledgers
from flywheel.storage.events import Event, RunEnded, StageDone
from flywheel.storage.ledger import GENESIS_HASH, Ledger
from flywheel.storage.verify import verify
from tests.support import events
from tests.support.damage import flipped, reseal
from tests.support.events import event_of, written

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
THREE = ["one", "two", "three"]
CONFIGS = st.dictionaries(st.text(max_size=6), VALUES, max_size=3)


def write(directory: Path, *names: str) -> list[Event]:
    with closing(Ledger(directory)) as ledger:
        return [ledger.append(Event(event=name)) for name in names]


def names(directory: Path) -> list[str]:
    return [event.event for event in ledgers.read(directory)]


def file_of(directory: Path) -> Path:
    return directory / "ledger.jsonl"


def lines_of(directory: Path) -> list[bytes]:
    return file_of(directory).read_bytes().splitlines(keepends=True)


@pytest.fixture
def three(tmp_path: Path) -> Path:
    write(tmp_path, *THREE)
    return tmp_path


def head_of(line: bytes) -> str:
    return json.loads(line)["hash"] + "\n"


@settings(max_examples=30)
@given(st.lists(st.lists(CONFIGS, max_size=3), min_size=1, max_size=3))
def test_whatever_is_written_in_any_sessions_is_read_back(sessions: list[list[dict[str, Any]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        written: list[Event] = []
        for session in sessions:
            with closing(Ledger(directory)) as ledger:
                assert ledger.events == written
                written += [ledger.append(event_of("run_created", config=config)) for config in session]
        assert ledgers.read(directory) == written
        given = [config for session in sessions for config in session]
        assert [json.loads(line)["config"] for line in lines_of(directory)] == given
        assert [created.config for created in written] == given  # type: ignore[attr-defined]


def test_the_lines_are_a_chain_of_hashes_and_head_is_the_last(three: Path) -> None:
    prev = GENESIS_HASH
    for seq, line in enumerate(lines_of(three)):
        content = json.loads(line)
        claimed = content.pop("hash")
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert hashlib.sha256(text.encode()).hexdigest() == claimed
        assert (content["seq"], content["prev"]) == (seq, prev)
        prev = claimed
    assert ledgers.read_head(three) == prev


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"deep": [float("-inf")]}])
def test_numbers_that_json_has_not_are_refused_and_nothing_is_written(three: Path, value: Any) -> None:
    before = lines_of(three)
    with closing(Ledger(three)) as ledger:
        with pytest.raises(ValueError, match="JSON"):
            ledger.append(event_of("run_created", config={"value": value}))
        ledger.append(Event(event="good"))
    assert lines_of(three)[:3] == before
    assert names(three) == [*THREE, "good"]


@pytest.mark.parametrize("keys", [{9: "a", 10: "b"}, {1: "a", "1": "b"}, {None: 1}, {True: 1}])
def test_keys_that_are_no_strings_do_not_damage_the_ledger(three: Path, keys: dict[Any, Any]) -> None:
    created = replace(event_of("run_created"), config=keys)
    with closing(Ledger(three)) as ledger:
        try:
            recorded = ledger.append(created)
        except (TypeError, ValueError):
            assert len(ledgers.read(three)) == 3
        else:
            assert ledgers.read(three)[-1] == recorded


@pytest.mark.parametrize("name", ["seq", "prev", "time", "hash"])
def test_content_cannot_take_the_place_of_the_chain(three: Path, name: str) -> None:
    with closing(Ledger(three)) as ledger:
        ledger.append(replace(event_of("run_created"), **{name: 7}))
    assert [event.seq for event in ledgers.read(three)] == [0, 1, 2, 3]


WRONG = [
    replace(event_of("generation_started"), generation="three"),
    replace(event_of("run_stopped"), reason=3),
    replace(event_of("stage", stage="train"), stage="gate"),
    replace(event_of("generation_ended", status="failed"), status="excellent"),
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.event)
def test_what_is_not_as_its_type_says_is_neither_written_nor_read(three: Path, wrong: Event) -> None:
    before = lines_of(three)
    with closing(Ledger(three)) as ledger, pytest.raises(DataError, match="is as its type says"):
        ledger.append(wrong)
    assert lines_of(three) == before
    reseal(three, [*events.lines_of(three), wrong.json()])
    with pytest.raises(DamagedError, match="line 4: it is no such event as"):
        ledgers.read(three)
    assert "line 4" in (verify(three).first_bad or "")


def test_keys_and_events_that_are_not_known_are_ignored(three: Path) -> None:
    stage = event_of("stage", stage="review", facts={"consent": True, "mood": "good"}, outputs={"x": "y"})
    later = [{"event": "sang", "song": [1]}, {**written(stage), "since": "v9"}]
    reseal(three, [*events.lines_of(three), *later])
    sang, done = ledgers.read(three)[3:]
    assert (type(sang), sang.event) == (Event, "sang")
    assert isinstance(done, StageDone)
    assert done.facts.consent


def test_a_line_torn_at_any_byte_is_cut_off_on_reopening(three: Path) -> None:
    *whole, last = lines_of(three)
    before = ledgers.read(three)[:2]
    (three / "HEAD").write_text(head_of(whole[1]))
    for kept in range(1, len(last)):
        file_of(three).write_bytes(b"".join(whole) + last[:kept])
        assert ledgers.read(three) == before
        with closing(Ledger(three)) as ledger:
            assert ledger.events == before
        assert lines_of(three) == whole
    write(three, "again")
    assert names(three) == ["one", "two", "again"]


def test_a_torn_first_line_is_cut_off(tmp_path: Path) -> None:
    write(tmp_path, "one")
    (tmp_path / "HEAD").unlink()
    file_of(tmp_path).write_bytes(lines_of(tmp_path)[0][:-3])
    with closing(Ledger(tmp_path)) as ledger:
        assert (ledger.events, ledger.head) == ([], GENESIS_HASH)
    assert file_of(tmp_path).read_bytes() == b""


@pytest.mark.parametrize("count", [1, 3])
def test_head_moves_on_after_a_crash_between_line_and_head(tmp_path: Path, count: int) -> None:
    """Of the first line, too, when there is no HEAD yet."""
    *before, last = write(tmp_path, *THREE[:count])
    (tmp_path / "HEAD").unlink()
    for event in before[-1:]:
        (tmp_path / "HEAD").write_text(event.hash + "\n")
    assert ledgers.read(tmp_path) == [*before, last]
    with closing(Ledger(tmp_path)) as ledger:
        assert ledger.events == [*before, last]
    assert ledgers.read_head(tmp_path) == last.hash


def refused_by_all(directory: Path) -> None:
    before = file_of(directory).read_bytes()
    with pytest.raises(DamagedError, match="damaged"):
        ledgers.read(directory)
    with pytest.raises(DamagedError, match="damaged"):
        Ledger(directory)
    assert file_of(directory).read_bytes() == before


def forged(line: bytes) -> bytes:
    """Another event, with a hash that is right."""
    return ledgers.seal({**{k: v for k, v in json.loads(line).items() if k != "hash"}, "event": "other"})


def hashed_inside(line: bytes) -> bytes:
    """A line whose first hash is right, and is not the event's."""
    rest = b'"z":1},' + line[1:-1]
    digest = hashlib.sha256(b'{"a":{' + rest).hexdigest().encode()
    return b'{"a":{"hash":"' + digest + b'",' + rest + b"\n"


DAMAGE: dict[str, tuple[Callable[[bytes, bytes, bytes], bytes], int]] = {
    "all lines are lost": (lambda a, b, c: b"", 3),
    "two lines are lost": (lambda a, b, c: a, 3),
    "the last line is lost": (lambda a, b, c: a + b, 3),
    "a line is left out": (lambda a, b, c: a + c, 3),
    "a line is there twice": (lambda a, b, c: a + b + b + c, 3),
    "lines in another order": (lambda a, b, c: b + a + c, 3),
    "a line with a recomputed hash": (lambda a, b, c: a + forged(b) + c, 3),
    "a line that is not canonical": (lambda a, b, c: a + b.replace(b":", b": ", 1) + c, 3),
    "a line with another hash inside": (lambda a, b, c: a + hashed_inside(b) + c, 3),
    "a torn last line that HEAD names": (lambda a, b, c: a + b + c[: len(c) // 2], 3),
    "the last newline is lost": (lambda a, b, c: a + b + c[:-1], 3),
    "one byte is left of the last line": (lambda a, b, c: a + b + c[:1], 3),
    "a torn line that is not the last": (lambda a, b, c: a + b[:-5] + b"\n" + c, 1),
    "a torn line and HEAD two lines before": (lambda a, b, c: a + b + c[:-5], 1),
    "HEAD two lines back": (lambda a, b, c: a + b + c, 1),
    "HEAD is lost": (lambda a, b, c: a + b + c, 0),
}
"""What becomes of three lines, and which of them HEAD names; 0: there is no HEAD."""


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_no_crash_leaves_is_damage(three: Path, damage: str) -> None:
    change, head = DAMAGE[damage]
    lines = lines_of(three)
    file_of(three).write_bytes(change(*lines))
    (three / "HEAD").unlink()
    if head:
        (three / "HEAD").write_text(head_of(lines[head - 1]))
    refused_by_all(three)


def test_a_flipped_bit_anywhere_in_the_ledger_is_found(three: Path) -> None:
    write(three, "dreißig ☂")
    path = file_of(three)
    for bit in random.Random(7).sample(range(8 * path.stat().st_size), 300):
        with flipped(path, bit):
            refused_by_all(three)


def test_a_whole_last_line_that_is_damaged_is_damage_with_a_remedy(three: Path) -> None:
    """A crash leaves a torn line, without a newline; a loss of power may leave holes in one."""
    *whole, last = lines_of(three)
    before = ledgers.read(three)[:2]
    middle = len(last) // 2
    for damaged in (last[:middle] + b"\0" * (len(last) - middle - 1) + b"\n", b"\n", last[:-9] + b"\n"):
        file_of(three).write_bytes(b"".join(whole) + damaged)
        (three / "HEAD").write_text(head_of(whole[1]))
        refused_by_all(three)
        remedy = re.search(r"line 3.*`truncate -s (\d+) ledger.jsonl`", str(verify(three).first_bad))
        assert remedy
        os.truncate(file_of(three), int(remedy[1]))
        with closing(Ledger(three)) as ledger:
            assert ledger.events == before
            ledger.append(Event(event="again"))


def test_a_damaged_line_that_head_names_has_no_remedy_but_a_copy(three: Path) -> None:
    whole = file_of(three).read_bytes()
    file_of(three).write_bytes(whole[:-9] + b"\n")
    first_bad = str(verify(three).first_bad)
    assert "line 3" in first_bad
    assert "truncate" not in first_bad


def test_a_line_is_not_put_after_half_of_one(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an append left of its line could not be taken away then: it is before the next."""
    with closing(Ledger(three)) as ledger:
        with monkeypatch.context() as patch:
            fails_once(patch, OSError(errno.EIO, "broken"), 0.5)
            patch.setattr(os, "ftruncate", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
            for _ in range(2):
                with pytest.raises(OSError, match="broken"):
                    ledger.append(Event(event="lost"))
        ledger.append(Event(event="four"))
    assert names(three) == [*THREE, "four"]


def test_a_line_is_durable_before_head_names_it(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done, real = [], os.replace

    def replace(source: Path, target: Path) -> None:
        done.append(f"replace {Path(target).name}")
        real(source, target)

    with closing(Ledger(three)) as ledger:
        monkeypatch.setattr(os, "fsync", lambda fd: done.append(f"sync {name_of(fd)}"))
        monkeypatch.setattr(os, "replace", replace)
        ledger.append(Event(event="four"))
    aside = f"sync .HEAD.{os.getpid()}.tmp"
    assert done == ["sync ledger.jsonl", aside, "replace HEAD", f"sync {three.name}"]


def name_of(descriptor: int) -> str:
    return Path(os.readlink(f"/proc/self/fd/{descriptor}")).name


def fails_once(monkeypatch: pytest.MonkeyPatch, error: BaseException, written: float) -> None:
    """Make the next append write that share of its bytes and then raise."""
    real, pending = files.append, [error]

    def append(descriptor: int, data: bytes) -> None:
        if pending:
            os.write(descriptor, data[: round(len(data) * written)])
            raise pending.pop()
        real(descriptor, data)

    monkeypatch.setattr(files, "append", append)


@pytest.mark.parametrize("written", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_releases_the_reserve_and_records_the_event(
    three: Path, monkeypatch: pytest.MonkeyPatch, number: int, written: float
) -> None:
    with closing(Ledger(three)) as ledger:
        assert (three / ".reserve").stat().st_size >= 4096
        fails_once(monkeypatch, OSError(number, "full"), written)
        ledger.append(RunEnded(event="run_failed", reason="the disk is full"))
        assert not (three / ".reserve").exists()
    assert names(three) == [*THREE, "run_failed"]
    with closing(Ledger(three)):
        assert (three / ".reserve").exists()


def test_a_full_disk_at_head_releases_the_reserve(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, pending = files.write_atomic, [OSError(errno.ENOSPC, "full")]

    def write_atomic(path: Path, data: bytes) -> None:
        if pending:
            raise pending.pop()
        real(path, data)

    with closing(Ledger(three)) as ledger:
        monkeypatch.setattr(files, "write_atomic", write_atomic)
        failed = ledger.append(Event(event="run_failed"))
        assert not (three / ".reserve").exists()
    assert ledgers.read_head(three) == failed.hash


@pytest.mark.parametrize("written", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), KeyboardInterrupt()])
def test_an_append_that_fails_or_is_interrupted_leaves_nothing_behind(
    three: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, written: float
) -> None:
    """The loop answers a second Ctrl-C, which may hit in an append, with one more append."""
    before = file_of(three).read_bytes()
    with closing(Ledger(three)) as ledger:
        fails_once(monkeypatch, error, written)
        with pytest.raises(type(error)):
            ledger.append(Event(event="lost"))
        assert file_of(three).read_bytes() == before
        ledger.append(Event(event="run_interrupted"))
    assert names(three) == [*THREE, "run_interrupted"]


def test_readers_see_all_whole_lines_while_the_last_is_being_written(
    three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = os.write, []

    def write_slowly(descriptor: int, data: bytes) -> int:
        seen.append(names(three))
        return real(descriptor, data[:40])

    with closing(Ledger(three)) as ledger:
        monkeypatch.setattr(files.os, "write", write_slowly)
        ledger.append(Event(event="four"))
    assert len(seen) > 3
    assert all(view == THREE for view in seen)


def test_a_reader_that_a_writer_overtakes_sees_whole_lines(
    three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between HEAD and the lines a writer may record an event and begin the next one."""
    real, overtaken = ledgers.read_head, []

    def read_head(directory: Path) -> str:
        head = real(directory)
        if not overtaken:
            overtaken.append(True)
            write(directory, "four")
            with open(file_of(directory), "ab") as file:
                file.write(b'{"event":"fi')
        return head

    monkeypatch.setattr(ledgers, "read_head", read_head)
    assert names(three)[:3] == THREE


def test_an_append_costs_the_same_however_long_the_ledger_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []

    def counted(real: Callable[..., None]) -> Callable[..., None]:
        def write(target: Any, data: bytes) -> None:
            counts[-1] += len(data)
            real(target, data)

        return write

    with closing(Ledger(tmp_path)) as ledger:
        for name in ("append", "write_atomic"):
            monkeypatch.setattr(files, name, counted(getattr(files, name)))
        stage = event_of("stage", stage="curate", facts={"rows": 12})
        for _ in range(100):
            counts.append(0)
            ledger.append(stage)
    assert max(counts) - min(counts) <= 8  # digits of seq and of time
