"""Any single flipped bit is found and its file named; so are lines that were cut off."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from flywheel.errors import DamagedError
from flywheel.lineage.status import read_state
from flywheel.storage import ledger
from flywheel.storage.ledger import Ledger
from flywheel.storage.verify import verify
from tests.support.events import event_of


def files_of(run: Path) -> list[Path]:
    return [run / "HEAD", run / "ledger.jsonl", *sorted((run / "objects").glob("*/*"))]


def check_flips(run: Path, count: int) -> None:
    """A third each in ledger, HEAD and objects."""
    rng, files = random.Random(2026), files_of(run)
    for k in range(count):
        path = [files[1], files[0], rng.choice(files[2:])][k % 3]
        data = path.read_bytes()
        bit = rng.randrange(8 * len(data))
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        found = verify(run).first_bad
        path.write_bytes(data)
        assert found is not None, (path, bit)
        assert str(path.relative_to(run)) in found, (path, bit, found)
    assert verify(run).first_bad is None


def test_flipped_bits_are_found_and_the_file_named(run_copy: Path) -> None:
    check_flips(run_copy, 120)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_thousand_flipped_bits_are_found_and_the_file_named(run_copy: Path) -> None:
    check_flips(run_copy, 2000)


def test_a_flipped_bit_in_the_ledger_is_found_by_whoever_reads_quickly(run_copy: Path) -> None:
    path = run_copy / "ledger.jsonl"
    data = path.read_bytes()
    for bit in random.Random(7).sample(range(8 * len(data)), 200):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(DamagedError, match=r"ledger\.jsonl"):
            read_state(run_copy)
        with pytest.raises(DamagedError, match=r"ledger\.jsonl"):
            ledger.read(run_copy)


def test_the_quick_way_to_read_finds_what_the_strict_one_does(run_copy: Path) -> None:
    strict = ledger.scan(run_copy / "ledger.jsonl").events
    assert ledger.read(run_copy) == strict


def test_a_damaged_file_that_no_line_names_is_found(run_copy: Path) -> None:
    orphan = run_copy / "objects" / "ab" / ("c" * 62 + ".json")
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"{}")
    bad = verify(run_copy).first_bad
    assert bad is not None
    assert str(orphan.relative_to(run_copy)) in bad
    assert "named by no line" in bad


def cut(run: Path, lines: int) -> None:
    """Take the last lines away, and HEAD back with them: within the run, nothing shows."""
    path = run / "ledger.jsonl"
    kept = path.read_bytes().splitlines(keepends=True)[:-lines]
    path.write_bytes(b"".join(kept))
    (run / "HEAD").write_text(ledger.scan(path).head + "\n")


@pytest.mark.parametrize("lines", [1, 2, 9])
def test_a_ledger_cut_short_is_found_by_head_and_both_by_a_head_kept_elsewhere(
    run_copy: Path, lines: int
) -> None:
    kept_head = ledger.read_head(run_copy)
    path = run_copy / "ledger.jsonl"
    data = path.read_bytes()
    path.write_bytes(b"".join(data.splitlines(keepends=True)[:-lines]))
    assert "HEAD" in str(verify(run_copy).first_bad)
    path.write_bytes(data)
    cut(run_copy, lines)
    assert verify(run_copy).first_bad is None
    assert kept_head in str(verify(run_copy, kept_head).first_bad)


def test_a_head_kept_elsewhere_stays_good_while_the_run_goes_on(run_copy: Path) -> None:
    kept_head = ledger.read_head(run_copy)
    book = Ledger(run_copy)
    book.append(event_of("session_started"))
    book.close()
    assert verify(run_copy, kept_head).first_bad is None
    assert verify(run_copy, "0" * 63 + "1").first_bad is not None


@pytest.mark.parametrize("lost", ["ledger.jsonl", "ledger.jsonl HEAD", "content"])
def test_artifacts_without_a_ledger_are_no_fresh_start(run_copy: Path, lost: str) -> None:
    for name in lost.split() if lost != "content" else ():
        (run_copy / name).unlink()
    if lost == "content":
        (run_copy / "ledger.jsonl").write_bytes(b"")
        (run_copy / "HEAD").unlink()
    with pytest.raises(DamagedError, match="Restore"):
        Ledger(run_copy)
    assert not (run_copy / "ledger.jsonl").exists() or lost == "content"
