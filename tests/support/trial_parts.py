"""A tuner and models by which it shows that trials are out of order, or not each on its own."""

from __future__ import annotations

import math
import os
import random
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from msgspec.structs import replace
from torchmetrics import MeanMetric

from flywheel.errors import Interrupted
from flywheel.protocols import TunerView
from flywheel.records import TRIAL, Choice, Rung, Trial
from tests.support.probe_parts import Model, Task, fault


@dataclass(kw_only=True)
class Follows:
    """Each trial depends on all that its tuner was shown, in order, and on its key.

    One of each five fails, some are pruned, and the weights of the best become the start.
    """

    count: int = 8
    fidelity: float = 0.5
    share: float = 0.0

    def ask(self, view: TunerView) -> Trial | None:
        number = len(view.results) + len(view.pending)
        if number == self.count:
            return None
        if number % 5 == 3:
            return Trial({**view.settings, "momentum": 0.9})
        scores = [-1.0 if result.score is None else result.score for result in view.results]
        shown = [*scores, *(trial.settings["lr"] for trial in view.pending)]
        turn = sum(math.sin((k + 1) * 100 * value) for k, value in enumerate(shown))
        lr = 0.01 * math.exp(math.sin(turn) + view.key.numpy().uniform(-0.5, 0.5))
        least = {2: max(scores, default=0.0), 5: 1.0}.get(number % 6)  # of the last, none is as good
        rungs = () if least is None else (Rung(0.5, least),)
        return Trial({**view.settings, "lr": lr}, self.fidelity, rungs=rungs, keep_weights=True)

    def choose(self, view: TunerView) -> Choice:
        best = max((r for r in view.results if r.is_whole), key=lambda result: result.score or 0.0)
        reason = f"of {len(view.results)}"
        return Choice(best.trial.settings, TRIAL, trial=best.number, share=self.share, reason=reason)


OPTUNA = (
    "tuner._target_=flywheel.tuners.Optuna",
    "+tuner.trials=10",
    "+tuner.start=trial",
    "+tuner.least_gain=0.0",
    "+tuner.rungs=[0.25,0.5]",
    "+tuner.margin=0.0",
    "+tune.space.lr={low: 0.001, high: 0.1, log: true}",
    "+tune.space.width={choices: [4, 8, 16], shape: true}",
)
"""Overrides for a search whose best trial is the candidate, which needs no other fit."""


class Forgets:
    """Asks for other trials in each session; the first one ends at the third."""

    sessions: ClassVar[list[float]] = []

    def ask(self, view: TunerView) -> Trial | None:
        number = len(view.results)
        if number == 2 and len(self.sessions) == 1:
            raise Interrupted("a person")
        if number == 0:
            self.sessions.append(0.01 * (1 + len(self.sessions)))
        return Trial({**view.settings, "lr": self.sessions[-1]}, 0.25) if number < 3 else None

    def choose(self, view: TunerView) -> Choice:
        return Choice(view.settings, view.init)


class Endless(Model):
    """With ``PROBE_FAULT=trial:endless`` the fits after the second have no end."""

    def on_train_start(self) -> None:
        if fault("trial") == "endless":
            with open(os.environ["PROBE_UNITS"]) as file:
                begun = sum(line.split()[1] == "fit" for line in file)
            if begun > 2:
                self.trainer.fit_loop.epoch_loop.max_steps = 10**9

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        time.sleep(0.01 if fault("trial") else 0)


class Measured(Model):
    """Logs the mean of its losses, which torchmetrics would take over all ranks of a process group."""

    def __init__(self, width: int, lr: float) -> None:
        super().__init__(width=width, lr=lr)
        self.losses = MeanMetric()

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        loss = super().training_step(batch, batch_idx)
        self.losses(loss)
        self.log("mean_loss", self.losses, on_step=False, on_epoch=True)
        return loss


class Asks:
    """Asks for the trials of ``wanted``, and chooses what ``choose`` makes of its view."""

    wanted: ClassVar[list[Trial]] = []
    """Their settings are those in force but for the ones that they name."""
    chooses: ClassVar[list[Callable[[TunerView], Choice]]] = []

    def ask(self, view: TunerView) -> Trial | None:
        left = self.wanted[len(view.results) + len(view.pending) :]
        return replace(left[0], settings={**view.settings, **left[0].settings}) if left else None

    def choose(self, view: TunerView) -> Choice:
        return self.chooses[0](view) if self.chooses else Choice(view.settings, view.init)


def adopts_first(share: float) -> Callable[[TunerView], Choice]:
    """The choice of the first trial's settings and weights."""
    return lambda view: Choice(view.results[0].trial.settings, TRIAL, trial=0, share=share)


class Odd(Model):
    """Fails as its learning rate says, and knows which fitted models are still in memory."""

    fitted: ClassVar[weakref.WeakSet[Any]] = weakref.WeakSet()
    beside: ClassVar[list[int]] = []
    """Of each fit, how many models of earlier ones were in memory."""

    def on_train_start(self) -> None:
        self.beside.append(len(self.fitted))
        self.fitted.add(self)

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        loss = super().training_step(batch, batch_idx)
        if self.lr == NAN:
            return loss * float("nan")
        if self.lr in RAISES:
            raise RAISES[self.lr]
        return loss


NAN = 0.51
RAISES: dict[float, BaseException] = {
    0.52: torch.OutOfMemoryError("tried to allocate 80 GiB"),
    0.53: MemoryError("no room"),
    0.54: SystemExit(0),
    0.55: RuntimeError("CUDA error: an illegal memory access"),
}
"""Learning rate -> what a fit with it raises."""


class Noisy(Model):
    """Draws from each generator that a process has, and has parts that are in evaluation mode in a fit."""

    def __init__(self, width: int, lr: float) -> None:
        super().__init__(width=width, lr=lr)
        self.norm, self.frozen = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
        self.drop = torch.nn.Dropout(0.3)

    def on_train_start(self) -> None:
        self.frozen.eval()

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = super().forward(self.drop(self.frozen(self.norm(points))))
        return logits

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        noise = np.random.normal() + random.random()
        return super().training_step(batch, batch_idx) * (1 + 0.1 * noise)


class Draws(Task):
    """Draws while it evaluates."""

    def evaluate(self, model: Any, opponent: Any, items: pa.Table, keys: Any) -> np.ndarray:
        torch.rand(3)
        np.random.random(3)
        random.random()
        return super().evaluate(model, opponent, items, keys)
