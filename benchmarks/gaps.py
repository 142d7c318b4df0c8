"""Prompts that fill gaps against uniform ones: the same number of prompts and of steps, on paired seeds.

    python -m benchmarks.gaps                      # 10 seeds, some minutes on one core
    python -m benchmarks.gaps --seeds 0 1 2 --turns 4

The recipe has fourteen kinds of points, each with four labels in stripes: eight that genesis masters, four
that are learnable with more examples, and two whose labels are drawn by chance and that nobody can learn.
The champion answers each prompt four times by its probabilities; a verifier keeps what is right. Scored is
the champion of the end, on the sealed items, as many of each kind. Arms of a seed differ in ``task.policy``:

    uniform      flywheel.prompting.Even
    directed     flywheel.prompting.WeakSpots
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pyarrow as pa
import torch
from torch import nn

import flywheel
from flywheel.keys import Key, Keys
from flywheel.metrics import Mean
from flywheel.metrics.intervals import t_interval
from flywheel.prompting import Even, WeakSpots
from flywheel.records import Carry, Role, Suite

STRIPES = (0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 2.0, 2.4, 2.8, 3.2, 0.0, 0.0)
"""Of each kind, how many rounds of labels its points go through; 0: labels by chance."""
LABELS = 4
ANSWERS = 4


@dataclass(kw_only=True)
class Stripes:
    """Points in the unit square, whose labels are stripes in a direction of their kind."""

    identity_columns = ("kind", "point")
    slice_columns = ("kind",)

    seed_value: int = 0
    labelled: int = 168
    asked: int = 420
    items: int = 1400
    policy: Even | None = None

    def seed(self) -> pa.Table:
        """Labelled points, as many of each kind."""
        return self._table("prompt", "human", _even(self.labelled))

    def suites(self) -> list[Suite]:
        """Likewise for each role."""
        roles = (Role.DEV, Role.GATE, Role.SEALED)
        tables = {role: self._table("item", role.value, _even(self.items)) for role in roles}
        return [Suite(role.value, role, table, (Mean("accuracy"),)) for role, table in tables.items()]

    def prompts(
        self, generation: int, carry: Mapping[str, Carry], key: Key, results: pa.Table | None = None
    ) -> pa.Table:
        """New points, of each kind as many as the policy says."""
        counts = (self.policy or Even()).counts(self.asked, results, range(len(STRIPES)), key)
        kinds = np.repeat(list(counts), list(counts.values()))
        return self._table("prompt", f"turn {generation}", kinds).drop_columns("label")

    def generate(self, model: Any, prompts: pa.Table, settings: Any, keys: Keys) -> dict[str, Any]:
        """Some answers to each point, drawn from the model's probabilities."""
        chances = model(*_inputs(prompts)).softmax(1).double().numpy()
        ends = chances.cumsum(1)[:, None]
        answers = (keys.uniform(ANSWERS)[:, :, None] > ends).sum(2).clip(max=LABELS - 1)
        rows = np.repeat(np.arange(len(prompts)), ANSWERS)
        columns = {name: prompts[name].take(rows) for name in ("prompt", "kind", "point")}
        return columns | {"label": answers.ravel()}

    def data(self, corpus: pa.Table, settings: Any) -> Any:
        """Batches of points and labels."""
        from torch.utils.data import DataLoader, TensorDataset

        dataset = TensorDataset(*_inputs(corpus), torch.tensor(corpus["label"].to_numpy()))
        return DataLoader(dataset, settings["batch_size"], shuffle=True)

    def evaluate(self, model: Any, opponent: Any, items: pa.Table, keys: Keys) -> np.ndarray:
        """1 where the likeliest label is right."""
        predicted = model(*_inputs(items)).argmax(1).numpy()
        right: np.ndarray = np.equal(predicted, items["label"].to_numpy())
        return right.astype(float)

    def _table(self, key: str, name: str, kinds: np.ndarray) -> pa.Table:
        rng = Key.root(self.seed_value)("stripes", name).numpy()
        points = rng.uniform(size=(len(kinds), 2)).astype(np.float32)
        flat = pa.FixedSizeListArray.from_arrays(pa.array(points.ravel()), 2)
        names = [f"{name}-{row}" for row in range(len(kinds))]
        return pa.table({key: names, "kind": kinds, "point": flat, "label": truth(kinds, points)})


def truth(kinds: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The labels; those by chance are a function of the point that no model of this size can learn."""
    angles = np.arange(len(STRIPES)) * 2.4
    along = points[:, 0] * np.cos(angles[kinds]) + points[:, 1] * np.sin(angles[kinds]) + 2
    chance = points.astype(np.float32).view(np.uint32).sum(1) >> 3
    stripes = np.array(STRIPES)[kinds]
    labels: np.ndarray = np.where(stripes > 0, np.floor(along * stripes * LABELS / 2), chance) % LABELS
    return labels.astype(np.int64)


class Network(lightning.LightningModule):
    """Random Fourier features of the point beside its kind, and two layers."""

    def __init__(self, width: int = 128, lr: float = 0.01) -> None:
        super().__init__()
        self.lr = lr
        self.features = nn.Linear(2, width)
        self.layers = nn.Sequential(
            nn.Linear(width + len(STRIPES), width), nn.ReLU(), nn.Linear(width, len(STRIPES) * LABELS)
        )
        nn.init.normal_(self.features.weight, std=6.0)
        nn.init.uniform_(self.features.bias, -torch.pi, torch.pi)

    def forward(self, kinds: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """Logits, [batch, LABELS]: each kind has outputs of its own."""
        own = nn.functional.one_hot(kinds, len(STRIPES)).float()
        hidden = self.layers(torch.cat([self.features(points).cos(), own], 1))
        logits: torch.Tensor = (hidden.view(-1, len(STRIPES), LABELS) * own[:, :, None]).sum(1)
        return logits

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Cross entropy."""
        kinds, points, labels = batch
        return nn.functional.cross_entropy(self(kinds, points), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), self.lr)


class Verifier:
    """1 where the answer is right."""

    def grade(self, samples: pa.Table, load_parent: Any, keys: Keys) -> dict[str, Any]:
        """One column, ``right``."""
        points = np.stack(samples["point"].to_numpy())
        right = truth(samples["kind"].to_numpy(), points) == samples["label"].to_numpy()
        return {"right": right.astype(float)}


class OneRight:
    """All human rows, and of each prompt of any turn one right answer."""

    carry_kept = "always"

    def curate(self, samples: pa.Table, carry: Carry, key: Key) -> tuple[dict[str, Any], Carry]:
        """Decisions row for row; no carry."""
        human = np.equal(samples["origin"].to_numpy(), "human")
        scores = samples["right"].to_numpy() if "right" in samples.column_names else np.zeros(len(samples))
        right = np.nan_to_num(scores.astype(float)) >= 0.5
        first = np.zeros(len(samples), bool)
        where = np.flatnonzero(right)
        groups = samples["group"].to_numpy(zero_copy_only=False)[where].astype(str)
        first[where[np.unique(groups, return_index=True)[1]]] = True
        reason = np.select([human, first, right], ["human", "right", "as another answer"], "wrong")
        ones = np.ones(len(samples))
        decisions = {"id": samples["id"], "keep": human | first, "reason": reason, "weight": ones}
        return decisions | {"count": ones.astype(int)}, {}


def _even(count: int) -> np.ndarray:
    """Kinds, as many of each."""
    return np.arange(count) % len(STRIPES)


def _inputs(table: pa.Table) -> tuple[torch.Tensor, torch.Tensor]:
    points = np.stack(table["point"].to_numpy())
    return torch.tensor(table["kind"].to_numpy()), torch.tensor(points)


ARMS: dict[str, Even] = {"uniform": Even(), "directed": WeakSpots(chance=1 / LABELS)}


def run(arm: str, seed: int, turns: int, runs: Path) -> float:
    """The accuracy of the champion of the end, in percent of the sealed items."""
    settings = {"steps": 300, "batch_size": 64}
    ours = {"recipe": "gaps", "seed": seed, "name": f"{arm}-{seed}", "generations": turns}
    rules = {"promotion": "greedy", "init": "fresh", "threads": 1, "log": "quiet"}
    done = flywheel.run(
        {**ours, **rules, "runs_dir": str(runs), "settings": settings, "trainer": {"max_steps": 300}},
        task=Stripes(seed_value=seed, policy=ARMS[arm]),
        model=lambda settings: Network(),
        grader=Verifier(),
        curator=OneRight(),
    )
    return 100 * float(done.champion().metrics["sealed"]["accuracy"].value)


def main() -> None:
    """Run both arms on each seed and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    table = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds:
            scores = {arm: run(arm, seed, options.turns, Path(folder)) for arm in ARMS}
            table.append(list(scores.values()))
            print(
                f"seed {seed}: " + ", ".join(f"{arm} {score:.2f}" for arm, score in scores.items()),
                flush=True,
            )
    accuracy = np.array(table)  # (seeds, arms)
    for arm, column in zip(ARMS, accuracy.T, strict=True):
        print(f"{arm}: {column.mean():.2f}")
    apart = t_interval(accuracy[:, 1] - accuracy[:, 0], 100 / Stripes.items)
    print(f"directed - uniform: {apart.value:+.2f} [{apart.low:+.2f}, {apart.high:+.2f}] points, 95%")


if __name__ == "__main__":
    main()
