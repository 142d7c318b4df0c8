"""Units that are proposed from the results of others: ``Work.do_proposed``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.errors import Interrupted, StopRequested
from flywheel.executors import Inline
from flywheel.protocols import Executor
from flywheel.records import Unit, UnitResult
from flywheel.runtime.work import CutOff, UnitsDone, Work, _read, attempt
from tests.runtime.test_work import unseen
from tests.support.loop_runs import quick_folder


@dataclass
class Rounds:
    """An executor with several workers, which hands over a round in order or turned round, and may die."""

    width: int = 1
    is_turned: bool = False
    dies_after: int | None = None
    """Results; the others of that round are lost."""
    cut_off: set[int] = field(default_factory=set)
    """Units that a stop cuts off once."""

    def run(self, work: Callable[[Unit], bytes], units: Iterable[Unit]) -> Iterator[UnitResult]:
        waiting = iter(units)
        while batch := [unit for _, unit in zip(range(self.width), waiting, strict=False)]:
            results = [self._result(work, unit) for unit in batch]
            for result in reversed(results) if self.is_turned else results:
                if self.dies_after == 0:
                    raise Interrupted("a person")
                if self.dies_after is not None:
                    self.dies_after -= 1
                yield result

    def _result(self, work: Callable[[Unit], bytes], unit: Unit) -> UnitResult:
        if unit.number in self.cut_off:
            self.cut_off.remove(unit.number)
            return UnitResult(unit.number, None, CutOff(), 0.0)
        return attempt(work, unit)


@dataclass
class Study:
    """Units of which each is made of all results but the last ``lag - 1`` before it; every fourth fails."""

    folder: Path | None = None
    lag: int = 1
    count: int = 10
    begun: list[int] = field(default_factory=list)
    taken: list[tuple[int, Any, str | None, bool]] = field(default_factory=list)
    asked: dict[int, Any] = field(default_factory=dict)

    def propose(self, number: int, is_kept: bool) -> Any:
        known = max(0, number - self.lag + 1)
        if number == self.count or len(self.taken) < known:
            return None
        seen = [result[:3] for result in self.taken[:known]]
        assert self.asked.setdefault(number, seen) == seen, "asked again it says the same"
        return {"number": number, "sum": sum(len(str(result)) * (k + 1) for k, result in enumerate(seen))}

    def make(self, unit: Unit) -> bytes:
        self.begun.append(unit.number)
        if unit.number % 4 == 3:
            raise ValueError(f"no luck with {unit.task}")
        return json.dumps(unit.task).encode()

    def take(self, result: UnitResult, is_new: bool) -> None:
        data = None if result.data is None else json.loads(bytes(result.data))
        self.taken.append((result.number, data, result.error and str(result.error), is_new))

    def do(self, executor: Executor | None = None, inputs: Any = "the same") -> UnitsDone:
        work = Work(executor or Inline(lambda: None), self.folder, {"stage": "tune"}, 0, False, unseen)
        return work.do_proposed(self.make, self.propose, self.take, inputs=inputs)

    @property
    def results(self) -> list[Any]:
        return [result[:3] for result in self.taken]


@given(
    lag=st.integers(1, 4),
    widths=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    is_turned=st.booleans(),
    lives=st.lists(st.integers(0, 6), max_size=4),
    count=st.integers(0, 12),
)
def test_any_workers_orders_and_kills_make_and_take_the_same(
    lag: int, widths: list[int], is_turned: bool, lives: list[int], count: int
) -> None:
    calm = Study(lag=lag, count=count)
    done = calm.do()
    assert [number for number, *_ in calm.taken] == calm.begun == [*range(count)]
    with quick_folder() as folder:
        handed_over: set[int] = set()
        for session, dies_after in enumerate([*lives, None]):
            study = Study(folder / "tune", lag, count)
            executor = Rounds(widths[session % len(widths)], is_turned, dies_after)
            again = None
            try:
                again = study.do(executor)
            except Interrupted:
                assert dies_after is not None
            assert not handed_over & set(study.begun), "what was handed over is not made again"
            assert study.results == calm.results[: len(study.taken)]
            new = {number for number, _, _, is_new in study.taken if is_new}
            assert new <= set(study.begun)
            assert not new & handed_over
            handed_over |= _kept(folder / "tune")
        assert again is not None
        assert (again.facts, study.results) == (done.facts, calm.results)
        assert len(study.begun) == len(set(study.begun))


def _kept(folder: Path) -> set[int]:
    return {number for batch in folder.glob("*.arrow") for number in _read(batch)}


def test_a_unit_that_fails_is_a_result_of_which_nothing_but_the_reason_is_kept(tmp_path: Path) -> None:
    first, again = Study(tmp_path / "tune", count=5), Study(tmp_path / "tune", count=5)
    done, resumed = first.do(), again.do()
    (failed,) = [result for result in first.taken if result[2]]
    assert failed[0] == 3
    assert failed[2] is not None
    assert failed[2].startswith("ValueError: no luck with ")
    assert (done.facts.count, done.facts.failed) == (5, 1)
    assert (again.begun, again.results, resumed.facts) == ([], first.results, done.facts)
    assert not any(is_new for *_, is_new in again.taken)


@pytest.mark.parametrize("width", [1, 2, 3])
def test_a_unit_that_was_cut_off_is_neither_kept_nor_a_result_and_is_done_again(
    tmp_path: Path, width: int
) -> None:
    study, calm = Study(tmp_path / "tune", lag=2), Study(lag=2)
    calm.do()
    done = study.do(Rounds(width, cut_off={0, 4, 9}))
    assert study.results == calm.results
    assert sorted(study.begun) == [*range(10)]
    assert done.count == 10


def test_a_stop_leaves_what_was_cut_off_for_the_next_session(tmp_path: Path) -> None:
    """As on ranks: what the others had finished is kept, then all agree to leave."""

    class Leaves(Rounds):
        def run(self, work: Callable[[Unit], bytes], units: Iterable[Unit]) -> Iterator[UnitResult]:
            for result in super().run(work, units):
                yield result
                if isinstance(result.error, CutOff):
                    raise StopRequested("Ctrl-C")

    left, again, calm = (Study(tmp_path / "tune", lag=3), Study(tmp_path / "tune", lag=3), Study(lag=3))
    calm.do()
    with pytest.raises(StopRequested):
        left.do(Leaves(3, is_turned=True, cut_off={3}))
    assert _kept(tmp_path / "tune") == {0, 1, 2, 4, 5}
    again.do(Rounds(2))
    assert again.begun == [3, 6, 7, 8, 9]
    assert again.results == calm.results


def test_units_of_another_plan_are_made_again(tmp_path: Path) -> None:
    Study(tmp_path / "tune").do()
    anew = Study(tmp_path / "tune")
    anew.do(inputs="others")
    assert anew.begun == [*range(10)]


def test_a_damaged_unit_is_made_again_and_those_after_it_are_used(tmp_path: Path) -> None:
    Study(tmp_path / "tune").do()
    (batch,) = (tmp_path / "tune").glob("00000004-*.arrow")
    batch.write_bytes(batch.read_bytes()[:-1] + b"?")
    again = Study(tmp_path / "tune")
    again.do()
    assert again.begun == [4]


def test_what_take_and_propose_raise_ends_it_and_keeps_what_was_made(tmp_path: Path) -> None:
    class Broken(Study):
        def propose(self, number: int, is_kept: bool) -> Any:
            if number == 6:
                raise StopRequested("the budget")
            return super().propose(number, is_kept)

    with pytest.raises(StopRequested):
        Broken(tmp_path / "tune").do()
    again = Study(tmp_path / "tune")
    again.do()
    assert again.begun == [6, 7, 8, 9]
