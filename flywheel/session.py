"""Opening a run for writing: lock, replay, identity, and what is recorded of the session.

Rank 0 holds the lock and the ledger.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from flywheel import distributed
from flywheel.components import Components, identity_part
from flywheel.compose import flatten
from flywheel.control import Stop
from flywheel.data import Data
from flywheel.errors import IdentityError, UnwritableError
from flywheel.journal import Journal
from flywheel.lineage import files, lock
from flywheel.lineage.ledger import Event, Ledger
from flywheel.lineage.state import RunState
from flywheel.lineage.store import Store
from flywheel.trackers import Tracker

FORMAT = 1
_RECORDED_VERSIONS = ("flywheel", "torch", "lightning", "hydra-core", "numpy", "pyarrow", "safetensors")


@contextmanager
def open_journal(directory: Path, components: Components, data: Data, audience: Tracker) -> Iterator[Journal]:
    """Open a run for writing, creating it or resuming it. Raises RunError if it cannot be."""
    ledger: Ledger | None = None

    def enter() -> list[Event]:
        nonlocal ledger
        with _disk(directory):
            files.make_directory(directory)
            lock.acquire(directory)
            files.sweep(directory)
            Stop(directory).consume()
            ledger = Ledger(directory)
        return list(ledger)

    try:
        state = RunState.replay(distributed.from_rank_0(enter))
        store, stop = Store(directory), Stop(directory)
        journal = Journal(directory, components, data, audience, stop, state, store, ledger)
        audience.open(directory)
        with _disk(directory):
            _begin(journal)
        journal.data = data.as_recorded(state, store)
        yield journal
    finally:
        audience.close()
        if ledger:
            ledger.close()
        lock.release(directory)


@contextmanager
def _disk(directory: Path) -> Iterator[None]:
    """Say clearly that the run's directory cannot be used."""
    try:
        yield
    except OSError as error:
        raise UnwritableError.of(directory, error) from error


def _begin(journal: Journal) -> None:
    """Create the run or check that it is ours, and record the session."""
    config = journal.components.resolved
    if journal.state.created is None:
        journal.record(
            "run_created",
            format=FORMAT,
            recipe=config["recipe"],
            name=journal.directory.name,
            config=identity_part(journal.components.config),
            model=journal.components.model_template,
            data=journal.data.identity,
            threads=threads(config, None),
        )
    else:
        check_same("data", journal.directory, journal.state.created["data"], journal.data.identity)
    journal.record(
        "session_started",
        world_size=distributed.world_size(),
        threads=threads(config, journal.state),
        commit=_commit(),
        machine=platform.machine(),
        python=platform.python_version(),
        versions={name: _version(name) for name in _RECORDED_VERSIONS},
        command=sys.argv[1:],
    )


def threads(config: Mapping[str, Any], state: RunState | None) -> int:
    """Threads of torch: as configured, else as when the run was created, else one a core and rank."""
    if config["threads"]:
        return int(config["threads"])
    if state and state.created:
        return int(state.created["threads"])
    return max(1, distributed.cores() // distributed.local_world_size())


def check_same(what: str, directory: Path, recorded: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Raise IdentityError, listing the keys that differ, unless the run is what we would make."""
    old, new = dict(flatten(recorded)), dict(flatten(ours))
    keys = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    if keys:
        lines = [f"    {key}: {old.get(key, 'absent')} there, {new.get(key, 'absent')} now" for key in keys]
        raise IdentityError(
            f"A run keeps its identity: {directory} was made with other {what}.\n"
            + "\n".join(lines[:12])
            + "\nGive another name= (or none) to start a new run, or undo the change to go on with this one."
        )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Commit of the checkout that this code runs from; None outside one."""
    folder = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"],
            check=False,
            capture_output=True,
            text=True,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
