"""Parts that each break one rule of their seam."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from msgspec.structs import replace

from flywheel.curators.confident import Confident
from flywheel.gates.paired import Paired
from flywheel.graders.confidence import Confidence
from flywheel.protocols import TunerView
from flywheel.records import Action, Alarm, Choice, Differences, GateResult, Role, Suite
from flywheel.testing import FixedEvidence
from flywheel.testing.moons.task import Moons
from flywheel.tuners.fixed import Fixed

_COUNT = itertools.count()


class DrawsAnew(Moons):
    """Reads other seed samples each time."""

    def seed(self) -> Any:
        self.seed_value = next(_COUNT)
        return super().seed()


class NoGateSuite(Moons):
    def suites(self) -> list[Suite]:
        return [suite for suite in super().suites() if suite.role is not Role.GATE]


class ForgesOrigin(Moons):
    def generate(self, model: Any, prompts: Any, settings: Any, keys: Any) -> Any:
        made = super().generate(model, prompts, settings, keys)
        return made | {"origin": ["human"] * len(prompts)}


class UnseededLabels(Moons):
    def generate(self, model: Any, prompts: Any, settings: Any, keys: Any) -> Any:
        made = super().generate(model, prompts, settings, keys)
        return made | {"label": np.random.default_rng().integers(0, 2, len(prompts))}


class CountsCalls(Moons):
    """Does not know where it is in a suite but counts."""

    calls = 0

    def evaluate(self, model: Any, opponent: Any, items: Any, keys: Any) -> Any:
        self.calls = (self.calls + 1) % 2
        return super().evaluate(model, opponent, items, keys) * self.calls


class OtherPrompts(Moons):
    def generate(self, model: Any, prompts: Any, settings: Any, keys: Any) -> Any:
        made = super().generate(model, prompts, settings, keys)
        return made | {"prompt": [f"answer {name}" for name in prompts["prompt"].to_pylist()]}


class OtherTypes(Moons):
    def generate(self, model: Any, prompts: Any, settings: Any, keys: Any) -> Any:
        made = super().generate(model, prompts, settings, keys)
        return made | {"label": made["label"].astype(str)}


class Squeezes(Moons):
    """Wrong where a chunk has one row."""

    def evaluate(self, model: Any, opponent: Any, items: Any, keys: Any) -> Any:
        return np.asarray(super().evaluate(model, opponent, items, keys)).squeeze()


class ScoresInPercent(Moons):
    def evaluate(self, model: Any, opponent: Any, items: Any, keys: Any) -> Any:
        return super().evaluate(model, opponent, items, keys) * 100


class TrainsWhileScoring(Moons):
    def evaluate(self, model: Any, opponent: Any, items: Any, keys: Any) -> Any:
        model.head.bias.data += 1.0
        return super().evaluate(model, opponent, items, keys)


class TrainingMode(Moons):
    def generate(self, model: Any, prompts: Any, settings: Any, keys: Any) -> Any:
        return super().generate(model.train(), prompts, settings, keys)


class NoBatches(Moons):
    def data(self, corpus: Any, settings: Any) -> Any:
        return torch.utils.data.DataLoader([])


class InfinitePoints(Moons):
    def data(self, corpus: Any, settings: Any) -> Any:
        points = torch.full((64, 2), torch.inf)
        return torch.utils.data.DataLoader(list(zip(points, torch.zeros(64, dtype=torch.long), strict=True)))


class ScoresSome(Confidence):
    def grade(self, samples: Any, load_parent: Any, keys: Any) -> Any:
        return {"confidence": samples[self.column][1:]}


class NoScore(Confidence):
    def grade(self, samples: Any, load_parent: Any, keys: Any) -> Any:
        return {"answer": samples["prompt"]}


class Guesses(Confidence):
    def grade(self, samples: Any, load_parent: Any, keys: Any) -> Any:
        return {"confidence": np.random.default_rng().random(len(samples))}


class TakesAColumn(Confidence):
    def grade(self, samples: Any, load_parent: Any, keys: Any) -> Any:
        return {self.column: samples[self.column]}


class KeepsNothing(Confident):
    def curate(self, samples: Any, carry: Any, key: Any) -> Any:
        decisions, carry = super().curate(samples, carry, key)
        return decisions | {"keep": np.zeros(len(samples), bool)}, carry


class NoCarry(Confident):
    def curate(self, samples: Any, carry: Any, key: Any) -> Any:
        return super().curate(samples, carry, key)[0]


class RemembersByItself(Confident):
    """Keeps every other time fewer rows, by state that a resumed run has lost."""

    def curate(self, samples: Any, carry: Any, key: Any) -> Any:
        self.threshold = 0.9 - self.threshold
        return super().curate(samples, carry, key)


class ChangesCarry(Confident):
    def curate(self, samples: Any, carry: Any, key: Any) -> Any:
        carry["turns"] = carry.get("turns", 0) + 1
        return super().curate(samples, carry, key)[0], carry


class KeepsSometimes(Confident):
    carry_kept = "sometimes"


class ReordersRows(Confident):
    def curate(self, samples: Any, carry: Any, key: Any) -> Any:
        return super().curate(samples.take(np.arange(len(samples))[::-1]), carry, key)


class Forgets(Fixed):
    def ask(self, view: TunerView) -> Choice:
        return Choice({"lr": view.settings["lr"]}, view.init)


class Invents(Fixed):
    def ask(self, view: TunerView) -> Choice:
        return Choice({**view.settings, "lrr": 0.1}, view.init)


class StartsFromParent(Fixed):
    def ask(self, view: TunerView) -> Choice:
        return Choice(view.settings, "parent")


class AlwaysPromotes(Paired):
    def test(self, evidence: Any, level: float, carry: Any, key: Any) -> Any:
        return GateResult("why not", p_value=0.0), carry


class NeverPromotes(Paired):
    def test(self, evidence: Any, level: float, carry: Any, key: Any) -> Any:
        return GateResult("no", e_value=0.0), carry


class NoValue(Paired):
    def test(self, evidence: Any, level: float, carry: Any, key: Any) -> Any:
        return GateResult("better, believe me"), carry


class ComparesMeans(Paired):
    def test(self, evidence: Any, level: float, carry: Any, key: Any) -> Any:
        is_better = np.mean(evidence.differences(evidence.suites[0]).items) > 0
        return GateResult("a higher mean", p_value=0.0 if is_better else 1.0), carry


class IgnoresClusters(Paired):
    def test(self, evidence: Any, level: float, carry: Any, key: Any) -> Any:
        items = {suite: evidence.differences(suite).items for suite in evidence.suites}
        alone = {suite: Differences(found, np.arange(len(found))) for suite, found in items.items()}
        return super().test(FixedEvidence(alone), level, carry, key)


class CountsClusters(Paired):
    """Compares means of clusters, whatever their sizes."""

    def test(self, evidence: Any, level: float, carry: Any, key: Any) -> Any:
        found = {suite: evidence.differences(suite) for suite in evidence.suites}
        means = {s: np.bincount(d.clusters, d.items) / np.bincount(d.clusters) for s, d in found.items()}
        alone = {suite: Differences(mean, np.arange(len(mean))) for suite, mean in means.items()}
        return super().test(FixedEvidence(alone), level, carry, key)


class FlipsSigns(Paired):
    """A permutation test of the mean: right for differences that are as likely of the other sign."""

    def test(self, evidence: Any, level: float, carry: Any, key: Any) -> Any:
        result, carry = super().test(evidence, level, carry, key)
        found = evidence.differences(evidence.suites[0])
        sums = np.bincount(found.clusters, found.items)
        signs = 1 - 2 * key.numpy().integers(0, 2, (1000, len(sums)))
        p_value = (1 + int(np.count_nonzero(signs @ sums >= sums.sum() - 1e-9))) / 1001
        return replace(result, p_value=p_value if result.numbers["effect"] > 0 else 1.0), carry


class NumpyNumbers(Paired):
    def test(self, evidence: Any, level: float, carry: Any, key: Any) -> Any:
        result, carry = super().test(evidence, level, carry, key)
        return replace(result, numbers={"n": np.int64(3)}), carry


class Unkeyed(Paired):
    def test(self, evidence: Any, level: float, carry: Any, key: Any) -> Any:
        result, carry = super().test(evidence, level, carry, key)
        return replace(result, numbers={"p": np.random.default_rng().random()}), carry


class AlarmsByText:
    def check(self, view: Any) -> Any:
        return None if view.verdict.promote else "it is worse"


class AlarmsAtRandom:
    def check(self, view: Any) -> Any:
        return Alarm(Action.WARN, f"{np.random.default_rng().random()}")


class SaysYes:
    def review(self, request: Any) -> Any:
        return "no"
