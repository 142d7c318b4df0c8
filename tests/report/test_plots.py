"""The same pictures in a notebook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import flywheel
from flywheel.errors import RunError


@pytest.fixture(scope="module")
def run(finished_run: Path) -> flywheel.Run:
    return flywheel.open_run(finished_run)


def test_progress_is_the_report_s_first_chart(run: flywheel.Run) -> None:
    spec = run.plot.progress().to_dict()
    values = [row["value"] for row in spec["layer"][2]["data"]["values"]]
    assert len(values) == len(run.generations())


def test_a_suite_that_is_not_there_is_refused_with_those_that_are(run: flywheel.Run) -> None:
    with pytest.raises(RunError, match="gate/"):
        run.plot.progress("gates")


def test_training_has_the_loss(run: flywheel.Run) -> None:
    assert run.plot.training().to_dict()["vconcat"][0]["title"] == "loss"


def test_lineage_and_samples_show_themselves_in_frames_without_scripts(run: flywheel.Run) -> None:
    for shown in (run.plot.lineage(), run.plot.samples(1)):
        html = shown._repr_html_()
        assert html.startswith("<iframe sandbox ")
        assert "<script" not in shown.html
        assert len(repr(shown)) < 80, "a Python shell does not print the page"
    assert "<title>Generation 1" in run.plot.lineage().html
    assert any(word in run.plot.samples(1).html for word in ("Kept", "Dropped"))


def test_tuning_without_trials_says_so(run: flywheel.Run) -> None:
    with pytest.raises(RunError, match="tuner=optuna"):
        run.plot.tuning()


def test_a_finished_run_is_drawn_once_though_live(run: flywheel.Run) -> None:
    chart: Any = run.plot.progress(live=True)
    assert chart.to_dict()
