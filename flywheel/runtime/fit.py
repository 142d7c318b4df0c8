"""One Lightning fit: the user's module and data unchanged, on all ranks together."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import lightning
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from flywheel import ranks
from flywheel.curves import Curve
from flywheel.errors import ConfigError, StageFailed, StopRequested
from flywheel.keys import Key
from flywheel.records import Settings, Weights
from flywheel.runtime.checkpoints import kept_aside, take_best
from flywheel.runtime.context import Context
from flywheel.runtime.flops import FlopCount
from flywheel.runtime.weights import load_weights, not_finite, take_weights
from flywheel.storage.events import Best

if TYPE_CHECKING:
    import pyarrow as pa

_REPORT_EVERY_SECONDS = 0.1
_REPORT_CURVE_EVERY_SECONDS = 1.0
_CHECK_EVERY_STEPS = 50  # looking at the loss waits for the device
# Lightning's hints on speed, and its own use of what torch deprecates: nothing a user can act on here.
_NOISE = (".*does not have many workers.*", ".*smaller than the logging interval.*", ".*LeafSpec.*")


@dataclass(frozen=True, slots=True)
class Fit:
    """The result of a fit: the trained module, and how many steps it took."""

    model: lightning.LightningModule
    steps: int
    loss: float | None
    best: Best | None
    """The checkpoint that the weights are of, if a ModelCheckpoint chose one; see ``checkpoints``."""
    flops: float
    """Of its steps, on all ranks; see ``runtime.flops``."""


def fit(
    ctx: Context,
    settings: Settings,
    key: Key,
    rows: pa.Table,
    init: str | None,
    *,
    fidelity: float = 1.0,
    curve: Curve | None = None,
    callbacks: Sequence[lightning.Callback] = (),
) -> Fit:
    """Train a model on samples. Raises StageFailed on a non-finite loss or weight, or on no step at all.

    ``fidelity`` is the share of the configured steps or epochs to do; what is logged is added to ``curve``,
    also where the fit is cut off; ``callbacks`` are called after the recipe's own.
    """
    model, data, trainer = ranks.run_on_all_ranks(lambda: _prepare(ctx, settings, key, rows, init, fidelity))
    logged = _Logged(ctx, trainer, curve or Curve())
    trainer.loggers = [*trainer.loggers, logged.logger]
    watch = _Watch(ctx, model, settings, logged)
    world = ranks.world_size()  # all ranks have as many steps
    count = FlopCount(lambda flops: ctx.work.meter.add_counts({"flops": flops * world}))
    parameters = {name for name, _ in model.named_parameters()}
    by_design = {(name, kind) for name, kind in not_finite(model) if name not in parameters}
    trainer.callbacks = [count, *trainer.callbacks, logged, watch, *callbacks]  # type: ignore[attr-defined]
    with kept_aside(trainer, ctx.store.directory, str(ctx.work.stage["stage"])), closing(count):
        _run(trainer, model, data)
        if trainer.global_step == 0:
            reason = "the fit ended without a step: the data gave no batch, or max_steps is 0"
            raise StageFailed("train", reason)
        best = take_best(trainer, model)
    bad = sorted(not_finite(model) - by_design)  # e.g. a mask of -inf is a buffer as it should be
    if bad:
        raise StageFailed(
            "train",
            f"weights are not finite after {trainer.global_step} steps: {bad[0][0]}. What is infinite by "
            "design must be a buffer, and be so before the fit",
        )
    return Fit(model, trainer.global_step, watch.loss, best, count.flops * world)


def check_loads(ctx: Context, settings: Settings, weights: Weights) -> Weights:
    """The weights, once a newly built module has loaded them. Raises StageFailed if it cannot."""
    try:
        load_weights(ctx.components.model(settings), weights)
    except ConfigError as error:
        raise StageFailed(
            "train",
            f"the weights of a fit must load into a newly built module. {error} Make every layer and "
            "buffer in __init__ or configure_model, in the shape that it keeps",
        ) from error
    return weights


def _prepare(
    ctx: Context, settings: Settings, key: Key, rows: pa.Table, init: str | None, fidelity: float
) -> tuple[lightning.LightningModule, Any, lightning.Trainer]:
    """The user's module with the weights to start from, its data, and the trainer."""
    key.seed_globals()
    model = ctx.components.model(settings)
    if init is not None:
        load_weights(model, ctx.store.weights(init))
    return model, ctx.components.task.data(rows, settings), _trainer(ctx, settings, fidelity)


def _run(trainer: lightning.Trainer, model: lightning.LightningModule, data: Any) -> None:
    """Fit; an exception of one rank is raised on all."""
    failure: Exception | None = None
    try:
        with _each_warning_once():
            if isinstance(data, lightning.LightningDataModule):
                trainer.fit(model, datamodule=data)
            else:
                trainer.fit(model, train_dataloaders=data)
    except SIGTERMException:  # before our handler was back
        raise StopRequested("SIGTERM") from None
    except Exception as error:
        failure = error
    ranks.raise_on_all_ranks(failure)


@contextmanager
def _each_warning_once() -> Iterator[None]:
    """Show a warning once, not at every fit, e.g. that there is no val_dataloader."""
    with warnings.catch_warnings():
        for noise in _NOISE:
            warnings.filterwarnings("ignore", message=noise)
        show = warnings.showwarning

        def show_once(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if (text := str(message)) not in _shown:
                _shown.add(text)
                show(message, category, *where, **more)

        warnings.showwarning = show_once
        yield


_shown: set[str] = set()
"""Warnings that a fit of this process has shown."""


def _trainer(ctx: Context, settings: Settings, fidelity: float) -> lightning.Trainer:
    trainer: lightning.Trainer = _built_trainer(ctx, settings)
    _tell_generation(trainer, ctx)
    if fidelity != 1.0:
        loop = trainer.fit_loop
        if trainer.max_steps > 0:
            loop.epoch_loop.max_steps = max(1, round(trainer.max_steps * fidelity))
        elif trainer.max_epochs is not None:
            loop.max_epochs = max(1, round(trainer.max_epochs * fidelity))
    return trainer


def _built_trainer(ctx: Context, settings: Settings) -> lightning.Trainer:
    place = ranks.trainer_place(str(ctx.components.resolved["trainer"].get("accelerator", "auto")))
    trainer: lightning.Trainer = ctx.components.build("trainer", settings)(**place)
    return trainer


def _tell_generation(trainer: lightning.Trainer, ctx: Context) -> None:
    """Have the recipe's own loggers and progress bar say of which generation the fit is, and which trial.

    A logger has it in each row. One that writes a folder has one a fit, ``RUN/generation_3``: a fit that is
    done again takes the place of the first.
    """
    numbers = {"generation": ctx.generation} | ({} if ctx.trial is None else {"trial": ctx.trial})
    folder = f"{ctx.store.directory.name}/" + "_".join(f"{name}_{number}" for name, number in numbers.items())
    for logger in trainer.loggers:
        if isinstance(logger, CSVLogger | TensorBoardLogger):
            own = logger._version
            logger._version = folder if own is None else f"{own}/{folder}"
        logger.log_metrics = _with_numbers(logger.log_metrics, numbers)  # type: ignore[method-assign]
    if (bar := trainer.progress_bar_callback) is not None:
        shown = bar.get_metrics

        def get_metrics(*arguments: Any) -> dict[str, Any]:
            own = {name: value for name, value in shown(*arguments).items() if name != "v_num"}
            return {name: str(number) for name, number in numbers.items()} | own  # no 3.000

        bar.get_metrics = get_metrics  # type: ignore[method-assign, assignment]


def _with_numbers(log: Callable[..., None], numbers: Mapping[str, int]) -> Callable[..., None]:
    def log_metrics(metrics: Mapping[str, float], step: int | None = None) -> None:
        log({**metrics, **numbers}, step)

    return log_metrics


class _Logger(DummyLogger):
    """Hands on what Lightning logs. Whatever else a module does with ``self.logger`` has no effect."""

    def __init__(self, take: Callable[[Mapping[str, float]], None], save_dir: str) -> None:
        super().__init__()
        self._take, self._save_dir = take, save_dir

    @property
    def save_dir(self) -> str:
        """What ``trainer.log_dir`` is where the recipe has no logger of its own."""
        return self._save_dir

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._take(metrics)


class _Logged(lightning.Callback):
    """Adds to the curve what the module logs, and each step's loss and learning rate; reports both.

    All by optimiser steps: Lightning's own step for loggers counts batches, and begins at 0.
    """

    def __init__(self, ctx: Context, trainer: lightning.Trainer, curve: Curve) -> None:
        self._ctx, self._trainer, self._curve = ctx, trainer, curve
        self.logger = _Logger(self._take, trainer.default_root_dir)
        self._pending: list[tuple[int, dict[str, Any]]] = []
        self._reported_at = 0.0
        self._step = 0
        self.loss: float | None = None
        """The one that was reported last."""

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, *_: Any
    ) -> None:
        if trainer.global_step == self._step:
            return  # gradients are accumulated
        self._step = trainer.global_step
        values: dict[str, Any] = learning_rates(trainer)
        loss = loss_of(outputs)
        if loss is not None and loss.numel() == 1:
            values["loss"] = loss
        if kept := self._curve.add(self._step, values, by="fit"):
            self._pending.append((self._step, kept))
        if time.monotonic() - self._reported_at >= _REPORT_CURVE_EVERY_SECONDS:
            self._flush()

    def on_train_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self._flush()

    def _take(self, metrics: Mapping[str, float]) -> None:
        values = {name: value for name, value in metrics.items() if name != "epoch"}
        if kept := self._curve.add(self._trainer.global_step, values, by="module"):
            self._ctx.report_metrics(self._trainer.global_step, kept, self._ctx.trial)

    def _flush(self) -> None:
        """Report what waits; reading a loss waits for the device."""
        for step, values in self._pending:
            numbers = {name: float(value) for name, value in values.items()}
            self.loss = numbers.get("loss", self.loss)
            self._ctx.report_metrics(step, numbers, self._ctx.trial)
        self._pending.clear()
        self._reported_at = time.monotonic()


def loss_of(outputs: Any) -> torch.Tensor | None:
    """The loss that a training step returned, if it did."""
    loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
    return loss.detach() if isinstance(loss, torch.Tensor) else None


def learning_rates(trainer: lightning.Trainer) -> dict[str, float]:
    """That of the first optimiser of each class, in its first group: ``lr``, or ``lr-CLASS`` of several."""
    first: dict[str, Any] = {}
    for optimizer in trainer.optimizers:
        first.setdefault(type(optimizer).__name__, optimizer.param_groups[0].get("lr"))
    rates = {name: float(rate) for name, rate in first.items() if rate is not None}
    return {"lr" if len(rates) == 1 else f"lr-{name}": rate for name, rate in rates.items()}


class _Watch(lightning.Callback):
    """Stops at a step boundary, reports progress, and fails the fit on a non-finite loss."""

    def __init__(
        self, ctx: Context, model: lightning.LightningModule, settings: Settings, logged: _Logged
    ) -> None:
        self._ctx, self._settings, self._logged = ctx, settings, logged
        self._tensors, self._names = _tensors(model), set(model.state_dict())
        self._has_begun = False
        self._reported_at = 0.0
        self._bad = torch.tensor(False)
        self._last: torch.Tensor | None = None

    @property
    def loss(self) -> float | None:
        """The last step's loss."""
        value = None if self._last is None else float(self._last)
        return value if value is not None and math.isfinite(value) else None

    def on_fit_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        late = [
            name for name, tensor in _tensors(module).items() if not _is_same(self._tensors.get(name), tensor)
        ]
        if late:  # they are not there when the weights are loaded again, or the start's weights are lost
            raise StageFailed(
                "train",
                "a model must have its layers when it is built; setup, configure_model or "
                f"configure_optimizers made {late[0]}. "
                "Make layers in __init__, or in configure_model if they are not there yet "
                "(`if self.net is None: ...`)",
            )

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self._ctx.stop.listen()  # Lightning's handler for SIGTERM ends the process with exit code 0

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, *_: Any
    ) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._check_layers(module)
        if (loss := loss_of(outputs)) is not None:
            self._last = loss
            self._bad = self._bad.to(loss.device) | ~self._last.isfinite().all()
        self._ctx.stop.check()
        now = time.monotonic()
        if now - self._reported_at >= _REPORT_EVERY_SECONDS:
            self._reported_at = now
            known = self._logged.loss
            self._ctx.report_progress(*progress(trainer), "" if known is None else f"loss {known:.4g}")
        if trainer.global_step % _CHECK_EVERY_STEPS == 0:
            self._fail_if_bad(trainer)

    def _check_layers(self, module: lightning.LightningModule) -> None:
        """Fail at once where layers came or went since the fit began: their weights would be lost."""
        if set(module.state_dict()) != self._names:
            with torch.random.fork_rng():
                check_loads(self._ctx, self._settings, take_weights(module))

    def on_train_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self._fail_if_bad(trainer)

    def _fail_if_bad(self, trainer: lightning.Trainer) -> None:
        if ranks.any_rank(bool(self._bad)):
            raise StageFailed("train", f"the loss is not finite at or before step {trainer.global_step}")


def _tensors(model: lightning.LightningModule) -> dict[str, torch.Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _is_same(before: torch.Tensor | None, now: torch.Tensor) -> bool:
    """Whether it is the tensor that was there, or what became of it on the trainer's device.

    There a parameter is the same object, with other data; a buffer is replaced by a copy.
    """
    if before is None or before is now or before.device == now.device:
        return before is now
    moved = now.to(before.device)
    return moved.shape == before.shape and torch.allclose(before, moved, rtol=0, atol=0, equal_nan=True)


def progress(trainer: lightning.Trainer) -> tuple[int, int | None]:
    """(done, total) of whatever ends the fit first: optimiser steps, or batches; total None: not known.

    With several optimisers a batch is several steps.
    """
    ends = []
    if trainer.max_steps > 0:
        ends.append((trainer.global_step, trainer.max_steps))
    batches = trainer.num_training_batches
    if (trainer.max_epochs or 0) > 0 and math.isfinite(batches) and batches > 0:
        ends.append((trainer.fit_loop.total_batch_idx + 1, int(batches) * int(trainer.max_epochs or 0)))
    if not ends:
        return trainer.global_step, None
    done, total = max(ends, key=lambda end: end[0] / end[1])
    return min(done, total), total
