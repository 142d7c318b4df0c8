from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from flywheel.errors import DamagedError, DataError
from flywheel.storage import files
from flywheel.storage import ledger as ledgers
from flywheel.storage.events import Event, RunEnded, StageDone, plain
from flywheel.storage.ledger import GENESIS_HASH, Ledger
from flywheel.storage.verify import verify
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
CONFIGS = st.dictionaries(st.text(max_size=6), VALUES, max_size=3)


@contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@contextmanager
def opened(directory: Path) -> Iterator[Ledger]:
    ledger = Ledger(directory)
    try:
        yield ledger
    finally:
        ledger.close()


def write(directory: Path, *names: str) -> list[Event]:
    with opened(directory) as ledger:
        return [ledger.append(Event(event=name)) for name in names]


def file_of(directory: Path) -> Path:
    return directory / "ledger.jsonl"


def lines_of(directory: Path) -> list[bytes]:
    return file_of(directory).read_bytes().splitlines(keepends=True)


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A ledger of three events."""
    write(tmp_path, "one", "two", "three")
    return tmp_path


@settings(max_examples=30)
@given(st.lists(st.lists(CONFIGS, max_size=3), min_size=1, max_size=3))
def test_whatever_is_written_in_any_sessions_is_read_back(sessions: list[list[dict[str, Any]]]) -> None:
    with scratch() as directory:
        written: list[Event] = []
        for session in sessions:
            with opened(directory) as ledger:
                assert ledger.events == written
                written += [ledger.append(event_of("run_created", config=config)) for config in session]
        assert ledgers.read(directory) == written
        given = [config for session in sessions for config in session]
        assert [json.loads(line)["config"] for line in lines_of(directory)] == given
        assert [created.config for created in written] == given  # type: ignore[attr-defined]


def test_each_line_names_the_one_before_and_head_names_the_last(three: Path) -> None:
    events = ledgers.read(three)
    assert [event.seq for event in events] == [0, 1, 2]
    assert [event.prev for event in events] == [GENESIS_HASH, events[0].hash, events[1].hash]
    assert ledgers.read_head(three) == events[-1].hash


def test_a_hash_is_the_sha256_of_the_line_without_it(three: Path) -> None:
    for line in lines_of(three):
        event = json.loads(line)
        claimed = event.pop("hash")
        text = json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert hashlib.sha256(text.encode()).hexdigest() == claimed


def test_an_empty_ledger_has_the_genesis_head(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        assert ledger.head == GENESIS_HASH
        assert list(ledger) == []
    assert ledgers.read(tmp_path) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"deep": [float("-inf")]}])
def test_numbers_that_json_has_not_are_refused_and_nothing_is_written(three: Path, value: Any) -> None:
    before = lines_of(three)
    with opened(three) as ledger:
        with pytest.raises(ValueError, match="JSON"):
            ledger.append(event_of("run_created", config={"value": value}))
        ledger.append(Event(event="good"))
    assert lines_of(three)[:3] == before
    assert [event.event for event in ledgers.read(three)] == ["one", "two", "three", "good"]


@pytest.mark.parametrize("keys", [{9: "a", 10: "b"}, {1: "a", "1": "b"}, {None: 1}, {True: 1}])
def test_keys_that_are_no_strings_do_not_damage_the_ledger(three: Path, keys: dict[Any, Any]) -> None:
    created = replace(event_of("run_created"), config=keys)
    with opened(three) as ledger:
        try:
            recorded = ledger.append(created)
        except (TypeError, ValueError):
            assert len(ledgers.read(three)) == 3
        else:
            assert ledgers.read(three)[-1] == recorded


def test_what_append_returns_is_what_a_resumed_run_reads(three: Path) -> None:
    with opened(three) as ledger:
        recorded = ledger.append(event_of("session_started", command=("a", "b")))
    assert ledgers.read(three)[-1] == recorded


@pytest.mark.parametrize("name", ["seq", "prev", "time", "hash"])
def test_content_cannot_take_the_place_of_the_chain(three: Path, name: str) -> None:
    with opened(three) as ledger:
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
    with opened(three) as ledger:
        with pytest.raises(DataError, match="is as its type says"):
            ledger.append(wrong)
        head = ledger.head
    assert lines_of(three) == before
    content = {key: value for key, value in plain(wrong).items() if key != "hash"}
    line = ledgers.seal({**content, "seq": 3, "prev": head, "time": 0.0})
    file_of(three).write_bytes(b"".join([*before, line]))
    (three / "HEAD").write_text(json.loads(line)["hash"] + "\n")
    with pytest.raises(DamagedError, match="line 4: it is no such event as"):
        ledgers.read(three)
    assert "line 4" in (verify(three).first_bad or "")


def test_keys_and_events_that_are_not_known_are_ignored(three: Path) -> None:
    head = ledgers.read_head(three)
    stage = event_of("stage", stage="review", facts={"consent": True, "mood": "good"}, outputs={"x": "y"})
    later = {key: value for key, value in written(stage).items() if key != "hash"} | {"since": "v9"}
    for seq, content in enumerate([{"event": "sang", "song": [1]}, later], 3):
        line = ledgers.seal(content | {"seq": seq, "prev": head, "time": 0.0})
        head = json.loads(line)["hash"]
        with file_of(three).open("ab") as file:
            file.write(line)
    (three / "HEAD").write_text(head + "\n")
    sang, done = ledgers.read(three)[3:]
    assert (type(sang), sang.event) == (Event, "sang")
    assert isinstance(done, StageDone)
    assert done.facts.consent


def test_a_line_torn_at_any_byte_is_cut_off_on_reopening(three: Path) -> None:
    *whole, last = lines_of(three)
    events = ledgers.read(three)
    for kept in range(1, len(last)):
        file_of(three).write_bytes(b"".join(whole) + last[:kept])
        (three / "HEAD").write_text(events[1].hash + "\n")
        assert ledgers.read(three) == events[:2]
        with opened(three) as ledger:
            assert ledger.events == events[:2]
        assert lines_of(three) == whole
    with opened(three) as ledger:
        ledger.append(Event(event="again"))
    assert [event.event for event in ledgers.read(three)] == ["one", "two", "again"]


def test_a_torn_first_line_is_cut_off(tmp_path: Path) -> None:
    write(tmp_path, "one")
    (tmp_path / "HEAD").unlink()
    file_of(tmp_path).write_bytes(lines_of(tmp_path)[0][:-3])
    with opened(tmp_path) as ledger:
        assert ledger.events == []
    assert file_of(tmp_path).read_bytes() == b""


def test_head_moves_on_after_a_crash_between_line_and_head(three: Path) -> None:
    events = ledgers.read(three)
    (three / "HEAD").write_text(events[1].hash + "\n")
    assert ledgers.read(three) == events
    with opened(three) as ledger:
        assert ledger.events == events
    assert ledgers.read_head(three) == events[2].hash


def test_head_moves_on_after_a_crash_before_the_first_head(tmp_path: Path) -> None:
    events = write(tmp_path, "one")
    (tmp_path / "HEAD").unlink()
    with opened(tmp_path) as ledger:
        assert ledger.events == events
    assert ledgers.read_head(tmp_path) == events[0].hash


def refused_by_all(directory: Path) -> None:
    before = file_of(directory).read_bytes()
    with pytest.raises(DamagedError, match="damaged"):
        ledgers.read(directory)
    with pytest.raises(DamagedError, match="damaged"):
        Ledger(directory)
    assert file_of(directory).read_bytes() == before


def test_a_torn_last_line_that_head_names_is_damage(three: Path) -> None:
    size = len(lines_of(three)[-1])
    for cut in (1, size // 2, size - 1):
        data = file_of(three).read_bytes()
        file_of(three).write_bytes(data[:-cut])
        refused_by_all(three)
        file_of(three).write_bytes(data)


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_ledger_that_lost_whole_lines_is_damaged(three: Path, kept: int) -> None:
    file_of(three).write_bytes(b"".join(lines_of(three)[:kept]))
    refused_by_all(three)


def test_lines_in_another_order_or_twice_are_damage(three: Path) -> None:
    a, b, c = lines_of(three)
    for order in ((b, a, c), (a, b, b, c), (a, c)):
        file_of(three).write_bytes(b"".join(order))
        refused_by_all(three)


def test_a_torn_line_that_is_not_the_last_is_damage(three: Path) -> None:
    a, b, c = lines_of(three)
    (three / "HEAD").write_text(json.loads(a)["hash"] + "\n")
    file_of(three).write_bytes(a + b[:-5] + b"\n" + c)
    refused_by_all(three)


def test_a_whole_last_line_that_is_damaged_is_damage_with_a_remedy(three: Path) -> None:
    """A crash leaves a torn line, without a newline; a loss of power may leave holes in one."""
    *whole, last = lines_of(three)
    events = ledgers.read(three)
    (three / "HEAD").write_text(events[1].hash + "\n")
    middle = len(last) // 2
    for damaged in (last[:middle] + b"\0" * (len(last) - middle - 1) + b"\n", b"\n", last[:-9] + b"\n"):
        file_of(three).write_bytes(b"".join(whole) + damaged)
        refused_by_all(three)
        said = verify(three).first_bad
        assert said is not None
        assert "line 3" in said
        remedy = re.search(r"`truncate -s (\d+) ledger.jsonl`", said)
        assert remedy, said
        os.truncate(file_of(three), int(remedy[1]))
        with opened(three) as ledger:
            assert ledger.events == events[:2]
            ledger.append(Event(event="again"))
        file_of(three).write_bytes(b"".join(whole))
        (three / "HEAD").write_text(events[1].hash + "\n")


def test_a_damaged_line_that_head_names_has_no_remedy_but_a_copy(three: Path) -> None:
    whole = file_of(three).read_bytes()
    file_of(three).write_bytes(whole[:-9] + b"\n")
    said = verify(three).first_bad
    assert said is not None
    assert "line 3" in said
    assert "truncate" not in said


def test_a_line_is_not_put_after_half_of_one(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an append left of its line could not be taken away then: it is before the next."""
    with opened(three) as ledger:
        with monkeypatch.context() as patch:
            fails_once(patch, OSError(errno.EIO, "broken"), 0.5)
            patch.setattr(os, "ftruncate", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
            for _ in range(2):
                with pytest.raises(OSError, match="broken"):
                    ledger.append(Event(event="lost"))
        ledger.append(Event(event="four"))
    assert [event.event for event in ledgers.read(three)] == ["one", "two", "three", "four"]


def test_a_line_with_a_recomputed_hash_breaks_the_chain(three: Path) -> None:
    a, b, c = lines_of(three)
    event = json.loads(b)
    event["event"] = "other"
    del event["hash"]
    file_of(three).write_bytes(a + ledgers.seal(event) + c)
    refused_by_all(three)


def test_a_head_further_back_than_one_line_is_damage(three: Path) -> None:
    first = ledgers.read(three)[0].hash
    (three / "HEAD").write_text(first + "\n")
    with pytest.raises(DamagedError):
        Ledger(three)


def test_a_lost_head_is_damage(three: Path) -> None:
    (three / "HEAD").unlink()
    with pytest.raises(DamagedError):
        Ledger(three)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("template")
    write(directory, "one", "two", "dreißig ☂")
    return directory


@settings(max_examples=80)
@given(st.data())
def test_a_flipped_bit_anywhere_in_the_ledger_is_found(template: Path, data: st.DataObject) -> None:
    with scratch() as directory:
        shutil.copytree(template, directory, dirs_exist_ok=True)
        bits = file_of(directory).stat().st_size * 8
        flip(file_of(directory), data.draw(st.integers(0, bits - 1)))
        refused_by_all(directory)


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_anywhere_in_head_is_found(three: Path, bit: int) -> None:
    original = (three / "HEAD").read_bytes()
    for byte in range(len(original)):
        flip(three / "HEAD", byte * 8 + bit)
        with pytest.raises(DamagedError):
            ledgers.read(three)
        (three / "HEAD").write_bytes(original)


def test_a_line_is_durable_before_head_names_it(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done, real = [], os.replace

    def replace(source: Path, target: Path) -> None:
        done.append(f"replace {Path(target).name}")
        real(source, target)

    with opened(three) as ledger:
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
    with opened(three) as ledger:
        assert (three / ".reserve").stat().st_size >= 4096
        fails_once(monkeypatch, OSError(number, "full"), written)
        ledger.append(RunEnded(event="run_failed", reason="the disk is full"))
        assert not (three / ".reserve").exists()
    assert [event.event for event in ledgers.read(three)] == ["one", "two", "three", "run_failed"]
    with opened(three):
        assert (three / ".reserve").exists()


def test_a_full_disk_at_head_releases_the_reserve(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, pending = files.write_atomic, [OSError(errno.ENOSPC, "full")]

    def write_atomic(path: Path, data: bytes) -> None:
        if pending:
            raise pending.pop()
        real(path, data)

    with opened(three) as ledger:
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
    with opened(three) as ledger:
        fails_once(monkeypatch, error, written)
        with pytest.raises(type(error)):
            ledger.append(Event(event="lost"))
        ledger.append(Event(event="run_interrupted"))
    assert [event.event for event in ledgers.read(three)] == ["one", "two", "three", "run_interrupted"]


def test_readers_see_all_whole_lines_while_the_last_is_being_written(
    three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = os.write, []

    def write_slowly(descriptor: int, data: bytes) -> int:
        seen.append([event.event for event in ledgers.read(three)])
        return real(descriptor, data[:40])

    with opened(three) as ledger:
        monkeypatch.setattr(files.os, "write", write_slowly)
        ledger.append(Event(event="four"))
    assert len(seen) > 3
    assert all(view == ["one", "two", "three"] for view in seen)


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
    assert [event.event for event in ledgers.read(three)][:3] == ["one", "two", "three"]


def test_an_append_costs_the_same_however_long_the_ledger_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    real_append, real_write = files.append, files.write_atomic

    def append(descriptor: int, data: bytes) -> None:
        counts[-1] += len(data)
        real_append(descriptor, data)

    def write_atomic(path: Path, data: bytes) -> None:
        counts[-1] += len(data)
        real_write(path, data)

    with opened(tmp_path) as ledger:
        monkeypatch.setattr(files, "append", append)
        monkeypatch.setattr(files, "write_atomic", write_atomic)
        stage = event_of("stage", stage="curate", facts={"rows": 12})
        for _ in range(100):
            counts.append(0)
            ledger.append(stage)
    assert max(counts) - min(counts) <= 8  # digits of seq and of time
