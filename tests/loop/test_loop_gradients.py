"""generate, grade and evaluate are called without gradients, by one rule: trainer.inference_mode."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import flywheel
from flywheel.graders import Confidence
from flywheel.testing.moons.task import Moons
from tests.support.harness import PROBE_CONF
from tests.support.loop_runs import statuses

HERE = "tests.loop.test_loop_gradients"
modes: set[tuple[str, bool, bool]] = set()
"""(stage, whether in inference mode, whether gradients are on) of the calls of the parts below."""


def look(stage: str, model: Any) -> None:
    """Note how a part is called; where it may, take gradients, as of a reward model that is fitted."""
    modes.add((stage, torch.is_inference_mode_enabled(), torch.is_grad_enabled()))
    assert not any(parameter.is_inference() for parameter in model.parameters())
    if not torch.is_inference_mode_enabled():
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(model(torch.ones(1, 2)).sum(), [next(model.parameters())])
        assert gradient.isfinite().all()


class Looks(Moons):
    def generate(self, model: Any, prompts: Any, settings: Any, keys: Any) -> Any:
        look("generate", model)
        return super().generate(model, prompts, settings, keys)

    def evaluate(self, model: Any, opponent: Any, items: Any, keys: Any) -> Any:
        look("evaluate", model)
        return super().evaluate(model, opponent, items, keys)


class LooksInGrade(Confidence):
    def grade(self, samples: Any, load_parent: Any, keys: Any) -> Any:
        look("grade", load_parent())
        return super().grade(samples, load_parent, keys)


@pytest.mark.parametrize(("given", "inference"), [({}, True), ({"+trainer__inference_mode": False}, False)])
def test_parts_are_called_without_gradients_and_may_turn_them_on(probe, monkeypatch, given, inference):
    seen: set[tuple[str, bool, bool]] = set()
    monkeypatch.setattr(f"{HERE}.modes", seen)
    parts = {"task___target_": f"{HERE}.Looks", "grader___target_": f"{HERE}.LooksInGrade"}
    run = probe(generations=1, **parts, **given)
    assert statuses(run) == ["promoted", "promoted"], run.status().reason
    assert seen == {(stage, inference, False) for stage in ("generate", "grade", "evaluate")}
    seen.clear()
    view = flywheel.open_run(run.path, PROBE_CONF, trusted={f"{HERE}.Looks"}).champion()
    assert view.evaluate([{"point": [0.1, 0.2], "label": 0}]).num_rows == 1
    assert seen == {("evaluate", inference, False)}
