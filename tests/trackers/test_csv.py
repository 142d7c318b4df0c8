"""The CSV files of a run: all of it, once, whatever happened between."""

from __future__ import annotations

import csv
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

import flywheel
from flywheel.curves import run_curve
from flywheel.storage import ledger
from flywheel.storage.events import StageDone
from flywheel.storage.store import Store
from flywheel.trackers.csv import _cell
from tests.support.loop_runs import run_probe

LOGS = {"model._target_": "tests.support.probe_parts.Logs", "trainer.log_every_n_steps": 10}
TRIALS = {"tuner._target_": "tests.support.probe_parts.Tuner", "+tuner.rates": [0.01, 0.02]}


def read(run: Path, name: str) -> list[dict[str, str]]:
    with (run / "csv" / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[flywheel.Run]:
    """Followed from the start to the end, and one that was resumed, between two sessions without."""
    folders = [tmp_path_factory.mktemp(name) for name in ("whole", "parts")]
    every: dict[str, Any] = {**LOGS, **TRIALS}
    whole = run_probe(folders[0], generations=2, tracker="csv", **every)
    for generations, tracker in ((0, "none"), (1, "csv"), (1, "none")):
        run_probe(folders[1], generations=generations, tracker=tracker, **every)
    return [whole, run_probe(folders[1], generations=2, tracker="csv", **every)]


def stages(run: flywheel.Run, *names: str) -> list[StageDone[Any]]:
    """Those that were done, in order."""
    return [e for e in ledger.read(run.path) if isinstance(e, StageDone) and e.stage in names]


@pytest.mark.parametrize("which", [0, 1], ids=["whole", "in parts"])
def test_each_generation_and_step_is_there_once_and_equal_to_the_ledger(
    runs: list[flywheel.Run], which: int
) -> None:
    run = runs[which]
    rows = read(run.path, "metrics.csv")
    assert [row["generation"] for row in rows] == ["0", "1", "2"]
    for row, generation in zip(rows, run.status().json()["generations"], strict=True):
        assert row["verdict/status"] == generation["status"]
        measured = generation["metrics"]["gate"]["accuracy"]
        assert float(row["evaluation/gate/accuracy"]) == measured["value"]
        assert float(row["evaluation/gate/accuracy_low"]) == measured["low"]
    curve = run_curve(Store(run.path), run.generation(0).state).to_pylist()
    fits = read(run.path, "fits.csv")
    assert {
        (int(row["generation"]), int(row["step"]), name): float(row[name])
        for row in fits
        for name in ("loss", "lr", "half_loss")
        if row[name]
    } == {(row["generation"], row["total_step"], row["name"]): row["value"] for row in curve}
    steps = [int(row["step"]) for row in fits]
    assert steps == sorted(set(steps))
    trials = read(run.path, "trials.csv")
    assert {(row["generation"], row["trial"]) for row in trials} == {(g, t) for g in "012" for t in "01"}
    assert not list((run.path / "csv").glob(".*"))
    made = {row["generation"]: float(row["samples"]) for row in read(run.path, "generate.csv")}
    units = [event.facts.units.count for event in stages(run, "generate")]
    assert made == {str(event.generation): event.facts.made for event in stages(run, "generate")}
    assert [int(row["step"]) for row in read(run.path, "generate.csv")] == list(accumulate(units))
    answered = [(row["generation"], row["stage"]) for row in read(run.path, "evaluate.csv")]
    assert answered == [(str(e.generation), e.stage) for e in stages(run, "screen", "evaluate", "sealed")]


def test_sessions_make_no_difference(runs: list[flywheel.Run]) -> None:
    whole, parts = ((run.path / "csv" / "fits.csv").read_bytes() for run in runs)
    assert whole == parts


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        *(("=1+1", "'=1+1"), ("+7.00% on 200 items", "'+7.00% on 200 items"), ("rejected", "rejected")),
        *((-0.5, "-0.5"), (1e-300, "1e-300"), (None, ""), (True, "true"), (3, "3")),
    ],
)
def test_a_text_is_no_formula_and_a_number_is_one(value: Any, cell: str) -> None:
    assert _cell(value) == cell
