"""How a W&B run is opened: under which id, whether there is a login, and what W&B is kept from taking."""

from __future__ import annotations

import os
import shlex
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import wandb

    from flywheel.storage.events import RunCreated

OFFLINE, DISABLED = "offline", "disabled"
FOLDER = "wandb"
"""Where W&B's files lie, in a run's directory."""
_EARLIER = "earlier"
_ID_FILE, _PLACE = "id", ("id", "project", "entity")
"""What is kept of an agent's run, a line each."""


def mode_of(mode: str | None) -> str | None:
    """The mode of a run: as asked for, else as ``WANDB_MODE`` says, else by whether there is a login."""
    if mode is not None or os.environ.get("WANDB_MODE"):
        return mode or os.environ["WANDB_MODE"]
    return None if is_logged_in() else OFFLINE


def shown_at(run: wandb.Run, directory: Path, mode: str | None) -> str:
    """Where people see a run, or how they will; ``mode`` is what was configured."""
    if not run.settings._offline:
        return str(run.url)
    why = "" if mode or os.environ.get("WANDB_MODE") else ", as nobody is logged in to W&B"
    return f"offline{why}; python -m flywheel sync {shlex.quote(str(directory))} uploads the run"


def is_logged_in() -> bool:
    """Whether W&B has credentials for its server: in the environment, its settings or .netrc. Asks nobody."""
    import wandb
    from wandb.sdk.lib import wbauth

    host = wandb.setup().settings.base_url
    auth = wbauth.authenticate_session(host=host, source="flywheel", prompt=False, update_session=False)
    return auth is not None


def settings(mode: str | None) -> wandb.Settings:
    """Settings by which W&B takes nothing on its own, and says little: offline nothing, else what is wrong.

    No code, no git, no console, no metadata of the machine (host, user, program, arguments, paths), no
    list of packages: what the ledger has of these is in it on purpose, without credentials.
    """
    import wandb

    return wandb.Settings(
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        save_code=False,
        console="off",
        host="",
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        quiet=True,  # its summary of a run would stand among our last lines
        silent=mode == OFFLINE,
    )


def place_of(directory: Path, created: RunCreated) -> dict[str, str]:
    """The ``id`` of the W&B run, the same in every session; of an agent's also ``project`` and ``entity``.

    Under ``wandb agent`` these are the agent's; they are kept in the run's directory for sessions without it.
    """
    kept = directory / FOLDER / _ID_FILE
    if is_agents() and (given := os.environ.get("WANDB_RUN_ID")):
        agents = [given, *(os.environ.get(f"WANDB_{name.upper()}", "") for name in _PLACE[1:])]
        kept.parent.mkdir(exist_ok=True)
        kept.write_text("\n".join(agents))
    lines = kept.read_text().splitlines() if kept.exists() else [created.hash[:16]]
    return {name: line for name, line in zip(_PLACE, lines, strict=False) if line}


def is_agents() -> bool:
    """Whether an agent of a W&B sweep started this process: it has made the W&B run."""
    return bool(os.environ.get("WANDB_SWEEP_ID"))


def set_earlier_aside(directory: Path, identifier: str) -> None:
    """Move offline folders of this W&B run into a folder of their own.

    A new one holds all that they hold, and ``wandb sync --sync-all`` should upload one of them. W&B names a
    folder by the second: sessions of the same second have the same name.
    """
    for folder in sorted((directory / FOLDER).glob(f"offline-run-*-{identifier}")):
        earlier = folder.parent / _EARLIER
        earlier.mkdir(exist_ok=True)
        names = (f"{folder.name}{end}" for end in chain([""], (f"-{k}" for k in count(1))))
        folder.rename(next(earlier / name for name in names if not (earlier / name).exists()))
