"""generate, grade and evaluate are called without gradients, by one rule: trainer.inference_mode."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import flywheel
from tests.support import probe_parts
from tests.support.harness import PROBE_CONF

STAGES = ("generate", "grade", "evaluate")


@pytest.fixture(autouse=True)
def modes() -> Iterator[set[tuple[str, bool, bool]]]:
    probe_parts.modes.clear()
    yield probe_parts.modes
    probe_parts.modes.clear()


def test_all_three_run_in_inference_mode_by_default(probe, modes):
    parts = {
        "task___target_": "tests.support.probe_parts.NotesModes",
        "grader___target_": "tests.support.probe_parts.NotesModeInGrade",
    }
    run = probe(generations=1, **parts)
    assert run.status().json()["state"] == "finished"
    assert modes == {(stage, True, False) for stage in STAGES}


def test_without_inference_mode_gradients_are_off_and_a_part_may_turn_them_on(probe, modes):
    parts = {
        "task___target_": "tests.support.probe_parts.TakesGradients",
        "grader___target_": "tests.support.probe_parts.TrainsInGrade",
    }
    run = probe(generations=1, **{"+trainer__inference_mode": False}, **parts)
    assert run.status().json()["state"] == "finished", run.status().json()["reason"]
    assert modes == {(stage, False, False) for stage in STAGES}
    modes.clear()
    view = flywheel.open_run(
        run.path, PROBE_CONF, trusted={"tests.support.probe_parts.TakesGradients"}
    ).champion()
    assert view.evaluate([{"point": [0.1, 0.2], "label": 0}]).num_rows == 1
    assert modes == {("evaluate", False, False)}
