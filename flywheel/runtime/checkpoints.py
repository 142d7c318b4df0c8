"""Lightning's own checkpoints within a fit: where they go, and which of them is the result.

If a ``ModelCheckpoint`` monitors a metric, a fit gives its best checkpoint; otherwise the last weights.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch.callbacks import ModelCheckpoint

from flywheel import ranks
from flywheel.runtime.weights import load_weights, weights_of
from flywheel.runtime.work import FOLDER
from flywheel.storage.events import Best

if TYPE_CHECKING:
    import lightning


@contextmanager
def kept_aside(trainer: lightning.Trainer, directory: Path, stage: str) -> Iterator[None]:
    """Put checkpoints for which no ``dirpath`` was given into ``RUN/work/STAGE``, and remove them in the end.

    Ranks that fit together share a folder, one that works alone beside others has its own.
    """
    own = 0 if ranks.world_size() > 1 else ranks.rank_of_process()
    folder = directory / FOLDER / stage / f"checkpoints-{own}"
    for callback in _checkpoints(trainer):
        if callback.dirpath is None:
            callback.dirpath = str(folder)
    try:
        yield
    finally:
        if ranks.rank() == 0:
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # other things are in there
                folder.parent.rmdir()
                folder.parent.parent.rmdir()


def take_best(trainer: lightning.Trainer, model: lightning.LightningModule) -> Best | None:
    """Fill the model with the best weights of its fit, and say which; None: those at its end are taken.

    Called on all ranks. The facts: ``monitor``, its ``value``, and the ``step`` of the checkpoint.
    """
    import torch

    monitored = [c for c in _checkpoints(trainer) if c.monitor and c.best_model_path]
    if not monitored:
        return None
    best = monitored[0]
    # The fit wrote this file a moment ago, with whatever hyperparameters the module keeps in it.
    checkpoint = torch.load(best.best_model_path, map_location="cpu", weights_only=False)
    load_weights(model, weights_of(checkpoint))
    ranks.any_rank(False)  # all have read it
    value = None if best.best_model_score is None else float(best.best_model_score)
    return Best(monitor=str(best.monitor), value=value, step=int(checkpoint["global_step"]))


def _checkpoints(trainer: lightning.Trainer) -> list[ModelCheckpoint]:
    return [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
