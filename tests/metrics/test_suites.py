"""Metrics sum up a suite; what they are belongs to its identity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from msgspec.structs import replace

from flywheel.errors import DataError
from flywheel.metrics import Mean, Reach, mean_interval, reach
from flywheel.records import Interval, Role, Suite
from flywheel.runtime.data import read_data
from flywheel.runtime.scoring import metrics

LEVELS = np.repeat(np.arange(1, 6), 20)
ITEMS = pa.table({"item": [f"i{n}" for n in range(100)], "length": LEVELS})
SCORES = (LEVELS <= 3).astype(float)


def outcomes(suite: str = "gate") -> pa.Table:
    return pa.table({"suite": [suite] * 100, "cluster": ITEMS["item"], "score": SCORES})


@dataclass
class Task:
    metrics: Any = ()

    def seed(self) -> Any:
        return {"prompt": ["a"]}

    def suites(self) -> list[Suite]:
        return [Suite("gate", Role.GATE, ITEMS, self.metrics)]


def read(*parts: Any) -> Any:
    return read_data(Task(parts), needs_seed=True)


def test_a_suite_has_the_values_of_all_its_metrics_in_their_order() -> None:
    measured = metrics(outcomes(), read(Mean("exact"), Reach("far", "length", 0.9)).suites)
    mean = mean_interval(SCORES, ITEMS["item"].to_numpy())
    far = replace(reach(SCORES, LEVELS, 0.9), unit="level")
    assert list(measured["gate"].items()) == [("exact", mean), ("far", far)]
    assert (far.value, far.unit) == (3, "level")


def test_without_a_metric_it_is_the_mean_score_and_without_outcomes_nothing() -> None:
    suites = read().suites
    assert metrics(outcomes(), suites)["gate"].keys() == {"score"}
    assert metrics(outcomes("another"), suites) == {}


def test_two_metrics_with_a_name_in_common_are_refused() -> None:
    with pytest.raises(ValueError, match="two of suite gate are called 'score'"):
        metrics(outcomes(), read(Mean(), Mean()).suites)


def test_a_column_that_a_metric_needs_is_asked_for_before_a_run_is_opened() -> None:
    with pytest.raises(DataError, match=r"Suite gate must have the columns of its metrics: \['digits'\]"):
        read(Reach("far", "digits"))


@dataclass(frozen=True)
class Best:
    top: int
    columns = ()

    def measure(self, outcomes: pa.Table, items: pa.Table) -> dict[str, Interval]:
        best = float(np.sort(outcomes["score"].to_numpy())[-self.top])
        return {f"best{self.top}": Interval(best, 0.0, 1.0)}


def test_what_a_metric_is_and_holds_belongs_to_the_identity() -> None:
    tasks = [read(*parts) for parts in ((Mean(),), (), (Mean("exact"),), (Best(1),), (Best(2),))]
    identities = [data.identity["suite gate"]["metrics"] for data in tasks]
    assert identities[0] == identities[1] == [{"_target_": "flywheel.metrics.suites.Mean", "name": "score"}]
    assert all(identities[n] != identities[m] for n in range(2, 5) for m in range(n))
    assert metrics(outcomes(), tasks[4].suites) == {"gate": {"best2": Interval(1.0, 0.0, 1.0)}}
