"""Whatever is changed in a run is found, and its file and line are named."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from flywheel.errors import DamagedError
from flywheel.storage import ledger
from flywheel.storage.ledger import Ledger
from flywheel.storage.verify import verify
from tests.support.damage import flipped, reseal
from tests.support.events import event_of, lines_of

KINDS = (".parquet", ".safetensors", ".json", ".yaml")


def objects(run: Path) -> list[Path]:
    return sorted(path for path in (run / "objects").rglob("*") if path.is_file())


def first_bad(run: Path, kept_head: str | None = None) -> str:
    return str(verify(run, kept_head).first_bad)


def test_a_run_as_written_is_verified(finished_run: Path) -> None:
    assert verify(finished_run).json() == {
        "ok": True,
        "lines": len(lines_of(finished_run)),
        "objects": len(objects(finished_run)),
        "pruned": 0,
        "head": (finished_run / "HEAD").read_text().strip(),
        "first_bad": None,
    }
    suffixes = {path.suffix for path in objects(finished_run)}
    assert suffixes - {".diff"} == set(KINDS)  # that of a checkout with uncommitted changes


def test_a_run_can_be_moved(run_copy: Path) -> None:
    assert verify(run_copy).ok
    assert str(run_copy.parent) not in (run_copy / "ledger.jsonl").read_text()


def check_flips(run: Path, in_ledger: int, in_object: int) -> None:
    """Flip so many bits, drawn at random, of the ledger and of each object, and every bit of HEAD."""
    rng, head = random.Random(2026), run / "HEAD"
    counts = {run / "ledger.jsonl": in_ledger, head: 10_000, **dict.fromkeys(objects(run), in_object)}
    for path, count in counts.items():
        data = path.read_bytes()
        for bit in rng.sample(range(8 * len(data)), min(count, 8 * len(data))):
            line = data.count(b"\n", 0, bit // 8) + 1
            named = f"ledger.jsonl: line {line}:" if path.suffix == ".jsonl" else str(path.relative_to(run))
            with flipped(path, bit):
                assert named in first_bad(run), (path, bit)
                if path.parent == run:  # who reads quickly finds it, too
                    with pytest.raises(DamagedError, match=path.name):
                        ledger.read(run)
    assert verify(run).ok
    assert ledger.read(run) == ledger.scan(run / "ledger.jsonl").events


def test_flipped_bits_are_found_and_the_file_and_line_named(run_copy: Path) -> None:
    check_flips(run_copy, in_ledger=200, in_object=3)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_thousand_flipped_bits_are_found_and_the_file_and_line_named(run_copy: Path) -> None:
    check_flips(run_copy, in_ledger=1000, in_object=30)


def test_a_damaged_file_that_no_line_names_is_found(run_copy: Path) -> None:
    orphan = run_copy / "objects" / "ab" / ("c" * 62 + ".json")
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"{}")
    assert f"{orphan.relative_to(run_copy)} (named by no line)" in first_bad(run_copy)


@pytest.mark.parametrize("suffix", KINDS)
def test_a_missing_object_is_named_with_the_line_that_names_it(run_copy: Path, suffix: str) -> None:
    lost = next(path for path in objects(run_copy) if path.suffix == suffix)
    lines = (run_copy / "ledger.jsonl").read_text().splitlines()
    number = next(k for k, line in enumerate(lines, 1) if lost.parent.name + lost.name in line)
    lost.unlink()
    assert f"{lost.relative_to(run_copy)} (named by ledger line {number})" in first_bad(run_copy)


def test_the_first_bad_object_is_named_when_several_are(run_copy: Path) -> None:
    outputs = next(event["outputs"] for event in lines_of(run_copy) if event.get("outputs"))
    for path in objects(run_copy):
        path.write_bytes(path.read_bytes() + b" ")
    first = next(iter(outputs.values()))
    assert f"{first[:2]}/{first[2:]}" in first_bad(run_copy)


@pytest.mark.parametrize("lines", [1, 2, 9])
def test_a_ledger_cut_short_is_found_by_head_and_both_by_a_head_kept_elsewhere(
    run_copy: Path, lines: int
) -> None:
    kept_head = ledger.read_head(run_copy)
    kept = lines_of(run_copy)[:-lines]
    reseal(run_copy, kept)
    assert verify(run_copy).ok, "within the run, nothing shows"
    assert kept_head in first_bad(run_copy, kept_head)
    (run_copy / "HEAD").write_text(kept_head + "\n")
    assert "HEAD" in first_bad(run_copy)


def test_a_head_kept_elsewhere_stays_good_while_the_run_goes_on(run_copy: Path) -> None:
    kept_head = ledger.read_head(run_copy)
    book = Ledger(run_copy)
    book.append(event_of("session_started"))
    book.close()
    assert verify(run_copy, kept_head).ok
    assert not verify(run_copy, "0" * 63 + "1").ok


@pytest.mark.parametrize(
    "change", [{"generation": 1}, {"generation": 99}, {"status": "unfinished"}, {"status": "excellent"}]
)
def test_a_forged_verdict_that_breaks_the_rules_is_found(run_copy: Path, change: dict[str, object]) -> None:
    events = lines_of(run_copy)
    ending = next(event for event in reversed(events) if event["event"] == "generation_ended")
    ending.update(change)
    reseal(run_copy, events)
    assert "ledger.jsonl" in first_bad(run_copy)


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
