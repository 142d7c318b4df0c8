"""Runs of the recipes ``probe`` and ``moons`` in this process."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

import flywheel
from flywheel.storage.store import Store
from flywheel.testing import CONFIG_DIR
from tests.support.harness import PROBE, PROBE_CONF, artifacts

TURN = (*PROBE, "log=quiet", "name=run", "generations=1")
"""The command of a run of one turn."""
SMALL = {"generations": 0, "settings.steps": 2}
"""Overrides of the smallest run."""

Probe = Callable[..., flywheel.Run]


def run_probe(runs: Path, **overrides: Any) -> flywheel.Run:
    """Run it, or go on; ``__`` in a key stands for a dot."""
    return _run(PROBE_CONF, runs, {"recipe": "probe", "name": "run"}, overrides)


def run_moons(runs: Path, **overrides: Any) -> flywheel.Run:
    """Likewise the recipe ``moons``, of which a test replaces parts."""
    return _run(CONFIG_DIR, runs, {"recipe": "moons"}, overrides)


def _run(config_dir: str, runs: Path, ours: dict[str, Any], overrides: dict[str, Any]) -> flywheel.Run:
    ours |= {"log": "quiet", "threads": 1, "runs_dir": str(runs)}
    ours |= {"seal": "reopen"}  # tests go on with runs that have ended
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    return flywheel.run({**ours, **dotted}, config_dir=config_dir)


def table_of(run: flywheel.Run, number: int, stage: str, output: str) -> pa.Table:
    """A table that a stage of a generation made."""
    return Store(run.path).table(run.generation(number).record.output(stage, output))


def signal_at(**arguments: Any) -> dict[str, Any]:
    """Overrides of a run that gets a signal at a given point: see ``probe_parts.SignalAt``."""
    arguments["_target_"] = "tests.support.probe_parts.SignalAt"
    return {f"+tracker.signals.{key}": value for key, value in arguments.items()}


def statuses(run: flywheel.Run) -> list[str]:
    """What became of each generation, e.g. ``promoted``."""
    return [str(generation.status) for generation in run.status().generations]


def unsealed(run: Path) -> list[tuple[Any, ...]]:
    """What each stage made but for the looks at sealed suites, which each end of a session may add."""
    return [made for made in artifacts(run) if made[1] != "sealed"]


@contextmanager
def quick_folder() -> Iterator[Path]:
    """A folder in memory where there is one: an fsync there costs nothing, and a run makes hundreds."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="flywheel-", dir=memory if memory.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
