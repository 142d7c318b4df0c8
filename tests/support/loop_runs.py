"""Runs of the recipe ``probe`` in this process."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import flywheel
from tests.support.harness import PROBE, PROBE_CONF

TURN = (*PROBE, "log=quiet", "name=run", "generations=1")
"""The command of a run of one turn."""

Probe = Callable[..., flywheel.Run]


def run_probe(runs: Path, **overrides: Any) -> flywheel.Run:
    """Run it, or go on; ``__`` in a key stands for a dot."""
    ours = {"recipe": "probe", "name": "run", "log": "quiet", "threads": 1, "runs_dir": str(runs)}
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    return flywheel.run({**ours, **dotted}, config_dir=PROBE_CONF)


@contextmanager
def quick_folder() -> Iterator[Path]:
    """A folder in memory where there is one: an fsync there costs nothing, and a run makes hundreds."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="flywheel-", dir=memory if memory.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
