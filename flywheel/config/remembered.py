"""How a run was started, remembered on this machine for this user: ``--config-dir`` and trusted classes.

It is not in the run: whoever hands a run over must not choose what is imported here. A file per run, named
by the hash of the run's first event, below the user's state folder (``XDG_STATE_HOME``).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from flywheel.config.search_path import known_targets
from flywheel.storage import files, ledger


@dataclass(frozen=True, slots=True)
class Remembered:
    """What this user started a run with."""

    config_dir: str | None = None
    """Folder of its recipe, if it is still there."""
    trusted: frozenset[str] = frozenset()
    """Class paths that no recipe names, e.g. those that an override named."""


def remember(directory: Path, config_dir: str | None, targets: Iterable[str]) -> None:
    """Remember what was given; a home that cannot be written is no reason to fail."""
    name, own = _name(directory), sorted(set(targets) - known_targets(config_dir))
    if name is not None and (config_dir is not None or own):
        folder = config_dir and str(Path(config_dir).resolve())
        with contextlib.suppress(OSError):
            _folder().mkdir(parents=True, exist_ok=True)
            text = json.dumps({"config_dir": folder, "trusted": own})
            files.write_atomic(_folder() / name, text.encode())


def remembered(directory: Path) -> Remembered:
    """What this user started the run with; nothing if it was somebody else, or elsewhere."""
    name = _name(directory)
    with contextlib.suppress(OSError, ValueError):
        record = json.loads((_folder() / str(name)).read_bytes())
        path = record["config_dir"]
        return Remembered(path if path and Path(path).is_dir() else None, frozenset(record["trusted"]))
    return Remembered()


def _folder() -> Path:
    import platformdirs

    return platformdirs.user_state_path("flywheel") / "started"


def _name(directory: Path) -> str | None:
    first = ledger.first_event(directory)
    return first.hash if first else None
