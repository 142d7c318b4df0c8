"""The model of ``task.py``: an ordinary LightningModule that knows nothing of flywheel."""

from __future__ import annotations

import lightning
import torch
from torch import nn


class Classifier(lightning.LightningModule):
    """Random Fourier features (Rahimi and Recht 2007), trained; points ``[batch, 2]``, logits ``[batch, 2]``.

    Features of a few wavelengths over the data make the network sure near points that it knows and unsure
    elsewhere, which is what self-training needs.
    """

    def __init__(self, width: int = 64, lr: float = 0.01) -> None:
        super().__init__()
        self.lr = lr
        self.features, self.head = nn.Linear(2, width), nn.Linear(width, 2)
        nn.init.normal_(self.features.weight, std=3.0)
        nn.init.uniform_(self.features.bias, -torch.pi, torch.pi)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """Logits."""
        logits: torch.Tensor = self.head(self.features(points).cos())
        return logits

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Cross entropy."""
        points, labels = batch
        return nn.functional.cross_entropy(self(points), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), self.lr)
