"""Parts that each break one rule of their seam."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from msgspec.structs import replace
from torch.utils.data import DataLoader

from flywheel.curators.confident import Confident
from flywheel.gates.paired import Paired
from flywheel.graders.confidence import Confidence
from flywheel.records import Action, Alarm, Differences, GateResult, Role
from flywheel.reviewers import NoReview
from flywheel.testing import FixedEvidence
from flywheel.testing.moons.task import Moons
from flywheel.tuners.fixed import Fixed


def changed(kind: type, method: str, change: Callable[..., Any]) -> Any:
    """A part with a method that answers what ``change`` makes of its answer and its arguments."""

    def call(self: Any, *arguments: Any) -> Any:
        return change(getattr(kind, method)(self, *arguments), *arguments)

    return type("Changed", (kind,), {method: call})()


def generating(name: str, column: Callable[[Any], Any]) -> Any:
    """A task with another column in its samples."""
    return changed(Moons, "generate", lambda rows, *_: rows | {name: column(rows)})


def grading(name: str, column: Callable[[Any], Any]) -> Any:
    return changed(Confidence, "grade", lambda _, samples, *rest: {name: column(samples)})


def gating(change: Callable[[GateResult], GateResult]) -> Any:
    return changed(Paired, "test", lambda answer, *_: (change(answer[0]), answer[1]))


def unkeyed(rows: Any) -> np.ndarray:
    return np.random.default_rng().random(len(rows["prompt"]))


NO_GATE_SUITE = changed(Moons, "suites", lambda suites: [s for s in suites if s.role is not Role.GATE])
FORGES_ORIGIN = generating("origin", lambda rows: ["human"] * len(rows["prompt"]))
UNSEEDED_LABELS = generating("label", lambda rows: (unkeyed(rows) > 0.5).astype(int))
OTHER_PROMPTS = generating("prompt", lambda rows: [f"answer {p}" for p in rows["prompt"].to_pylist()])
OTHER_TYPES = generating("label", lambda rows: rows["label"].astype(str))
LEAVES_TRAINING_MODE = changed(Moons, "generate", lambda rows, model, *_: model.train() and rows)
SQUEEZES_ONE_ROW = changed(Moons, "evaluate", lambda scores, *_: np.asarray(scores).squeeze())
SCORES_IN_PERCENT = changed(Moons, "evaluate", lambda scores, *_: scores * 100)
NO_BATCHES = changed(Moons, "data", lambda *_: DataLoader([]))
SCORES_SOME = grading("confidence", lambda samples: samples["probability"][1:])
NO_REASON = grading("confidence", lambda samples: [None] * len(samples))
NO_SCORE = grading("answer", lambda samples: samples["prompt"])
GUESSES = grading("confidence", unkeyed)
TAKES_A_COLUMN = grading("probability", lambda samples: samples["probability"])
NO_CARRY = changed(Confident, "curate", lambda answer, *_: answer[0])
FORGETS = changed(Fixed, "choose", lambda choice, _: replace(choice, settings={"lr": choice.settings["lr"]}))
INVENTS = changed(
    Fixed, "choose", lambda choice, _: replace(choice, settings={**choice.settings, "lrr": 0.1})
)
STARTS_FROM_PARENT = changed(Fixed, "choose", lambda choice, _: replace(choice, start="parent"))
ALWAYS_PROMOTES = gating(lambda _: GateResult("why not", p_value=0.0))
NEVER_PROMOTES = gating(lambda _: GateResult("no", e_value=0.0))
NO_VALUE = gating(lambda _: GateResult("better, believe me"))
NUMPY_NUMBERS = gating(lambda result: replace(result, numbers={"n": np.int64(3)}))
UNKEYED = gating(lambda result: replace(result, numbers={"p": np.random.default_rng().random()}))
SAYS_YES = changed(NoReview, "review", lambda *_: "no")


class ShowsNothing(Moons):
    def show(self, sample: Any) -> Any:
        return sample["picture"]


class ShowsAtRandom(Moons):
    def show(self, sample: Any) -> Any:
        return np.random.random((8, 8))


class DrawsAnew(Moons):
    """Reads other seed samples each time."""

    count = itertools.count()

    def seed(self) -> Any:
        self.seed_value = next(self.count)
        return super().seed()


class CountsCalls(Moons):
    """Does not know where it is in a suite but counts."""

    calls = 0

    def evaluate(self, model: Any, opponent: Any, items: Any, keys: Any) -> Any:
        self.calls = (self.calls + 1) % 2
        return super().evaluate(model, opponent, items, keys) * self.calls


class TrainsWhileScoring(Moons):
    def evaluate(self, model: Any, opponent: Any, items: Any, keys: Any) -> Any:
        model.head.bias.data += 1.0
        return super().evaluate(model, opponent, items, keys)


class InfinitePoints(Moons):
    def data(self, corpus: Any, settings: Any) -> Any:
        points = torch.full((64, 2), torch.inf)
        return DataLoader(list(zip(points, torch.zeros(64, dtype=torch.long), strict=True)))


class KeepsNothing(Confident):
    def curate(self, samples: Any, carry: Any, key: Any) -> Any:
        decisions, carry = super().curate(samples, carry, key)
        return decisions | {"keep": np.zeros(len(samples), bool)}, carry


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


class ComparesMeans(Paired):
    def test(self, evidence: Any, level: float, carry: Any, key: Any) -> Any:
        is_better = np.mean(evidence.differences(evidence.suites[0]).items) > 0
        return GateResult("a higher mean", p_value=0.0 if is_better else 1.0), carry


class IgnoresClusters(Paired):
    def items(self, differences: Differences) -> np.ndarray:
        return differences.items

    def test(self, evidence: Any, level: float, carry: Any, key: Any) -> Any:
        items = {suite: self.items(evidence.differences(suite)) for suite in evidence.suites}
        alone = {suite: Differences(values, np.arange(len(values))) for suite, values in items.items()}
        return super().test(FixedEvidence(alone), level, carry, key)


class CountsClusters(IgnoresClusters):
    """Compares means of clusters, whatever their sizes."""

    def items(self, differences: Differences) -> np.ndarray:
        return np.bincount(differences.clusters, differences.items) / np.bincount(differences.clusters)


class FlipsSigns(Paired):
    """A permutation test of the mean: right for differences that are as likely of the other sign."""

    def test(self, evidence: Any, level: float, carry: Any, key: Any) -> Any:
        result, carry = super().test(evidence, level, carry, key)
        differences = evidence.differences(evidence.suites[0])
        sums = np.bincount(differences.clusters, differences.items)
        signs = 1 - 2 * key.numpy().integers(0, 2, (1000, len(sums)))
        p_value = (1 + int(np.count_nonzero(signs @ sums >= sums.sum() - 1e-9))) / 1001
        return replace(result, p_value=p_value if result.numbers["effect"] > 0 else 1.0), carry


class AlarmsByText:
    def check(self, view: Any) -> Any:
        return None if view.verdict.promote else "it is worse"


class AlarmsAtRandom:
    def check(self, view: Any) -> Any:
        return Alarm(Action.WARN, f"{np.random.default_rng().random()}")
