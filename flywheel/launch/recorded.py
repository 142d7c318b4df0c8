"""The configuration that a run recorded, read back, and what may be changed in it.

It is data from outside: whoever builds from it asks ``refuse_unknown`` first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.config.components import TRAINER_OPERATIONAL, targets_in
from flywheel.config.compose import recompose
from flywheel.config.schema import OPERATIONAL
from flywheel.config.search_path import known_targets
from flywheel.errors import ConfigError, RunError
from flywheel.storage.events import SessionStarted
from flywheel.storage.state import RunState
from flywheel.storage.store import Store

if TYPE_CHECKING:
    from omegaconf import DictConfig

_PLACE = frozenset({"name", "runs_dir"})
_GIVEN = frozenset({"base"})
"""Its content is identity, its path is not: a file that has moved may be named again."""


def recorded_config(directory: Path, session: SessionStarted | None) -> dict[str, Any]:
    """The configuration of a session as it was composed, references unresolved.

    Raises RunError if no session began.
    """
    from omegaconf import OmegaConf

    name = session.outputs.get("config") if session else None
    if name is None:
        raise RunError(
            f"Expected a run that has started, got {directory}, without a recorded configuration. Start it "
            "again by the command that made it."
        )
    config = OmegaConf.to_container(OmegaConf.create(Store(directory).get(name).decode()), resolve=False)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


def config_to_resume(
    directory: Path,
    state: RunState,
    overrides: Sequence[str],
    config_dir: str | None,
    trusted: Iterable[str] = (),
    sections: Mapping[str, Mapping[str, Any]] | None = None,
) -> DictConfig:
    """The recorded configuration of a run to resume, with operational keys changed.

    Raises ConfigError if another key is given, RunError if it names a class that is not trusted here.
    """
    for override in overrides:
        key = key_of(override)
        if not _may_change(key):
            keys = ", ".join(sorted((OPERATIONAL | _GIVEN) - _PLACE))
            raise ConfigError(
                f"A resumed run keeps its identity and its directory; {override!r} cannot be changed. "
                f"Keys that can: {keys}, and of the trainer {', '.join(sorted(TRAINER_OPERATIONAL))}. `fork` "
                "starts a new run with other values."
            )
    recorded = recorded_config(directory, state.session)
    place = directory.absolute()
    recorded |= {"name": place.name, "runs_dir": str(directory.parent.parent)}
    if state.created and state.created.forked_from:
        recorded["base"] = str(Store(directory).path(state.created.forked_from.weights))
    return changed(directory, recorded, overrides, config_dir, trusted, sections)


def changed(
    directory: Path,
    recorded: Mapping[str, Any],
    overrides: Sequence[str],
    config_dir: str | None,
    trusted: Iterable[str],
    sections: Mapping[str, Mapping[str, Any]] | None,
) -> DictConfig:
    """What a run recorded, with overrides on top, checked anew; what they or ``sections`` name is trusted.

    Raises ConfigError, and RunError if it names another class that is not trusted here.
    """
    config: DictConfig = recompose(recorded, overrides, config_dir, sections)
    given = {text.partition("=")[2] for text in overrides if key_of(text).endswith("_target_")}
    refuse_unknown(directory, config, config_dir, {*trusted, *given, *targets_in(sections or {})})
    return config


def key_of(override: str) -> str:
    """The key of an override, without its sign: ``+tracker.project`` of ``+tracker.project=x``."""
    return re.split(r"[=@]", override.lstrip("+~"), maxsplit=1)[0]


def refuse_unknown(path: Path, nodes: object, config_dir: str | None, trusted: Iterable[str]) -> None:
    """Raise RunError if what was read from a run names a class that is not trusted here."""
    from omegaconf import DictConfig

    from flywheel.config.components import plain

    named = targets_in(plain(nodes) if isinstance(nodes, DictConfig) else nodes)
    unknown = named - known_targets(config_dir) - set(trusted)
    if unknown:
        raise RunError(
            f"Only classes that a recipe on the search path names are built; {path} names "
            f"{', '.join(sorted(unknown))}. Name the folder of its recipe: --config-dir DIR, in Python "
            "open_run(path, config_dir=DIR), or, for a class that you know, open_run(path, trusted={...})."
        )


def _may_change(key: str) -> bool:
    root, _, leaf = key.partition(".")
    if root == "trainer":
        return leaf.partition(".")[0] in TRAINER_OPERATIONAL
    return root in (OPERATIONAL | _GIVEN) - _PLACE
