"""Batches that mix human and generated rows in a fixed proportion, as an ordinary LightningDataModule."""

from __future__ import annotations

from collections.abc import Iterator

import lightning
import torch
from torch.utils.data import DataLoader, Sampler, TensorDataset


class MixedBatches(lightning.LightningDataModule):
    """``batches`` batches of (images, labels), ``human_share`` of each from the human rows.

    With rows of one origin only, whole batches are drawn from them. Each origin is walked through in
    random order, again and again.
    """

    def __init__(
        self,
        images: torch.Tensor,
        labels: torch.Tensor,
        human: torch.Tensor,
        *,
        batch_size: int,
        human_share: float,
        batches: int,
    ) -> None:
        super().__init__()
        self.dataset = TensorDataset(images, labels)
        self.sampler = _MixedSampler(human, batch_size, human_share, batches)

    def train_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        """One pass is the whole fit."""
        return DataLoader(self.dataset, sampler=self.sampler, batch_size=None)


class _MixedSampler(Sampler[list[int]]):
    def __init__(self, human: torch.Tensor, batch_size: int, human_share: float, batches: int) -> None:
        self._human, self._other = human.nonzero().flatten(), (~human).nonzero().flatten()
        self._batches = batches
        mixed = round(batch_size * human_share) if len(self._other) else batch_size
        self._from_human = min(max(mixed, 1), batch_size) if len(self._human) else 0
        self._from_other = batch_size - self._from_human

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[list[int]]:
        human, other = _endless(self._human), _endless(self._other)
        for _ in range(self._batches):
            own = [next(human) for _ in range(self._from_human)]
            yield own + [next(other) for _ in range(self._from_other)]


def _endless(rows: torch.Tensor) -> Iterator[int]:
    while True:
        yield from rows[torch.randperm(len(rows))].tolist()
