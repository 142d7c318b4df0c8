"""Training curves: thinned by steps alone, an artifact of every fit, one axis over a run."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pyarrow.compute as pc
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flywheel.curves import LIMIT, Curve, run_curve
from flywheel.lineage.status import read_state
from flywheel.storage.store import Store
from tests.support.loop_runs import run_moons


@given(st.integers(1, 5 * LIMIT))
def test_a_curve_is_bounded_even_and_has_both_ends(count: int) -> None:
    curve = Curve()
    kept = [step for step in range(1, count + 1) if curve.add(step, {"loss": 2.0 * step}, by="fit")]
    steps = [step for step, _, value in curve.rows() if value == 2.0 * step]
    assert len(steps) == len(curve.rows()) <= LIMIT + 1
    assert (steps[0], steps[-1]) == (1, count)
    assert len({b - a for a, b in pairwise(steps[:-1])}) <= 1, "every k-th step, and the last one"
    assert set(steps[:-1]) <= set(kept), "what is reported on the way has all that is left in the end"


def test_who_logs_a_name_first_has_it() -> None:
    curve = Curve()
    assert curve.add(1, {"loss": torch.tensor(3.0)}, by="fit").keys() == {"loss"}
    assert curve.add(1, {"loss": 4.0, "accuracy": 0.5}, by="module") == {"accuracy": 0.5}
    assert curve.rows() == [(1, "accuracy", 0.5), (1, "loss", 3.0)]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_null(value: float) -> None:
    curve = Curve()
    curve.add(1, {"ratio": value}, by="module")
    assert curve.table().to_pylist() == [{"step": 1, "name": "ratio", "value": None}]


def test_a_fit_without_a_value_has_an_empty_curve() -> None:
    assert Curve().table().to_pylist() == []


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory):
    """Two fits and three trials, one of which fails, of a module that logs a value at every 10th step."""
    return run_moons(
        tmp_path_factory.mktemp("curves"),
        generations=1,
        **{
            "model._target_": "tests.support.probe_parts.Logs",
            "trainer.log_every_n_steps": 10,
            "tuner": "random",
            "tuner.trials": 2,
            "+tune.space": {"lr": {"low": 0.001, "high": 0.01}},
        },
    )


def test_the_ledger_has_the_curve_of_each_fit_on_one_axis(run) -> None:
    generations = run.status().json()["generations"]
    counts = [generation["cost"]["steps"] for generation in generations]
    curve = run_curve(Store(run.path), read_state(run.path))
    losses = curve.filter(pc.equal(curve["name"], "loss"))
    assert losses["total_step"].to_pylist() == list(range(1, sum(counts) + 1))
    assert losses["step"].to_pylist() == [*range(1, counts[0] + 1), *range(1, counts[1] + 1)]
    by_step = dict(zip(losses["total_step"].to_pylist(), losses["value"].to_pylist(), strict=True))
    halves = curve.filter(pc.equal(curve["name"], "half_loss"))
    tenths = [before + s for before, n in ((0, counts[0]), counts) for s in range(10, n + 1, 10)]
    assert halves["total_step"].to_pylist() == tenths
    assert halves["value"].to_pylist() == pytest.approx([by_step[step] / 2 for step in tenths])
    assert set(curve["name"].to_pylist()) == {"loss", "half_loss", "lr"}


def test_trials_have_curves_of_their_own(run) -> None:
    tuned, store = read_state(run.path).generations[1], Store(run.path)
    curves = store.table(tuned.output("tune", "curves"))
    assert set(curves["trial"].to_pylist()) == {0, 1}
    rates = curves.filter(pc.equal(curves["name"], "lr"))
    asked = {r["number"]: r["trial"]["settings"]["lr"] for r in store.json(tuned.output("tune", "trials"))}
    assert dict(zip(rates["trial"].to_pylist(), rates["value"].to_pylist(), strict=True)) == asked


def test_a_run_that_is_followed_or_not_has_the_same_curves(run, tmp_path: Path) -> None:
    logs = {"model._target_": "tests.support.probe_parts.Logs", "trainer.log_every_n_steps": 10}
    curves = [run_moons(tmp_path / mode, generations=0, log=mode, **logs) for mode in ("quiet", "json")]
    assert len({read_state(other.path).generations[0].output("train", "curve") for other in curves}) == 1
