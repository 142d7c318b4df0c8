from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from flywheel.storage import ledger
from flywheel.storage.verify import verify
from tests.support.events import lines_of

KINDS = (".parquet", ".safetensors", ".json", ".yaml")


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def random_bits(path: Path, count: int) -> list[int]:
    return random.Random(path.name).sample(range(path.stat().st_size * 8), count)


def objects(run: Path) -> list[Path]:
    return sorted(path for path in (run / "objects").rglob("*") if path.is_file())


def test_a_run_as_written_is_verified(finished_run: Path) -> None:
    found = verify(finished_run)
    assert found.first_bad is None
    assert found.lines == len((finished_run / "ledger.jsonl").read_bytes().splitlines())
    assert found.head == (finished_run / "HEAD").read_text().strip()
    assert found.json() == {
        "ok": True,
        "lines": found.lines,
        "objects": found.objects,
        "pruned": 0,
        "head": found.head,
        "first_bad": None,
    }


def test_every_object_of_a_run_is_named_by_its_ledger(finished_run: Path) -> None:
    assert verify(finished_run).objects == len(objects(finished_run))
    made = {path.suffix for path in objects(finished_run)}
    assert made - {".diff"} == set(KINDS)  # that of a checkout with uncommitted changes


def test_a_run_can_be_moved(run_copy: Path) -> None:
    assert verify(run_copy).first_bad is None
    assert str(run_copy.parent) not in (run_copy / "ledger.jsonl").read_text()


def test_a_flipped_bit_in_any_object_is_found_and_the_object_named(run_copy: Path) -> None:
    for path in objects(run_copy):
        for bit in random_bits(path, 3):
            flip(path, bit)
            found = verify(run_copy)
            assert found.first_bad is not None, f"bit {bit} of {path}"
            assert str(path.relative_to(run_copy)) in found.first_bad
            assert found.json()["ok"] is False
            flip(path, bit)
    assert verify(run_copy).first_bad is None


def test_a_flipped_bit_in_the_ledger_is_found_and_the_line_named(run_copy: Path) -> None:
    path = run_copy / "ledger.jsonl"
    for bit in random_bits(path, 150):
        line = path.read_bytes()[: bit // 8].count(b"\n") + 1
        flip(path, bit)
        found = verify(run_copy).first_bad
        assert found is not None, f"bit {bit}"
        assert "ledger.jsonl" in found
        assert f"line {line}" in found
        flip(path, bit)


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_in_head_is_found_and_head_named(run_copy: Path, bit: int) -> None:
    path = run_copy / "HEAD"
    for byte in [*range(0, 64, 9), 64]:
        flip(path, byte * 8 + bit)
        found = verify(run_copy).first_bad
        assert found is not None, f"bit {bit} of byte {byte}"
        assert "HEAD" in found
        flip(path, byte * 8 + bit)


@pytest.mark.parametrize("suffix", KINDS)
def test_a_missing_object_is_named_with_the_line_that_names_it(run_copy: Path, suffix: str) -> None:
    lost = next(path for path in objects(run_copy) if path.suffix == suffix)
    name = lost.parent.name + lost.name
    lines = (run_copy / "ledger.jsonl").read_text().splitlines()
    first = next(k for k, line in enumerate(lines, 1) if name in line)
    lost.unlink()
    found = verify(run_copy).first_bad
    assert str(lost.relative_to(run_copy)) in found
    assert f"line {first})" in found


def test_the_first_bad_object_is_named_when_several_are(run_copy: Path) -> None:
    named = [
        name
        for event in lines_of(run_copy)
        for key in ("inputs", "outputs", "carry")
        for name in event.get(key, {}).values()
    ]
    for path in objects(run_copy):
        flip(path, 0)
    first = named[0]
    assert f"{first[:2]}/{first[2:]}" in verify(run_copy).first_bad


def test_a_lost_last_line_is_found(run_copy: Path) -> None:
    path = run_copy / "ledger.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert "HEAD" in verify(run_copy).first_bad


def resealed(events: list[dict[str, Any]]) -> bytes:
    """Lines with a chain of hashes that is right, as a careful forger writes them."""
    lines, prev = [], ledger.GENESIS_HASH
    for seq, event in enumerate(events):
        content = {key: value for key, value in event.items() if key != "hash"}
        lines.append(ledger.seal(content | {"seq": seq, "prev": prev}))
        prev = json.loads(lines[-1])["hash"]
    return b"".join(lines)


def forge(run: Path, **last_ending: object) -> None:
    events = lines_of(run)
    ending = next(event for event in reversed(events) if event["event"] == "generation_ended")
    ending.update(last_ending)
    (run / "ledger.jsonl").write_bytes(resealed(events))
    last = json.loads((run / "ledger.jsonl").read_bytes().splitlines()[-1])
    (run / "HEAD").write_text(last["hash"] + "\n")


@pytest.mark.parametrize(
    "change", [{"generation": 1}, {"generation": 99}, {"status": "unfinished"}, {"status": "excellent"}]
)
def test_a_forged_verdict_that_breaks_the_rules_is_found(run_copy: Path, change: dict[str, object]) -> None:
    forge(run_copy, **change)
    found = verify(run_copy).first_bad
    assert found is not None
    assert "ledger.jsonl" in found
