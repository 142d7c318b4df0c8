"""Launch a run: compose, check all that can be checked before anything is trained, and loop.

A run that is there already is resumed or extended; a fork is begun from another one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from flywheel.config.components import (
    Components,
    check_components,
    identity,
    identity_part,
    plain,
    targets_in,
)
from flywheel.config.compose import add_working_directory, compose, known_targets, overrides_of
from flywheel.config.remembered import remember
from flywheel.config.schema import Genesis
from flywheel.errors import ExitCode, RunError, UnwritableError, wrap_user_errors
from flywheel.lineage.status import read_state
from flywheel.runtime.exclusive import only_run
from flywheel.storage import lock
from flywheel.storage.state import RunState, RunStateName

if TYPE_CHECKING:
    from omegaconf import DictConfig

_BUILDABLE = "{} must be buildable and readable before anything is trained:"


class Launched(NamedTuple):
    """A run that was launched: what ``flywheel.api.Run`` knows of it."""

    path: Path
    config_dir: str | None
    trusted: frozenset[str]
    """Class paths of its model, which whoever launched it has vouched for."""
    exit_code: ExitCode


def composed(config: Any, config_dir: str | None = None) -> DictConfig:
    """The configuration that ``run`` runs; under torchrun, rank 0's everywhere. Raises ConfigError."""
    from flywheel import ranks

    add_working_directory()
    ranks.start()
    if hasattr(config, "_metadata"):  # a DictConfig, without importing omegaconf to ask
        from omegaconf import OmegaConf

        if OmegaConf.is_readonly(config):  # made by compose
            made: DictConfig = config
            return made
        config = OmegaConf.to_container(config)
    composed_by_0: DictConfig = ranks.from_rank_0(lambda: compose(overrides_of(config), config_dir))
    return composed_by_0


def fork(
    directory: Path,
    generation: int,
    overrides: Sequence[str],
    config_dir: str | None = None,
    trusted: frozenset[str] = frozenset(),
) -> Launched:
    """Start, or go on with, a new run from a generation of the run in ``directory``; see ``api.Run.fork``."""
    from flywheel import ranks
    from flywheel.launch.fork import begin, overrides_of_fork, refuse_another, with_weights

    if ranks.world_size() > 1:
        raise RunError("A fork is begun by one process; torchrun goes on with it by the command it prints.")
    add_working_directory()
    words = overrides_of_fork(directory, generation, overrides, config_dir)
    config = compose(with_weights(words, directory, generation), config_dir)
    own = {text.partition("=")[2] for text in overrides if text.partition("=")[0].endswith("_target_")}
    refuse_unknown(directory, plain(config), config_dir, trusted | own)
    target = directory_of(config)
    with only_run(target):
        check_components(config)

        from flywheel.runtime.preflight import check_module

        quieten_lightning()
        check_module(Components(config))
        refuse_another(directory, generation, target)
        forked_from = begin(directory, generation, target)
    config = compose(
        [*with_weights(words, target, forked_from["weights"]), f"name={target.name}"], config_dir
    )
    return launch(config, config_dir, forked_from)


def launch(
    config: DictConfig, config_dir: str | None = None, forked_from: Mapping[str, Any] | None = None
) -> Launched:
    """Run a composed configuration; see ``api.run``. ``forked_from``: what ``fork.begin`` returned."""
    directory = directory_of(config)
    with only_run(directory):
        return _launch(directory, config, config_dir, forked_from)


def _launch(
    directory: Path, config: DictConfig, config_dir: str | None, forked_from: Mapping[str, Any] | None
) -> Launched:
    from flywheel import ranks

    trusted = frozenset(targets_in(plain(config)["model"]))
    state = ranks.from_rank_0(lambda: _recorded(directory, config))
    if state is not None and _is_finished(state, config):
        return Launched(directory, config_dir, trusted, ExitCode.FINISHED)
    check_components(config)

    import torch

    from flywheel.launch.identity import set_aside
    from flywheel.launch.session import open_runner, threads
    from flywheel.loop import run_loop
    from flywheel.runtime.data import read_data
    from flywheel.runtime.preflight import check_module
    from flywheel.trackers import TrackerGroup

    components = Components(config)
    quieten_lightning()
    torch.set_num_threads(threads(components.resolved, state))
    with wrap_user_errors(_BUILDABLE.format("The recipe's task")):
        data = read_data(components.task, needs_seed=config.genesis is Genesis.train)
    with wrap_user_errors(_BUILDABLE.format("The model or the trainer")):
        check_module(components)
    if state is not None:
        recorded = state
        ranks.from_rank_0(lambda: set_aside(directory, recorded, data))
    trackers = TrackerGroup([] if ranks.rank() else _trackers(config, components))
    with open_runner(directory, components, data, trackers, forked_from) as runner:
        if ranks.rank() == 0:
            remember(directory, config_dir)
        code = run_loop(runner)
    return Launched(directory, config_dir, trusted, code)


def refuse_unknown(path: Path, nodes: object, config_dir: str | None, trusted: frozenset[str]) -> None:
    """Raise RunError if what was read from a run names a class that nobody here vouches for."""
    unknown = targets_in(nodes) - known_targets(config_dir) - trusted
    if unknown:
        raise RunError(
            f"Only classes that a recipe on the search path names are built; {path} names "
            f"{', '.join(sorted(unknown))}. Name the folder of its recipe: --config-dir DIR, in Python "
            "open_run(path, config_dir=DIR), or, for a class that you know, open_run(path, trusted={...})."
        )


def quieten_lightning() -> None:
    """No banners at every fit."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


def directory_of(config: DictConfig) -> Path:
    """Where the run lies: ``runs_dir/recipe/name``; by default the name is the seed and the identity."""
    name = config.name or f"seed{config.seed}-{identity(config)[:8]}"
    return Path(str(config.runs_dir), str(config.recipe), name)


def _recorded(directory: Path, config: DictConfig) -> RunState | None:
    """The state of the run so far, None if it is new. Raises RunError if we cannot go on with it."""
    from flywheel.launch.identity import check_same

    try:
        if not (directory / "ledger.jsonl").exists():
            return None
        state = read_state(directory)
    except OSError as error:
        raise UnwritableError.of(directory, error) from error
    if state.created is not None:
        check_same("config", directory, state.created["config"], identity_part(config))
    if lock.is_held(directory):
        lock.refuse(directory)
    return state


def _is_finished(state: RunState, config: DictConfig) -> bool:
    over = state.is_over(config.generations, config.patience, config.on_failure.value)
    return over is not None and state.name(is_running=False) is RunStateName.FINISHED


def _trackers(config: DictConfig, components: Components) -> list[Any]:
    from flywheel.trackers.terminal import terminal

    return [terminal(config), components.build("tracker", components.settings())]
