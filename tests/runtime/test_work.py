from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from flywheel.errors import Interrupted
from flywheel.executors import Inline
from flywheel.records import Unit, UnitResult
from flywheel.runtime import work
from flywheel.runtime.work import UnitsDone, Work, cut, to_bytes


@pytest.mark.parametrize(
    ("size", "counts", "boundaries"),
    [
        (2, (3, 2), [0, 2, 3, 5]),
        (5, (5,), [0, 5]),
        (5, (6,), [0, 5, 6]),
        (9, (4, 0, 1), [0, 4, 5]),
        (3, (), [0]),
        (3, (0,), [0]),
    ],
)
def test_no_unit_spans_two_parts(size: int, counts: tuple[int, ...], boundaries: list[int]) -> None:
    assert cut(size, *counts) == boundaries


class Stage:
    """Ten units of one row, of which some may fail or be where a person interrupts."""

    def __init__(self, folder: Path, *, fails: tuple[int, ...] = (), ends_at: int | None = None) -> None:
        self.folder, self.fails, self.ends_at = folder, fails, ends_at
        self.begun: list[int] = []
        self.taken: list[tuple[int, Any]] = []

    def make(self, unit: Unit) -> bytes:
        self.begun.append(unit.number)
        if unit.number in self.fails:
            raise ValueError(f"no luck with {unit.number}")
        return to_bytes(pa.table({"row": [unit.start]}))

    def check(self) -> None:
        if len(self.begun) == self.ends_at:
            raise Interrupted("a person")

    def take(self, unit: Unit, rows: pa.Table | None, failure: Exception | None) -> None:
        self.taken.append((unit.number, str(failure) if rows is None else rows["row"].to_pylist()))

    def do(self, *, skip: bool = False, inputs: Any = "the same", rows: int = 10) -> UnitsDone:
        whose = {"stage": "generate", "generation": 1}
        work = Work(Inline(self.check), self.folder, whose, 0, skip, unseen)
        return work.do(cut(1, rows), self.make, self.take, inputs=inputs)


def unseen(*_: Any) -> None:
    """Progress that nobody looks at."""


ALL = [(k, [k]) for k in range(10)]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each unit is kept before the next one begins."""
    monkeypatch.setattr(work, "KEEP_EVERY_SECONDS", 0.0)


def test_a_stage_that_is_left_goes_on_where_it_was(tmp_path: Path) -> None:
    """Also with what had not been written yet: whoever leaves in order writes it."""
    left, again = Stage(tmp_path / "left", ends_at=6), Stage(tmp_path / "left")
    calm = Stage(tmp_path / "calm")
    done = calm.do()
    with pytest.raises(Interrupted):
        left.do()
    resumed = again.do()
    assert (left.begun, again.begun) == ([*range(6)], [*range(6, 10)])
    assert calm.taken == again.taken == ALL
    assert resumed.facts == done.facts
    assert done.facts.json().keys() == {"count", "digest"}


def test_a_quick_stage_leaves_its_plan_alone(tmp_path: Path) -> None:
    Stage(tmp_path / "generate").do()
    (plan,) = (tmp_path / "generate").iterdir()
    said = json.loads(plan.read_text())
    assert said["boundaries"] == [*range(11)]
    assert (said["stage"], said["generation"], len(said["inputs"])) == ("generate", 1, 64)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("other", [{"inputs": "others"}, {"rows": 9}])
def test_another_plan_discards_what_is_there(tmp_path: Path, other: dict[str, Any]) -> None:
    Stage(tmp_path / "generate").do()
    again, anew = Stage(tmp_path / "generate"), Stage(tmp_path / "generate")
    again.do()
    assert again.begun == []
    anew.do(**other)
    assert anew.begun == [k for k, _ in anew.taken]


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: b"", lambda data: data[:99] + b"?" + data[100:]]
)
def test_a_damaged_batch_is_made_again(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    Stage(tmp_path / "generate").do()
    batch = sorted((tmp_path / "generate").glob("*.arrow"))[4]
    batch.write_bytes(damage(batch.read_bytes()))
    again = Stage(tmp_path / "generate")
    again.do()
    assert (again.begun, again.taken) == ([4], ALL)


@pytest.mark.usefixtures("at_once")
def test_a_unit_that_raises_fails_the_stage_and_no_further_one_begins(tmp_path: Path) -> None:
    stage, again = Stage(tmp_path / "generate", fails=(3, 5)), Stage(tmp_path / "generate")
    with pytest.raises(ValueError, match="no luck with 3"):
        stage.do()
    assert stage.begun == [0, 1, 2, 3]
    again.do()
    assert again.begun == [*range(3, 10)]


@pytest.mark.usefixtures("at_once")
def test_a_unit_that_is_skipped_is_recorded_with_its_reason_and_not_tried_again(tmp_path: Path) -> None:
    stage, again = Stage(tmp_path / "generate", fails=(3, 5)), Stage(tmp_path / "generate")
    done, resumed = stage.do(skip=True), again.do(skip=True)
    reasons = {f"ValueError: no luck with {k}": 1 for k in (3, 5)}
    about = {"count": 10, "digest": done.facts.digest, "failed": 2, "reasons": reasons}
    assert done.facts.json() == about
    assert (resumed.facts, again.begun, again.taken) == (done.facts, [], stage.taken)
    assert stage.taken[3] == (3, "ValueError: no luck with 3")


def test_reasons_do_not_grow_with_the_units(tmp_path: Path) -> None:
    done = Stage(tmp_path / "generate", fails=tuple(range(9))).do(skip=True)
    assert (done.facts.failed, len(done.facts.reasons)) == (9, 3)


def test_a_disk_that_refuses_costs_no_more_than_durability(tmp_path: Path, at_once: None) -> None:
    (tmp_path / "generate").write_text("in the way")
    stage = Stage(tmp_path / "generate")
    stage.do()
    assert stage.taken == ALL


class Elsewhere:
    """An executor as others may be written: it pulls four units ahead."""

    def run(self, work: Callable[[Unit], bytes], units: Iterable[Unit]) -> Iterator[UnitResult]:
        waiting = iter(units)
        while ahead := [unit for _, unit in zip(range(4), waiting, strict=False)]:
            for unit in ahead:
                yield UnitResult(unit.number, work(unit), None, 0.0)


def test_what_an_executor_had_begun_is_taken_before_a_failure_is_raised(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "generate")

    def full(*_: Any) -> None:
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        Work(Elsewhere(), None, {}, 0, False, unseen).do(cut(1, 10), stage.make, full)
    assert stage.begun == [0, 1, 2, 3]
