"""No recipe is special: a duel with drawn games, and a model with k samples a prompt, through the loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from msgspec.structs import replace

from flywheel.metrics import Mean, mean_interval
from flywheel.records import Interval, Role, Suite
from flywheel.testing.moons.task import Moons
from tests.support.loop_runs import run_moons, table_of

K = 4


@dataclass(kw_only=True)
class Games(Moons):
    """A game a point: won by whoever alone knows the label, else drawn."""

    def suites(self) -> list[Suite]:
        return [
            replace(suite, metrics=(Mean("points"),), duel=suite.role is Role.GATE)
            for suite in super().suites()
        ]

    def evaluate(self, model: Any, opponent: Any, items: pa.Table, keys: Any) -> np.ndarray:
        ours = super().evaluate(model, None, items, keys)
        return ours if opponent is None else (1 + ours - super().evaluate(opponent, None, items, keys)) / 2


def gate_scores(run, number):
    outcomes = table_of(run, number, "evaluate", "outcomes")
    return outcomes.filter(np.equal(outcomes["suite"].to_numpy(), "gate"))["score"].to_numpy()


def test_a_duel_with_drawn_games_is_decided_by_the_games_that_are_not_drawn(tmp_path):
    run = run_moons(tmp_path, task___target_=f"{__name__}.Games", generations=1)
    assert "gate" not in run.generation(0).metrics, "the first champion has nobody to play against"
    opponents = table_of(run, 1, "evaluate", "outcomes")["opponent"].to_pylist()
    assert set(opponents) - {None} == {run.generation(0).weights}
    scores = gate_scores(run, 1)
    assert set(scores) == {0.0, 0.5, 1.0}
    points = run.generation(1).metrics["gate"]["points"]
    assert points.value == pytest.approx(scores.mean())
    assert points.low < points.value < points.high
    verdict = run.generation(1).record.stages["gate"].facts.verdict
    assert (verdict.numbers["wins"], verdict.numbers["losses"]) == ((scores == 1).sum(), (scores == 0).sum())
    assert verdict.numbers["effect"] == pytest.approx(2 * scores.mean() - 1)


@dataclass(frozen=True)
class PassAt:
    """The chance that one of k answers to a problem is right, of n each (Chen et al. 2021)."""

    k: int
    columns = ()

    def measure(self, outcomes: pa.Table, items: pa.Table) -> Mapping[str, Interval]:
        problems, which = np.unique(outcomes["cluster"].to_numpy(), return_inverse=True)
        n, right = np.bincount(which), np.bincount(which, outcomes["score"].to_numpy())
        none_right = np.prod([np.maximum(0, n - right - i) / (n - i) for i in range(self.k)], axis=0)
        return {f"pass@{self.k}": mean_interval(1 - none_right, problems)}


@dataclass(kw_only=True)
class Samples(Moons):
    """Answers are drawn from the model: k a prompt, which vote, and k an item."""

    def suites(self) -> list[Suite]:
        metrics = (PassAt(1), PassAt(K))
        return [
            replace(suite, items=_repeated(suite.items, "item"), metrics=metrics)
            for suite in super().suites()
        ]

    def generate(self, model: Any, prompts: pa.Table, settings: Any, keys: Any) -> dict[str, Any]:
        rows = np.repeat(np.arange(len(prompts)), K)
        labels = _drawn(model, prompts, keys.uniform(K))
        return {"prompt": prompts["prompt"].take(rows), "point": prompts["point"].take(rows), "label": labels}

    def evaluate(self, model: Any, opponent: Any, items: pa.Table, keys: Any) -> np.ndarray:
        right: np.ndarray = _drawn(model, items, keys.uniform(1)) == items["label"].to_numpy()
        return right


def _drawn(model: Any, rows: pa.Table, uniform: np.ndarray) -> np.ndarray:
    """Labels drawn from the model, int64, as many a row as there are numbers; those of a row together."""
    import torch

    points = torch.tensor(np.array(rows["point"].to_pylist(), np.float32))
    labels: np.ndarray = (uniform < model(points).softmax(1)[:, 1:].numpy()).astype(np.int64).ravel()
    return labels


def _repeated(items: pa.Table, key: str) -> pa.Table:
    rows = np.repeat(np.arange(len(items)), K)
    names = [f"{items[key][row]}/{n % K}" for n, row in enumerate(rows)]
    several = items.take(rows).append_column("cluster", items[key].take(rows))
    return several.set_column(0, key, pa.array(names))


K_SAMPLES = {"task._target_": f"{__name__}.Samples", "generations": 1}
VOTE = {"grader._target_": "flywheel.graders.Vote", "+grader.answer": "label", "+curator.score": "vote"}


def test_a_model_with_k_samples_a_prompt_votes_and_is_measured_by_pass_at_k(tmp_path):
    run = run_moons(tmp_path, **K_SAMPLES, **VOTE)
    samples, scores = table_of(run, 1, "generate", "samples"), table_of(run, 1, "grade", "scores")
    groups = samples["group"].to_pylist()
    assert [groups.count(group) for group in dict.fromkeys(groups)] == [K] * 200
    assert set(scores["vote"].to_pylist()) <= {n / K for n in range(1, K + 1)}
    for number in (0, 1):
        if run.generation(number).record.evaluate.facts.repeated:
            continue  # what is shown is generation 0's
        measured, right = run.generation(number).metrics["gate"], gate_scores(run, number)
        assert measured["pass@1"].value == pytest.approx(right.mean())
        assert measured["pass@4"].value == pytest.approx(right.reshape(-1, K).max(1).mean())
        assert measured["pass@4"].low < measured["pass@4"].high
    assert run.generation(1).record.stages["gate"].facts.verdict.numbers["clusters"] == 200
    other = run_moons(tmp_path, **K_SAMPLES, **VOTE, chunk_size=37, name="other")
    again = table_of(other, 1, "generate", "samples")
    assert np.mean(np.equal(again["label"].to_numpy(), samples["label"].to_numpy())) > 0.99
