"""What a run may rely on: its own suites, its own randomness, its own stop; and what failures cost."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import lightning
import numpy as np
import pyarrow as pa
import pytest
import torch

from flywheel.curators.confident import Confident
from flywheel.errors import ExitCode
from flywheel.graders.confidence import Confidence
from flywheel.lineage.status import read_state
from flywheel.records import Suite
from flywheel.runtime import stop
from flywheel.storage.store import Store
from tests.support.harness import artifacts, champion_hash, events, kinds
from tests.support.probe_parts import Task

SLEEP = 0.3


def ours(name: str) -> str:
    """Class path of a part that is defined here."""
    return f"{__name__}.{name}"


def shifted(table: pa.Table, by: np.ndarray | float) -> pa.Table:
    """The table with its points moved."""
    flat = table["point"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    points = pa.FixedSizeListArray.from_arrays(pa.array((flat + by).astype(np.float32)), 2)
    return table.set_column(table.column_names.index("point"), "point", points)


class SlowToAnswer(Task):
    """Takes a while for each unit of prompts."""

    def generate(self, *arguments: Any) -> Any:
        time.sleep(SLEEP / 3)
        return super().generate(*arguments)


class DriftingTask(Task):
    """Features come out otherwise on another machine (``DRIFT``); scores tell which were used."""

    def suites(self) -> list[Suite]:
        by = float(os.environ.get("DRIFT", "0"))
        return [Suite(s.name, s.role, shifted(s.items, by), s.metrics) for s in super().suites()]

    def evaluate(self, model: Any, opponent: Any, items: pa.Table, keys: Any) -> np.ndarray:
        flat = items["point"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return 1 / (1 + np.exp(-flat.reshape(-1, 2).sum(1).astype(float)))


class DrawingTask(Task):
    """Draws its prompts from the global generators."""

    def prompts(self, generation: int, carry: Any, key: Any) -> pa.Table:
        prompts = super().prompts(generation, carry, key)
        noise = np.random.normal(0, 0.1, 2 * len(prompts)) + torch.randn(2 * len(prompts)).numpy() / 10
        return shifted(prompts, noise)


class DrawingGrader(Confidence):
    """Draws a part of each score from the global generators."""

    def grade(self, samples: pa.Table, load_parent: Any, keys: Any) -> Any:
        drawn = np.random.random(len(samples)) * torch.rand(len(samples)).double().numpy()
        return {"confidence": samples["probability"].to_numpy() * drawn}


class DrawingCurator(Confident):
    """Draws how often a sample is repeated from the global generators."""

    def curate(self, samples: pa.Table, carry: Any, key: Any) -> Any:
        decisions, carry = super().curate(samples, carry, key)
        decisions["count"] = np.random.randint(1, 3, len(samples)) + torch.randint(2, (len(samples),)).numpy()
        return decisions, carry


class SignalledGrader(Confidence):
    """A worker died of the signal that this process got too."""

    def grade(self, samples: pa.Table, load_parent: Any, keys: Any) -> Any:
        if name := os.environ.get("GRADER_SIGNAL"):
            os.kill(os.getpid(), getattr(signal, name))
            raise RuntimeError("a worker died")
        return super().grade(samples, load_parent, keys)


class WrappingCallback(lightning.Callback):
    """Answers a stop within a fit with an exception of its own."""

    def on_train_start(self, trainer: Any, module: Any) -> None:
        if stop_file := os.environ.get("FIT_TOUCHES"):
            open(stop_file, "w").close()

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        raise RuntimeError("the fit was aborted") from exception


class SlowBrokenGrader(Confidence):
    """Fails after a while."""

    def grade(self, samples: pa.Table, load_parent: Any, keys: Any) -> Any:
        time.sleep(SLEEP)
        raise RuntimeError("broken at last")


class SealedBreaksTask(Task):
    """Cannot be evaluated on the sealed suite."""

    def evaluate(self, model: Any, opponent: Any, items: pa.Table, keys: Any) -> np.ndarray:
        if items["item"][0].as_py().startswith("sealed"):
            raise RuntimeError("the sealed items broke")
        return super().evaluate(model, opponent, items, keys)


def scores_of(run: Any, number: int) -> list[float]:
    """Scores of a generation on the open suites, in order."""
    name = run.generations()[number].record.output("evaluate", "outcomes")
    return Store(run.path).table(name)["score"].to_pylist()


def test_a_resumed_run_is_scored_on_the_suites_it_recorded(probe, monkeypatch):
    overrides = {"task___target_": ours("DriftingTask")}
    recorded = scores_of(probe(**overrides, generations=0), 0)
    monkeypatch.setenv("DRIFT", "1e-6")
    run = probe(**overrides, generations=1)
    assert run.exit_code is ExitCode.FINISHED
    assert scores_of(run, 1) == recorded


def test_another_run_is_scored_on_what_its_task_gives(probe, monkeypatch):
    """The test above would notice: the drift does change scores."""
    overrides = {"task___target_": ours("DriftingTask"), "generations": 0}
    recorded = scores_of(probe(**overrides), 0)
    monkeypatch.setenv("DRIFT", "1e-6")
    assert scores_of(probe(**overrides, name="other"), 0) != recorded


def test_what_parts_draw_does_not_depend_on_what_came_before(probe):
    parts = {
        "task___target_": ours("DrawingTask"),
        "grader___target_": ours("DrawingGrader"),
        "curator___target_": ours("DrawingCurator"),
    }
    calm = probe(**parts, name="calm")
    interrupt = {
        "_target_": "tests.support.probe_parts.SignalAt",
        "stage": "generation_ended",
        "generation": 0,
        "times": 2,
    }
    tracker = {f"+tracker.{key}": value for key, value in interrupt.items()}
    first = probe(**parts, **tracker)
    assert first.exit_code is ExitCode.INTERRUPTED
    assert kinds(first.path)[-2:] == ["generation_ended", "run_interrupted"]
    np.random.random(7), torch.rand(7)
    run = probe(**parts)
    assert run.exit_code is ExitCode.FINISHED
    assert artifacts(run.path) == artifacts(calm.path)
    assert champion_hash(run.path) == champion_hash(calm.path) != ""


def assert_stopped_in(run: Any, stage: str, by: str) -> None:
    """The run was stopped while generation 1 was in this stage, and nothing failed."""
    assert run.exit_code is ExitCode.STOPPED == 3
    assert run.status().json()["generations"][1]["status"] == "unfinished"
    last = events(run.path)[-1]
    assert (last["event"], last["reason"]) == ("run_stopped", by)
    assert stage not in [event.get("stage") for event in events(run.path) if event.get("generation") == 1]


@pytest.mark.parametrize(("name", "by"), [("SIGINT", "Ctrl-C"), ("SIGTERM", "SIGTERM")])
def test_an_exception_after_a_signal_is_a_stop(probe, monkeypatch, name, by):
    overrides = {"grader___target_": ours("SignalledGrader"), "generations": 1}
    monkeypatch.setenv("GRADER_SIGNAL", name)
    assert_stopped_in(probe(**overrides), "grade", by)
    monkeypatch.delenv("GRADER_SIGNAL")
    run = probe(**overrides)
    assert [g["status"] for g in run.status().json()["generations"]] == ["promoted", "promoted"]


def test_an_exception_after_a_stop_file_was_seen_is_a_stop(probe, monkeypatch):
    overrides = {"+trainer.callbacks": [{"_target_": ours("WrappingCallback")}]}
    run = probe(**overrides, generations=0)
    monkeypatch.setattr(stop, "_LOOK_EVERY_SECONDS", 0.0)
    monkeypatch.setenv("FIT_TOUCHES", str(run.path / "stop"))
    run = probe(**overrides, generations=1)
    assert_stopped_in(run, "train", "`flywheel stop`")
    assert not (run.path / "stop").exists()


def test_the_cost_of_a_failed_stage_is_recorded_and_counts(probe):
    overrides = {"grader___target_": ours("SlowBrokenGrader"), "on_failure": "go_on"}
    before = read_state(probe(**overrides, generations=0).path).seconds
    run = probe(**overrides, generations=1)
    ended = [event for event in events(run.path) if event["event"] == "generation_ended"][-1]
    assert ended["status"] == "failed"
    assert ended["cost"]["seconds"] >= SLEEP
    assert ended["cost"]["cpu_seconds"] >= 0
    assert read_state(run.path).generations[1].seconds >= ended["cost"]["seconds"]
    assert read_state(run.path).seconds >= before + SLEEP


def test_failed_stages_use_the_budget_up(probe):
    overrides = {"grader___target_": ours("SlowBrokenGrader"), "on_failure": "go_on"}
    before = read_state(probe(**overrides, generations=0).path).seconds
    run = probe(**overrides, generations=3, budget__seconds=before + SLEEP)
    assert run.exit_code is ExitCode.STOPPED
    assert [g["status"] for g in run.status().json()["generations"]] == ["promoted", "failed"]
    assert "budget" in events(run.path)[-1]["reason"]


def test_the_budget_stops_a_stage_at_its_next_unit(probe):
    overrides = {"task___target_": ours("SlowToAnswer"), "chunk_size": 8}
    before = read_state(probe(**overrides, generations=0).path).seconds
    run = probe(**overrides, generations=1, budget__seconds=before + SLEEP)
    assert run.exit_code is ExitCode.STOPPED
    stopped = events(run.path)[-1]
    assert stopped["reason"] == f"the budget of {before + SLEEP:g} s is spent"
    assert (stopped["generation"], "generate" in read_state(run.path).generations[1].stages) == (1, False)
    assert SLEEP / 2 < stopped["cost"]["seconds"] < 3 * SLEEP
    assert list((run.path / "work" / "generate").iterdir()), "what is finished is kept"


def test_a_sealed_evaluation_that_raises_leaves_its_traceback(probe):
    run = probe(task___target_=ours("SealedBreaksTask"), generations=0)
    assert run.exit_code is ExitCode.FAILED
    last = events(run.path)[-1]
    assert last["event"] == "run_failed"
    assert last["reason"] == "sealed: RuntimeError: the sealed items broke"
    assert "Traceback (most recent call last)" in last["traceback"]
    assert "in evaluate" in last["traceback"]
    assert last["traceback"].rstrip().endswith("RuntimeError: the sealed items broke")
