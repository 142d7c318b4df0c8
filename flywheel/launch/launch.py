"""Launch a run, in a straight line: compose, plan, preflight, open, loop.

Each step is given what the one before it found, and none goes back. To resume and to fork is to compose
from what a run recorded; the rest of the line is the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel import ranks
from flywheel.config.components import Components, targets_in
from flywheel.config.compose import checked, compose, compose_mapping, recompose
from flywheel.config.parts import sections_of
from flywheel.config.search_path import add_working_directory
from flywheel.errors import ExitCode, RunError
from flywheel.launch.fork import Origin
from flywheel.launch.plan import Plan, directory_of
from flywheel.launch.recorded import config_to_resume, key_of, refuse_unknown
from flywheel.lineage.generation import Which
from flywheel.lineage.status import read_state
from flywheel.runtime.exclusive import only_run
from flywheel.storage.state import RunState

if TYPE_CHECKING:
    from omegaconf import DictConfig


@dataclass(frozen=True, slots=True)
class Launched:
    """A run that was launched: what ``flywheel.api.Run`` and the command line know of it."""

    path: Path
    config_dir: str | None
    trusted: frozenset[str]
    exit_code: ExitCode
    log: str
    """What the terminal showed, e.g. ``plain``."""
    was_finished: bool = False
    """Whether there was nothing left to do."""


def launch(
    config: DictConfig, config_dir: str | None = None, *, parts: Mapping[str, Any] | None = None
) -> Launched:
    """Run a composed configuration; see ``api.run``. ``parts``: those that were given as objects."""
    return _launch(directory_of(config), config, config_dir, parts)


def resume(
    directory: Path,
    overrides: Sequence[str],
    config_dir: str | None = None,
    trusted: Iterable[str] = (),
    parts: Mapping[str, Any] | None = None,
) -> Launched:
    """Go on with a run from what it recorded; see ``api.Run.resume``."""
    ranks.start()
    state = ranks.from_rank_0(lambda: read_state(directory))
    recorded = ranks.from_rank_0(lambda: config_to_resume(directory, state, overrides))
    config = _recomposed(directory, recorded, overrides, config_dir, trusted, parts)
    return _launch(directory, config, config_dir, parts, recorded=state)


def fork(
    directory: Path,
    generation: Which,
    overrides: Sequence[str],
    config_dir: str | None = None,
    trusted: Iterable[str] = (),
    parts: Mapping[str, Any] | None = None,
) -> Launched:
    """Start a run from a generation of another one; see ``api.Run.fork``."""
    if ranks.world_size() > 1:
        raise RunError("A fork is started by one process. Start it without torchrun, then `resume` it.")
    origin = Origin.of(directory, generation)
    config = _recomposed(directory, origin.config(overrides), overrides, config_dir, trusted, parts)
    return _launch(directory_of(config), config, config_dir, parts, origin=origin)


def _launch(
    directory: Path,
    config: DictConfig,
    config_dir: str | None,
    parts: Mapping[str, Any] | None,
    *,
    recorded: RunState | None = None,
    origin: Origin | None = None,
) -> Launched:
    """The line from a configuration on; ``recorded``: the state of the run, where it was read already."""
    with only_run(directory):
        plan = Plan.of(directory, Components(config, parts), config_dir, recorded, origin)
        was_finished = plan.is_finished
        code = ExitCode.FINISHED if was_finished else _run(plan)
        return Launched(directory, config_dir, plan.trusted, code, config.log.value, was_finished)


def _run(plan: Plan) -> ExitCode:
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


def _recomposed(
    directory: Path,
    recorded: Mapping[str, Any],
    overrides: Sequence[str],
    config_dir: str | None,
    trusted: Iterable[str],
    parts: Mapping[str, Any] | None,
) -> DictConfig:
    """What a run recorded, with overrides on top, checked anew; what they or the parts name is trusted.

    Raises ConfigError, and RunError if it names another class that is not trusted here.
    """
    add_working_directory()
    sections = sections_of(parts or {})
    given = {text.partition("=")[2] for text in overrides if key_of(text).endswith("_target_")}

    def compose_it() -> DictConfig:
        config: DictConfig = recompose(recorded, overrides, config_dir, sections)
        refuse_unknown(directory, config, config_dir, {*trusted, *given, *targets_in(sections)})
        return config

    return ranks.from_rank_0(compose_it)
