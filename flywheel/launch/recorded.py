"""The configuration that a run recorded, read back, and what may be changed in it.

It is data from outside: whoever builds from it asks ``refuse_unknown`` first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from flywheel.config.components import TRAINER_OPERATIONAL, targets_in
from flywheel.config.recorded import recorded_config
from flywheel.config.schema import OPERATIONAL
from flywheel.config.search_path import known_targets
from flywheel.errors import ConfigError, RunError
from flywheel.storage.state import RunState
from flywheel.storage.store import Store

_PLACE = frozenset({"name", "runs_dir"})
_GIVEN = frozenset({"base"})
"""Its content is identity, its path is not: a file that has moved may be named again."""


def config_to_resume(directory: Path, state: RunState, overrides: Sequence[str]) -> dict[str, Any]:
    """The recorded configuration of a run to resume, where it lies now.

    Raises ConfigError if an override is of a key that is not operational.
    """
    for override in overrides:
        if not _may_change(key_of(override)):
            keys = ", ".join(sorted((OPERATIONAL | _GIVEN) - _PLACE))
            raise ConfigError(
                f"A resumed run keeps its identity and its directory; {override!r} cannot be changed. "
                f"Keys that can: {keys}, and of the trainer {', '.join(sorted(TRAINER_OPERATIONAL))}. `fork` "
                "starts a new run with other values."
            )
    recorded = recorded_config(directory, state.session)
    recorded |= {"name": directory.absolute().name, "runs_dir": str(directory.parent.parent)}
    recorded["seal"] = "keep"  # to reopen is said anew each time
    if state.created and state.created.forked_from:
        recorded["base"] = str(Store(directory).path(state.created.forked_from.weights))
    return recorded


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
