"""What is tried once before anything expensive starts: can the model be built, trained and loaded again."""

from __future__ import annotations

import lightning
from lightning.pytorch.callbacks import Timer

from flywheel import ranks
from flywheel.config.components import Components
from flywheel.errors import ConfigError
from flywheel.runtime.weights import has_lazy_layers, load_weights, read_base, take_weights


def check_module(components: Components) -> None:
    """Build the model once and check that Lightning can train it. Raises ConfigError."""
    model = components.model(components.settings())
    name = components.resolved["model"]["_target_"]
    if not isinstance(model, lightning.LightningModule):
        raise ConfigError(f"model must be a LightningModule; {name} makes a {type(model).__name__}.")
    for method in ("training_step", "configure_optimizers"):
        if getattr(type(model), method) is getattr(lightning.LightningModule, method):
            raise ConfigError(f"A model must have {method} to be trained; {name} has none: define it.")
    if not any(True for _ in model.parameters()):
        raise ConfigError(
            f"A model must have its layers when it is built, in __init__ or configure_model; {name} has no "
            "parameters. Layers made in setup would be missing when its weights are loaded again."
        )
    _check_trainer(components)
    if components.resolved["base"] is not None:
        load_weights(model, read_base(components.resolved["base"]))
    if not has_lazy_layers(model) or components.resolved["genesis"] == "fresh":
        load_weights(components.model(components.settings()), take_weights(model))


def _check_trainer(components: Components) -> None:
    trainer = components.build("trainer", components.settings())(**ranks.trainer_place())
    timed = any(isinstance(callback, Timer) for callback in trainer.callbacks)  # max_time becomes one
    if trainer.max_steps == -1 and trainer.max_epochs in (-1, None) and not timed:
        raise ConfigError("A fit must end: trainer.max_steps and trainer.max_epochs are both -1; set one.")
    if trainer.world_size != ranks.world_size():
        raise ConfigError(
            f"More than one device needs one process each: the trainer would use {trainer.world_size}. Start "
            f"it as torchrun --nproc-per-node={trainer.world_size} -m flywheel ..., or set trainer.devices=1."
        )
