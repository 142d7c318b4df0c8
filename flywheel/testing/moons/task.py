"""Two moons (as in scikit-learn's ``make_moons``): 2-D points, two classes, few of them labelled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flywheel.metrics import Mean
from flywheel.records import Carry, Role, Suite

if TYPE_CHECKING:
    import pyarrow as pa

    from flywheel.keys import Key, Keys


@dataclass(kw_only=True)
class Settings:
    """What a tuner may change."""

    steps: int
    lr: float
    width: int
    batch_size: int
    threshold: float

    def __post_init__(self) -> None:
        if self.steps < 1 or self.width < 1 or self.batch_size < 1:
            raise ValueError("steps, width and batch_size must be 1 or more.")
        if not 0 < self.lr < 1:
            raise ValueError(f"lr must be between 0 and 1; it is {self.lr}.")


@dataclass(kw_only=True)
class Moons:
    """Labelled points for genesis, unlabelled ones for the loop, suites of all roles."""

    identity_columns = ("point",)

    seed_value: int = 0
    labelled: int = 6
    unlabelled: int = 120
    items: int = 80

    def seed(self) -> pa.Table:
        """Labelled points; half of them a class."""
        points, labels = self._draw("human", self.labelled)
        return _table("prompt", points, "human", label=labels)

    def samples_of(self, items: pa.Table) -> pa.Table:
        """The items' points with their labels."""
        return items.rename_columns({"item": "prompt"})

    def prompts(self, generation: int, carry: Mapping[str, Carry], key: Key) -> pa.Table:
        """The same unlabelled points in every generation."""
        return _table("prompt", self._draw("unlabelled", self.unlabelled)[0], "unlabelled")

    def suites(self) -> list[Suite]:
        """Labelled points, other ones for each role."""
        return [self._suite(role) for role in (Role.DEV, Role.GATE, Role.SEALED)]

    def generate(self, model: Any, prompts: pa.Table, settings: Any, keys: Keys) -> dict[str, Any]:
        """One labelled point for each prompt."""
        probability, label = model(_points(prompts)).softmax(1).max(1)
        columns = {"prompt": prompts["prompt"], "point": prompts["point"]}
        return columns | {"label": label.numpy(), "probability": probability.double().numpy()}

    def data(self, corpus: pa.Table, settings: Any) -> Any:
        """A DataLoader of (point, label), each row as often as the corpus says."""
        import torch
        from torch.utils.data import DataLoader, TensorDataset

        rows = torch.as_tensor(np.repeat(np.arange(len(corpus)), corpus["count"].to_numpy()))
        points, labels = _points(corpus), torch.tensor(corpus["label"].to_numpy())
        dataset = TensorDataset(points[rows], labels[rows])
        return DataLoader(dataset, settings["batch_size"], shuffle=True)

    def evaluate(self, model: Any, opponent: Any, items: pa.Table, keys: Keys) -> np.ndarray:
        """1 where the label is right."""
        predicted = model(_points(items)).argmax(1).numpy()
        right: np.ndarray = np.equal(predicted, items["label"].to_numpy())
        return right.astype(float)

    def show(self, sample: Mapping[str, Any]) -> str:
        """How a person sees a sample: text here; an image or a plot will do, too."""
        x, y = sample["point"]
        return f"({x:.2f}, {y:.2f}) in moon {sample['label']}"

    def _suite(self, role: Role) -> Suite:
        points, labels = self._draw(role.value, self.items)
        return Suite(role.value, role, _table("item", points, role.value, label=labels), (Mean("accuracy"),))

    def _draw(self, purpose: str, n: int) -> tuple[np.ndarray, np.ndarray]:
        from flywheel.keys import Key

        rng = Key.root(self.seed_value)("moons", purpose).numpy()
        labels = np.arange(n) % 2
        angle = rng.uniform(0, np.pi, n)
        x = np.where(labels, 1 - np.cos(angle), np.cos(angle))
        y = np.where(labels, 0.5 - np.sin(angle), np.sin(angle))
        points = np.stack([x, y], 1) + rng.normal(0, 0.1, (n, 2))
        return points.astype(np.float32), labels


def _table(key: str, points: np.ndarray, name: str, **columns: np.ndarray) -> pa.Table:
    import pyarrow as pa

    names = [f"{name}-{i}" for i in range(len(points))]
    flat = pa.array(points.ravel())
    return pa.table({key: names, "point": pa.FixedSizeListArray.from_arrays(flat, 2), **columns})


def _points(table: pa.Table) -> Any:
    import torch

    flat = table["point"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return torch.tensor(flat.reshape(-1, 2))
