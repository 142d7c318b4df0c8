"""What is tried before anything expensive starts: can the recipe be built, trained, and loaded again."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flywheel import ranks
from flywheel.config.arguments import explain
from flywheel.config.components import Components, check_components
from flywheel.errors import ConfigError, wrap_user_errors
from flywheel.launch.plan import Plan, refuse_to_go_on
from flywheel.protocols import Tracker
from flywheel.records import Role
from flywheel.storage.policy import EACH, GREEDY
from flywheel.trackers import TrackerGroup
from flywheel.trackers.build import build_trackers
from flywheel.tuners import Fixed, memory

if TYPE_CHECKING:
    from flywheel.runtime.data import Data

_BUILDABLE = "{} must be buildable and readable before anything is trained:"


@dataclass(frozen=True, slots=True)
class Ready:
    """A plan whose parts were built and found fit."""

    plan: Plan
    data: Data
    """Seed samples and suites, as the task has them now."""
    trackers: Tracker
    spent: float = 0.0
    """Error budget that was spent on the same gate items in the run that a fork comes from."""
    openings: int = 0
    """How often sealed suites with any of the same items were opened there."""


def preflight(plan: Plan) -> Ready:
    """Check a plan by building its parts. Raises ConfigError, DataError or RunError; nothing is written."""
    components = plan.components
    check_components(components.config)
    trackers = TrackerGroup({} if ranks.rank() else build_trackers(components))

    import torch  # heavy, as is pyarrow below it: a wrong value is refused without

    from flywheel.runtime.data import read_data
    from flywheel.runtime.environment import threads

    quieten_lightning()
    torch.set_num_threads(threads(components.resolved, plan.recorded))
    with wrap_user_errors(_BUILDABLE.format("The recipe's task")):
        data = read_data(components.task, needs_seed=components.resolved["genesis"] == "train")
    with wrap_user_errors(_BUILDABLE.format("The model or the trainer")):
        check_module(components)
    check_guards(components, data)
    check_promotion(components, data)
    check_tuner(components, data)
    check_tokens(components)
    if plan.recorded is None:
        check_grader(components, data)
    if components.resolved["refit"]:
        check_labels(components, data)
    if plan.origin:
        plan.origin.refuse_taught(data)
    spent = plan.origin.spent_on(data) if plan.origin else 0.0
    if spent >= (alpha := components.resolved["error_budget"]["alpha"]):
        raise ConfigError(
            f"A fork that is gated on the same items inherits what was spent on them: {spent:.3g}, of "
            f"error_budget.alpha={alpha:g}. Give the task other gate items, or a higher error_budget.alpha."
        )
    openings = plan.origin.openings_of(data) if plan.origin else 0
    if openings and plan.recorded is None and components.resolved["seal"] == "keep":
        refuse_to_go_on(plan.origin and plan.origin.directory, openings)
    return Ready(plan, data, trackers, spent, openings)


def quieten_lightning() -> None:
    """No banners at every fit."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


def check_module(components: Components) -> None:
    """Build the model once and check that Lightning can train it. Raises ConfigError."""
    import lightning

    from flywheel.runtime.weights import (
        has_lazy_layers,
        load_weights,
        read_base,
        take_weights,
        weights_of_rivals,
    )

    model = components.model(components.settings())
    name = f"{type(model).__module__}.{type(model).__qualname__}"
    if not isinstance(model, lightning.LightningModule):
        raise ConfigError(f"model must be a LightningModule; it is built as a {name}.")
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
    for name, weights in weights_of_rivals(components.resolved).items():
        with wrap_user_errors(f"The weights of rivals.{name} must fit the model of the configured settings:"):
            load_weights(components.model(components.settings()), weights)
    if not has_lazy_layers(model) or components.resolved["genesis"] == "fresh":
        load_weights(components.model(components.settings()), take_weights(model))


def check_guards(components: Components, data: Data) -> None:
    """Have the guards look at the suites that they judge by. Raises ConfigError."""
    suites = [suite for suite in data.suites.values() if suite.role == Role.GUARD]
    if suites and not components.resolved["guards"]:
        raise ConfigError(
            f"Suites with role guard must be judged by a guard: {', '.join(suite.name for suite in suites)}. "
            "Give +guards.guard_suites._target_=flywheel.guards.NonInferior, or +guards.guard_suites=null to "
            "have them measured only."
        )
    for name, guard in components.build("guards", components.settings()).items():
        try:
            if hasattr(guard, "check_suites"):
                guard.check_suites(suites)
        except ValueError as error:
            raise ConfigError(f"guards.{name}: {error}") from error


def check_promotion(components: Components, data: Data) -> None:
    """Check that there is a dev suite, where candidates are judged by dev. Raises ConfigError."""
    rule, guards = components.resolved["promotion"]["rule"], components.resolved["guards"]
    if rule == GREEDY and (asked := [name for name, part in guards.items() if part]):
        raise ConfigError(
            f"Guards are asked at looks, and promotion=greedy has none: {', '.join(asked)} would never be "
            f"asked. Give {' '.join(f'guards.{name}=null' for name in asked)} to go without, or another "
            "promotion."
        )
    if rule != EACH and not any(suite.role == Role.DEV for suite in data.suites.values()):
        raise ConfigError(
            f"promotion={rule} judges candidates on suites with role dev; the task has {_roles(data)}. Give "
            "it a dev suite, or take promotion=each."
        )


def check_tuner(components: Components, data: Data) -> None:
    """Check that there is a dev suite, where a space is to be searched, and that a memory can be used.

    Raises ConfigError or DataError.
    """
    tuner = components.build("tuner", components.settings())
    if components.tuner_memory is not None and ranks.rank() == 0:
        memory.check(components.tuner_memory)
    searches = components.space and not isinstance(tuner, Fixed)
    if searches and not any(suite.role == Role.DEV for suite in data.suites.values()):
        raise ConfigError(
            f"Trials are scored on suites with role dev, and nothing else; the task has {_roles(data)}. Give "
            "it a dev suite, or take tuner=fixed."
        )


def check_grader(components: Components, data: Data) -> None:
    """Have a grader that checks answers score wrong ones, made of the seed samples. Raises ConfigError."""
    from flywheel.graders.controls import check_controls
    from flywheel.runtime.grading import closing

    def check() -> None:
        try:
            grader = components.build("grader", components.settings())
        except Exception as error:
            raise explain("grader", error) from error
        with closing(grader), wrap_user_errors("A grader must be able to score the seed samples' answers:"):
            check_controls(grader, data.human)

    ranks.from_rank_0(check)


def _roles(data: Data) -> str:
    return ", ".join(f"{suite.name} ({suite.role})" for suite in data.suites.values()) or "none"


def check_tokens(components: Components) -> None:
    """Check that somebody reports the tokens that a budget limits or prices. Raises ConfigError."""
    budget = components.resolved["budget"]
    needs = {"tokens": budget["tokens"], "price.thousand_tokens": budget["price"]["thousand_tokens"]}
    keys = [key for key, value in needs.items() if value]
    if not keys or getattr(components.task, "tokens_column", None):
        return
    if not getattr(components.build("grader", components.settings()), "tokens_column", None):
        raise ConfigError(
            f"budget.{keys[0]} needs a task or a grader that counts tokens: give it an attribute "
            "tokens_column, the name of a column of its answers, or leave the key out."
        )


def check_labels(components: Components, data: Data) -> None:
    """Have the task make samples of the items that a refit trains on. Raises DataError."""
    from flywheel.runtime.data import labelled
    from flywheel.stages.table import labels

    with wrap_user_errors("The items of dev and gate must become samples before anything is trained:"):
        for suite in data.view(labels.sees).suites.values():
            labelled(components.task, suite, data.human)


def _check_trainer(components: Components) -> None:
    from lightning.pytorch.callbacks import Timer

    trainer = components.build("trainer", components.settings())(**ranks.trainer_place())
    timed = any(isinstance(callback, Timer) for callback in trainer.callbacks)  # max_time becomes one
    if trainer.max_steps == -1 and trainer.max_epochs in (-1, None) and not timed:
        raise ConfigError("A fit must end: trainer.max_steps and trainer.max_epochs are both -1; set one.")
    if trainer.world_size != ranks.world_size():
        raise ConfigError(
            f"More than one device needs one process each: the trainer would use {trainer.world_size}. Start "
            f"it as torchrun --nproc-per-node={trainer.world_size} -m flywheel ..., or set trainer.devices=1."
        )
