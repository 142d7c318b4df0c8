"""Executors: adapters as others may write them, for processes of their own, fit behind the seam."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from flywheel.executors import Inline
from flywheel.graders import Confidence
from flywheel.protocols import Executor
from flywheel.records import Unit, UnitResult
from flywheel.runtime.work import attempt
from flywheel.stages import table as stages
from flywheel.storage.events import StageDone
from flywheel.testing.contracts.bench import Bench, bench_of, given


class Pickled:
    """Sends the work as bytes, as an executor with processes of its own does, and pulls four units ahead."""

    def run(self, work: Callable[[Unit], bytes], units: Iterable[Unit]) -> Iterator[UnitResult]:
        data, waiting = pickle.dumps(work), iter(units)
        while ahead := [unit for _, unit in zip(range(4), waiting, strict=False)]:
            yield from [attempt(pickle.loads(data), unit) for unit in ahead]


@dataclass
class AsksParent(Confidence):
    """A grader that uses its parent."""

    def grade(self, samples: pa.Table, load_parent: Callable[[], Any], keys: Any) -> Any:
        width = load_parent().head.in_features
        return super().grade(samples, load_parent, keys) | {"width": [width] * len(samples)}


def made_with(bench: Bench, executor: Executor) -> list[StageDone[Any]]:
    bench.tools.executor = executor
    champion = bench.champion()
    samples = bench.do(stages.generate, parent=champion)
    scores = bench.do(stages.grade, samples=samples.outputs["samples"], parent=champion)
    outcomes = bench.do(stages.evaluate, weights=str(champion.weights), opponent=champion)
    assert scores.facts.loaded_parent == champion.weights
    return [samples, scores, outcomes]


def test_the_work_of_every_stage_with_units_can_be_sent_to_another_process() -> None:
    with bench_of(given(grader=AsksParent())) as bench:
        bench.components.resolved["chunk_size"] = 16
        ours = made_with(bench, Inline(lambda: None))
        assert made_with(bench, Pickled()) == ours
        assert [done.facts.units.count for done in ours] == [13, 13, 26]
