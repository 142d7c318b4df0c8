"""Which ``--config-dir`` a run was started with, remembered on this machine for this user.

It is not in the run: whoever hands a run over must not choose what is imported here. A file per run, named
by the hash of the run's first event, below the user's state folder (``XDG_STATE_HOME``).
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from flywheel.storage import files, ledger


def remember(directory: Path, config_dir: str | None) -> None:
    """Remember the folder, if one was given; a home that cannot be written is no reason to fail."""
    name = _name(directory)
    if config_dir is not None and name is not None:
        with contextlib.suppress(OSError):
            _folder().mkdir(parents=True, exist_ok=True)
            files.write_atomic(_folder() / name, str(Path(config_dir).resolve()).encode())


def remembered(directory: Path) -> str | None:
    """The folder with which this user started the run, if it is still there."""
    name = _name(directory)
    with contextlib.suppress(OSError, UnicodeDecodeError):
        path = (_folder() / str(name)).read_bytes().decode()
        return path if Path(path).is_dir() else None
    return None


def _folder() -> Path:
    import platformdirs

    return platformdirs.user_state_path("flywheel") / "config_dirs"


def _name(directory: Path) -> str | None:
    first = ledger.first_event(directory)
    return str(first["hash"]) if first else None
