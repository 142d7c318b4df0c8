"""Scores a fit at the rungs of its trial, and ends it where it is worse than the trial says."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import lightning

from flywheel.errors import StageFailed
from flywheel.keys import keep_globals
from flywheel.records import Rung
from flywheel.runtime.fit import loss_of, progress
from flywheel.runtime.scoring import Means


class Pruned(Exception):
    """A trial has ended at a rung."""


class Climb(lightning.Callback):
    """Scores at each rung. The fit goes on as if there had been no rung: same numbers, same modes."""

    def __init__(self, rungs: Sequence[Rung], score: Callable[[lightning.LightningModule], Means]) -> None:
        self._rungs, self._score = rungs, score
        self.scores: list[float] = []
        """The score at each rung that it came to."""
        self.means: Means | None = None
        """The last one, in whole."""
        self.is_pruned = False

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, *_: Any
    ) -> None:
        """See ``lightning.Callback``. Raises Pruned at the rung at which the trial ends."""
        if len(self.scores) == len(self._rungs):
            return
        rung = self._rungs[len(self.scores)]
        done, total = progress(trainer)
        if total is None or done >= total or done < math.ceil(rung.share * total):
            return
        if (loss := loss_of(outputs)) is not None and not bool(loss.isfinite().all()):
            raise StageFailed("train", f"the loss is not finite at step {trainer.global_step}")
        self.means = _score_aside(module, self._score)
        self.scores.append(self.means.score)
        if rung.least is not None and self.means.score < rung.least:
            self.is_pruned = True
            raise Pruned


def _score_aside(
    module: lightning.LightningModule, score: Callable[[lightning.LightningModule], Means]
) -> Means:
    """The score of a model in the middle of a fit, which is left as it was."""
    modes = {part: part.training for part in module.modules()}
    try:
        with keep_globals():
            return score(module)
    finally:
        for part, is_training in modes.items():
            part.training = is_training
