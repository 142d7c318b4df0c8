"""The model of ``moons``: an ordinary LightningModule that knows nothing of flywheel."""

from __future__ import annotations

import lightning
import torch
from torch import nn


class Classifier(lightning.LightningModule):
    """Two layers on points ``[batch, 2]``; logits ``[batch, 2]``."""

    def __init__(self, width: int = 16, lr: float = 0.02) -> None:
        super().__init__()
        self.lr = lr
        self.net = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 2))

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """Logits."""
        logits: torch.Tensor = self.net(points)
        return logits

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Cross entropy."""
        points, labels = batch
        return nn.functional.cross_entropy(self(points), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), self.lr)
