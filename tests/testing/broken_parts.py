"""Parts that each break one rule of their seam."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch

from flywheel.curators.confident import Confident
from flywheel.gates.paired import Paired
from flywheel.graders.confidence import Confidence
from flywheel.records import Differences, Role, Suite, Verdict
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
    def generate(self, model: Any, prompts: Any, settings: Any, key: Any) -> Any:
        made = super().generate(model, prompts, settings, key)
        return made | {"origin": ["human"] * len(prompts)}


class UnseededLabels(Moons):
    def generate(self, model: Any, prompts: Any, settings: Any, key: Any) -> Any:
        made = super().generate(model, prompts, settings, key)
        return made | {"label": np.random.default_rng().integers(0, 2, len(prompts))}


class CountsCalls(Moons):
    """Does not know where it is in a suite but counts."""

    calls = 0

    def evaluate(self, model: Any, opponent: Any, items: Any, key: Any) -> Any:
        self.calls = (self.calls + 1) % 2
        return super().evaluate(model, opponent, items, key) * self.calls


class OtherPrompts(Moons):
    def generate(self, model: Any, prompts: Any, settings: Any, key: Any) -> Any:
        made = super().generate(model, prompts, settings, key)
        return made | {"prompt": [f"answer {name}" for name in prompts["prompt"].to_pylist()]}


class OtherTypes(Moons):
    def generate(self, model: Any, prompts: Any, settings: Any, key: Any) -> Any:
        made = super().generate(model, prompts, settings, key)
        return made | {"label": made["label"].astype(str)}


class Squeezes(Moons):
    """Wrong where a chunk has one row."""

    def evaluate(self, model: Any, opponent: Any, items: Any, key: Any) -> Any:
        return np.asarray(super().evaluate(model, opponent, items, key)).squeeze()


class ScoresInPercent(Moons):
    def evaluate(self, model: Any, opponent: Any, items: Any, key: Any) -> Any:
        return super().evaluate(model, opponent, items, key) * 100


class TrainsWhileScoring(Moons):
    def evaluate(self, model: Any, opponent: Any, items: Any, key: Any) -> Any:
        model.head.bias.data += 1.0
        return super().evaluate(model, opponent, items, key)


class TrainingMode(Moons):
    def generate(self, model: Any, prompts: Any, settings: Any, key: Any) -> Any:
        return super().generate(model.train(), prompts, settings, key)


class NoBatches(Moons):
    def data(self, corpus: Any, settings: Any) -> Any:
        return torch.utils.data.DataLoader([])


class InfinitePoints(Moons):
    def data(self, corpus: Any, settings: Any) -> Any:
        points = torch.full((64, 2), torch.inf)
        return torch.utils.data.DataLoader(list(zip(points, torch.zeros(64, dtype=torch.long), strict=True)))


class ScoresSome(Confidence):
    def grade(self, samples: Any, load_parent: Any, key: Any) -> Any:
        return {"confidence": samples[self.column][1:]}


class NoScore(Confidence):
    def grade(self, samples: Any, load_parent: Any, key: Any) -> Any:
        return {"answer": samples["prompt"]}


class Guesses(Confidence):
    def grade(self, samples: Any, load_parent: Any, key: Any) -> Any:
        return {"confidence": np.random.default_rng().random(len(samples))}


class TakesAColumn(Confidence):
    def grade(self, samples: Any, load_parent: Any, key: Any) -> Any:
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
    def tune(self, attempt: Any, settings: Any, init: str, carry: Any) -> Any:
        return {"lr": settings["lr"]}, init, carry


class Invents(Fixed):
    def tune(self, attempt: Any, settings: Any, init: str, carry: Any) -> Any:
        return {**settings, "lrr": 0.1}, init, carry


class StartsFromParent(Fixed):
    def tune(self, attempt: Any, settings: Any, init: str, carry: Any) -> Any:
        return settings, "parent", carry


class AlwaysPromotes(Paired):
    def decide(self, pull: Any, suites: Any, carry: Any, key: Any) -> Any:
        return Verdict(True, "why not"), carry


class NeverPromotes(Paired):
    def decide(self, pull: Any, suites: Any, carry: Any, key: Any) -> Any:
        return Verdict(False, "no"), carry


class ComparesMeans(Paired):
    def decide(self, pull: Any, suites: Any, carry: Any, key: Any) -> Any:
        return Verdict(bool(np.mean(pull(suites[0], None).items) > 0), "a higher mean"), carry


class IgnoresClusters(Paired):
    def decide(self, pull: Any, suites: Any, carry: Any, key: Any) -> Any:
        def items(suite: Any, n: Any) -> Differences:
            found = pull(suite, n).items
            return Differences(found, np.arange(len(found)))

        return super().decide(items, suites, carry, key)


class CountsClusters(Paired):
    """Compares means of clusters, whatever their sizes."""

    def decide(self, pull: Any, suites: Any, carry: Any, key: Any) -> Any:
        def means(suite: Any, n: Any) -> Differences:
            found = pull(suite, n)
            means = np.bincount(found.clusters, found.items) / np.bincount(found.clusters)
            return Differences(means, np.arange(len(means)))

        return super().decide(means, suites, carry, key)


class NumpyEvidence(Paired):
    def decide(self, pull: Any, suites: Any, carry: Any, key: Any) -> Any:
        verdict, carry = super().decide(pull, suites, carry, key)
        return Verdict(verdict.promote, verdict.reason, {"n": np.int64(3)}), carry


class Unkeyed(Paired):
    def decide(self, pull: Any, suites: Any, carry: Any, key: Any) -> Any:
        verdict, carry = super().decide(pull, suites, carry, key)
        return Verdict(verdict.promote, verdict.reason, {"p": np.random.default_rng().random()}), carry


class NoAlpha:
    def decide(self, pull: Any, suites: Any, carry: Any, key: Any) -> Any:
        return Paired().decide(pull, suites, carry, key)


class SaysYes:
    def review(self, candidate: Any, verdict: Any) -> Any:
        return "no"
