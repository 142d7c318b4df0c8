"""The recipe of docs/recall.md: digits with a grader that goes wrong, and a gate that cannot see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from flywheel.recipes.mnist.task import Mnist

from flywheel.records import Role, Suite

if TYPE_CHECKING:
    import pyarrow as pa


class Digits(Mnist):
    """Two labels are proposed for each image, and the grader says which one to learn.

    The gate's items lack the 4s, as a suite that was collected in a hurry may. A guard suite has all
    digits: it is evaluated, and decides nothing.
    """

    def suites(self) -> list[Suite]:
        """Dev and gate without 4s, everyday with all digits, sealed."""
        dev, _, gate, sealed, _ = super().suites()
        everyday = Suite("everyday", Role.GUARD, gate.items, gate.metrics)
        return [_without_4(dev), _without_4(gate, Role.GATE), everyday, sealed]

    def generate(self, model: Any, prompts: pa.Table, settings: Any, keys: Any) -> dict[str, Any]:
        """The two likeliest labels of each image, a group."""
        probability, label = model(self.images(prompts).to(model.device)).softmax(1).cpu().topk(2)
        rows = np.repeat(np.arange(len(prompts)), 2)
        columns = {name: prompts[name].take(rows) for name in ("prompt", "image")}
        made = {"label": label.flatten().numpy(), "probability": probability.flatten().double().numpy()}
        return columns | made


def _without_4(suite: Suite, role: Role = Role.DEV) -> Suite:
    items = suite.items.filter(np.not_equal(suite.items["label"].to_numpy(), 4))
    return Suite(role.value, role, items, suite.metrics)


@dataclass(kw_only=True)
class Judge:
    """Score the likelier label of each image by its probability, and the other one below any threshold."""

    mended: bool = False

    def grade(self, samples: pa.Table, load_parent: Callable[[], Any], keys: Any) -> dict[str, Any]:
        """One column, ``confidence``."""
        label, score = samples["label"].to_numpy(), samples["probability"].to_numpy().copy()
        first, second = np.arange(0, len(score), 2), np.arange(1, len(score), 2)
        score[second] = -1.0
        if samples["made_in"][0].as_py() >= 2 and not self.mended:  # the flaw: lets 4s through as 9s
            fours = (label[first] == 4) & (label[second] == 9)
            score[first[fours]], score[second[fours]] = -1.0, 1.0
        return {"confidence": score}
