"""The adders as an ordinary LightningModule; it knows nothing of flywheel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .adders import Adders
from .muon import MuonAdamW
from .sums import Sums

Group = tuple[Tensor, Tensor]
"""Tokens ``[2, members, rows, 3 width + 2]``, both orders of the operands; answers ``[..., width + 1]``."""


class Ensemble(lightning.LightningModule):
    """A few adders that learn side by side; what most of them say is the ensemble's answer."""

    def __init__(
        self,
        scales: Sequence[float] = (1.0, 0.8, 1.25),
        swapped: Sequence[bool] = (False, True, False),
        layers: int = 2,
        width: int = 64,
        heads: int = 4,
        base: float = 1000.0,
        gain: float = 2.0,
        position: str = "rotary",
        lr: float = 0.02,
        adam_lr: float = 2e-3,
        decay: float = 0.3,
        floor: float = 0.0,
        muon: bool = True,
    ) -> None:
        """``swapped``: which members read the operands in the other order.

        The learning rates fall to ``floor`` of themselves over the last ``decay`` of the steps. Without
        ``muon``, AdamW trains the matrices too.
        """
        super().__init__()
        self.net = Adders(scales, layers, width, heads, base, gain, position)
        self.swapped = list(swapped)
        self.muon = muon
        self.lr, self.adam_lr, self.decay, self.floor = lr, adam_lr, decay, floor

    def answers(self, sums: Sums) -> np.ndarray:
        """Each member's greedy answers ``[members, problems, width + 1]``, zeros above the highest digit."""
        said: np.ndarray = self.net.decode(self._tensor(self._prompts(sums))).cpu().numpy()
        return np.where(sums.above, 0, said)

    def solves(self, sums: Sums) -> np.ndarray:
        """Whether each member's greedy answer is the sum, ``[members, problems]``.

        It is if and only if every digit is the likeliest one after the true digits before it, so that one
        pass without decoding tells.
        """
        prompts, answers = self._prompts(sums), sums.answers()
        before = np.broadcast_to(answers[:, :-1], (len(prompts), *answers[:, :-1].shape))
        logits = self.net(self._tensor(np.concatenate([prompts, before], axis=2)))
        right: np.ndarray = logits.argmax(-1).cpu().numpy() == answers
        solved: np.ndarray = (right | sums.above).all(-1)
        return solved

    def _prompts(self, sums: Sums) -> np.ndarray:
        return np.stack([sums.prompt(swapped=swapped) for swapped in self.swapped])

    def _tensor(self, tokens: np.ndarray) -> Tensor:
        return torch.from_numpy(tokens).to(self.device)

    def training_step(self, batch: list[Group], batch_idx: int) -> Tensor:
        """Cross entropy of the answers' digits, each group of rows weighing the same."""
        return torch.stack([self._loss(*group) for group in batch]).mean()

    def _loss(self, tokens: Tensor, answers: Tensor) -> Tensor:
        own = [int(swapped) for swapped in self.swapped], range(len(self.swapped))
        logits = self.net(tokens[own])
        return functional.cross_entropy(logits.flatten(0, 2), answers.long().flatten())

    def configure_optimizers(self) -> Any:
        """Muon on the layers' matrices, AdamW on the rest, one schedule."""
        matrices = [p for p in self.net.layers.parameters() if p.dim() == 3 and self.muon]
        chosen = {id(p) for p in matrices}
        others = [p for p in self.parameters() if id(p) not in chosen]
        optimizer = MuonAdamW(matrices, others, self.lr, self.adam_lr)
        steps = self.trainer.estimated_stepping_batches
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self._share(step / steps))
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def _share(self, done: float) -> float:
        """Share of the learning rates after this share of the steps."""
        left = min(1.0, (1 - done) / self.decay) if self.decay else 1.0
        return self.floor + (1 - self.floor) * left
