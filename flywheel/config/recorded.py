"""The configuration that a session recorded, read back. It is data from outside: nothing is built here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flywheel.errors import RunError
from flywheel.storage.events import SessionStarted
from flywheel.storage.store import Store


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
