"""A small convolutional network as an ordinary LightningModule; it knows nothing of flywheel."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import nn

from .images import distort

_SHORTEST_CYCLE = 10  # steps; torch divides by zero where the warm-up is one step long


class Classifier(lightning.LightningModule):
    """Images ``[batch, 1, 28, 28]`` to logits ``[batch, 10]``.

    Three strided 3 x 3 stages with batch normalisation; dropout and distorted images are the student's
    noise (Xie et al. 2020). AdamW on a one-cycle schedule over all steps of the fit.
    """

    def __init__(
        self,
        width: int = 32,
        dropout: float = 0.4,
        lr: float = 3e-3,
        weight_decay: float = 0.05,
        label_smoothing: float = 0.05,
    ) -> None:
        super().__init__()
        self.lr, self.weight_decay = lr, weight_decay
        self.loss = nn.CrossEntropyLoss(label_smoothing=label_smoothing)
        self.net = nn.Sequential(
            *_convolution(1, width, kernel=5, stride=2),
            *_convolution(width, 2 * width, stride=2),
            *_convolution(2 * width, 2 * width),
            *_convolution(2 * width, 2 * width, stride=2),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(2 * width * 16, 10),
        ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits."""
        logits: torch.Tensor = self.net(images)
        return logits

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Cross entropy on distorted images."""
        images, labels = batch
        loss: torch.Tensor = self.loss(self(distort(images)), labels)
        return loss

    def configure_optimizers(self) -> Any:
        """AdamW with a one-cycle schedule."""
        optimizer = torch.optim.AdamW(
            self.parameters(), self.lr, betas=(0.9, 0.99), weight_decay=self.weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            self.lr,
            total_steps=max(_SHORTEST_CYCLE, int(self.trainer.estimated_stepping_batches)),
            pct_start=0.2,
            div_factor=10,
            final_div_factor=1e3,
        )
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def _convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
