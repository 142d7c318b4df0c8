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
from flywheel.runtime import stop
from tests.support.harness import artifacts, champion_hash, events, kinds
from tests.support.loop_runs import signal_at, statuses
from tests.support.probe_parts import Task, with_points

SLEEP = 0.3


def ours(name: str) -> str:
    """Class path of a part that is defined here."""
    return f"{__name__}.{name}"


class SlowToAnswer(Task):
    """Takes a while for each unit of prompts."""

    def generate(self, *arguments: Any) -> Any:
        time.sleep(SLEEP / 3)
        return super().generate(*arguments)


class DrawingTask(Task):
    """Draws its prompts from the global generators."""

    def prompts(self, generation: int, carry: Any, key: Any) -> pa.Table:
        prompts = super().prompts(generation, carry, key)
        noise = np.random.normal(0, 0.1, (len(prompts), 2)) + torch.randn(len(prompts), 2).numpy() / 10
        return with_points(prompts, lambda points: points + noise)


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


def test_what_parts_draw_does_not_depend_on_what_came_before(probe):
    parts = {
        "task___target_": ours("DrawingTask"),
        "grader___target_": ours("DrawingGrader"),
        "curator___target_": ours("DrawingCurator"),
    }
    calm = probe(**parts, name="calm")
    first = probe(**parts, **signal_at(stage="generation_ended", generation=0, times=2))
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
    assert statuses(run)[1] == "unfinished"
    last = events(run.path)[-1]
    assert (last["event"], last["reason"]) == ("run_stopped", by)
    assert not events(run.path, stage=stage, generation=1)


@pytest.mark.parametrize(("name", "by"), [("SIGINT", "Ctrl-C"), ("SIGTERM", "SIGTERM")])
def test_an_exception_after_a_signal_is_a_stop(probe, monkeypatch, name, by):
    overrides = {"grader___target_": ours("SignalledGrader"), "generations": 1}
    monkeypatch.setenv("GRADER_SIGNAL", name)
    assert_stopped_in(probe(**overrides), "grade", by)
    monkeypatch.delenv("GRADER_SIGNAL")
    assert statuses(probe(**overrides)) == ["promoted", "promoted"]


def test_an_exception_after_a_stop_file_was_seen_is_a_stop(probe, monkeypatch):
    overrides = {"+trainer.callbacks": [{"_target_": ours("WrappingCallback")}]}
    run = probe(**overrides, generations=0)
    monkeypatch.setattr(stop, "_LOOK_EVERY_SECONDS", 0.0)
    monkeypatch.setenv("FIT_TOUCHES", str(run.path / "stop"))
    run = probe(**overrides, generations=1)
    assert_stopped_in(run, "train", "`flywheel stop`")
    assert not (run.path / "stop").exists()


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
