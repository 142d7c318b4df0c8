"""Launch a run, in a straight line: compose, plan, preflight, open, loop.

Each step is given what the one before it found, and none goes back. To resume and to fork is to compose
from what a run recorded; the rest of the line is the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from flywheel import ranks
from flywheel.config.components import Components
from flywheel.config.compose import checked, compose, compose_mapping
from flywheel.config.parts import sections_of
from flywheel.config.search_path import add_working_directory
from flywheel.errors import ExitCode, RunError
from flywheel.launch.fork import Origin, config_of_fork
from flywheel.launch.plan import Plan, directory_of
from flywheel.launch.recorded import config_to_resume
from flywheel.lineage.status import read_state
from flywheel.runtime.exclusive import only_run

if TYPE_CHECKING:
    from omegaconf import DictConfig


class Launched(NamedTuple):
    """A run that was launched: what ``flywheel.api.Run`` knows of it."""

    path: Path
    config_dir: str | None
    trusted: frozenset[str]
    exit_code: ExitCode


def launch(
    config: DictConfig,
    config_dir: str | None = None,
    *,
    parts: Mapping[str, Any] | None = None,
    directory: Path | None = None,
    origin: Origin | None = None,
) -> Launched:
    """Run a composed configuration; see ``api.run``.

    ``parts``: those that were given as objects. ``directory``: of a run that is resumed. ``origin``: what a
    fork starts from.
    """
    directory = directory or directory_of(config)
    with only_run(directory):
        plan = Plan.of(directory, Components(config, parts), config_dir, origin)
        return Launched(directory, config_dir, plan.trusted, _run(plan))


def _run(plan: Plan) -> ExitCode:
    if plan.is_finished:
        return ExitCode.FINISHED

    from flywheel.launch.preflight import preflight

    ready = preflight(plan)

    from flywheel.launch.session import open_runner  # heavy: what is refused and a finished run go without
    from flywheel.loop import run_loop

    with open_runner(ready) as runner:
        return run_loop(runner)


def composed(
    config: Any, config_dir: str | None = None, parts: Mapping[str, Any] | None = None
) -> DictConfig:
    """The configuration that ``run`` runs; under torchrun, rank 0's everywhere. Raises ConfigError."""
    add_working_directory()
    ranks.start()
    sections = sections_of(parts or {})
    if hasattr(config, "_metadata"):  # a DictConfig, without importing omegaconf to ask
        from omegaconf import OmegaConf

        if OmegaConf.is_readonly(config):  # made by compose
            result: DictConfig = checked(config.copy(), None, sections) if sections else config
            return result
        config = OmegaConf.to_container(config)
    compose_it = compose_mapping if isinstance(config, Mapping) else compose
    composed_by_0: DictConfig = ranks.from_rank_0(lambda: compose_it(config, config_dir, sections))
    return composed_by_0


def composed_to_resume(
    directory: Path,
    overrides: Sequence[str],
    config_dir: str | None = None,
    trusted: Iterable[str] = (),
    parts: Mapping[str, Any] | None = None,
) -> DictConfig:
    """The configuration with which a run is resumed; see ``api.Run.resume``."""
    add_working_directory()
    ranks.start()
    sections = sections_of(parts or {})
    config: DictConfig = ranks.from_rank_0(
        lambda: config_to_resume(directory, read_state(directory), overrides, config_dir, trusted, sections)
    )
    return config


def composed_to_fork(
    origin: Origin,
    overrides: Sequence[str],
    config_dir: str | None = None,
    trusted: Iterable[str] = (),
    parts: Mapping[str, Any] | None = None,
) -> DictConfig:
    """The configuration of a fork; see ``api.Run.fork``."""
    if ranks.world_size() > 1:
        raise RunError("A fork is started by one process. Start it without torchrun, then `resume` it.")
    add_working_directory()
    return config_of_fork(origin, overrides, config_dir, trusted, sections_of(parts or {}))
