"""Opening a run for writing: lock, replay, identity, and what is recorded of the session.

Rank 0 holds the lock and the ledger.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from flywheel import ranks
from flywheel.config import credentials
from flywheel.config.components import Components, identity_part
from flywheel.config.modules import Code
from flywheel.errors import UnwritableError, told_whole
from flywheel.launch.identity import check_data, check_prompts
from flywheel.lineage.code_changes import differing, hashes
from flywheel.protocols import Tracker
from flywheel.runtime.checkout import checkout
from flywheel.runtime.data import Data
from flywheel.runtime.environment import compute, distributions
from flywheel.runtime.runner import Journal
from flywheel.runtime.stop import Stop
from flywheel.storage import files, lock, pruning
from flywheel.storage.ledger import Event, Ledger
from flywheel.storage.state import RunState
from flywheel.storage.store import Store

FORMAT = 1
_RECORDED_VERSIONS = ("flywheel", "torch", "lightning", "hydra-core", "numpy", "pyarrow", "safetensors")


@contextmanager
def open_journal(
    directory: Path,
    components: Components,
    data: Data,
    audience: Tracker,
    forked_from: Mapping[str, Any] | None = None,
) -> Iterator[Journal]:
    """Open a run for writing, creating it or resuming it. Raises RunError if it cannot be.

    ``forked_from``: the generation of another run whose weights a new one starts from.
    """
    ledger: Ledger | None = None
    is_writer = False

    def enter() -> list[Event]:
        nonlocal ledger, is_writer
        with _disk(directory):
            files.make_directory(directory)
            lock.acquire(directory)
            is_writer = True
            files.sweep(directory)
            Stop(directory).consume()
            ledger = Ledger(directory, has_start=forked_from is not None)
        return list(ledger)

    try:
        state = RunState.replay(ranks.from_rank_0(enter))
        store, stop = Store(directory), Stop(directory)
        journal = Journal(directory, components, data, audience, stop, state, store, ledger)
        audience.open(directory)
        with _disk(directory):
            _begin(journal, forked_from)
            _make_room(journal)
        with _disk(directory):  # what a stage raises has become its failure before it gets here
            yield journal
    finally:
        audience.close()
        if ledger:
            ledger.close()
        if is_writer:
            lock.release(directory)


@contextmanager
def _disk(directory: Path) -> Iterator[None]:
    """Say clearly that the run's directory cannot be used."""
    try:
        yield
    except OSError as error:
        raise UnwritableError.of(directory, error) from error


def _begin(journal: Journal, forked_from: Mapping[str, Any] | None) -> None:
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
            **({"forked_from": dict(forked_from)} if forked_from else {}),
        )
    else:
        where, data = (journal.directory, journal.state, journal.store), journal.data
        journal.data = ranks.together(lambda: check_data(*where, data))
        with told_whole("The recipe's task must be able to draw its prompts again:"):
            check_prompts(*where, journal.components)
    code, changes = ranks.from_rank_0(lambda: _code(journal))
    if changes:  # first, so that a crash between the two does not lose it
        journal.record("code_changed", **changes)
    journal.record(
        "session_started",
        world_size=ranks.world_size(),
        threads=threads(config, journal.state),
        **code,
        machine=platform.machine(),
        compute=compute(config["trainer"]),
        trainer=journal.components.template("trainer"),
        python=platform.python_version(),
        versions=versions(),
        command=credentials.without_values(sys.argv[1:]),
    )


def _make_room(journal: Journal) -> None:
    """End a pruning that a crash cut off, and apply a retention policy that is new or was not reached."""
    if journal.ledger:
        pruning.delete(journal.store, journal.state.pruned)
    if journal.state.current is None:
        journal.retain()


def threads(config: Mapping[str, Any], state: RunState | None) -> int:
    """Threads of torch: as configured, else as when the run was created, else one a core and rank."""
    if config["threads"]:
        return int(config["threads"])
    if state and state.created:
        return int(state.created["threads"])
    return max(1, ranks.cores() // ranks.local_world_size())


def versions() -> dict[str, str | None]:
    """Versions of the packages that decide what a fit computes."""
    return {name: _version(name) for name in _RECORDED_VERSIONS}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _code(journal: Journal) -> tuple[dict[str, Any], dict[str, Any]]:
    """The code that is run: checkouts, and as artifacts their changes, sources and distributions.

    Second, the content of ``code_changed``: how it differs from the session before; empty if it does not.
    """
    task = sys.modules.get(type(journal.components.task).__module__)
    ours, theirs = (checkout(Path(str(file)).parent) for file in (__file__, getattr(task, "__file__", "")))
    found = {"flywheel": ours, "recipe": theirs if not ours or (theirs and theirs.top != ours.top) else None}
    trees = {name: tree for name, tree in found.items() if tree}
    diffs = {f"diff.{name}": _without_secrets(tree.kept_diff) for name, tree in trees.items()}
    sources, installed = _sources(journal.components.code), distributions()
    outputs = {name: journal.store.put(diff, ".diff") for name, diff in diffs.items() if diff}
    outputs |= {"code": journal.store.put_json(sources), "distributions": journal.store.put_json(installed)}
    trees_json = {name: tree.json() for name, tree in trees.items()}
    code = {"commit": ours.commit if ours else None, "checkouts": trees_json, "outputs": outputs}
    return code, _changes(journal, sources, installed)


def _sources(code: Code) -> dict[str, dict[str, str | None]]:
    """The modules, without credentials that somebody wrote into them; the hash is that of the file."""
    sources = code.json()
    for module in sources.values():
        text = module.get("text")
        if text is not None:
            module["text"] = credentials.without_secrets(text)
    return sources


def _without_secrets(diff: bytes | None) -> bytes | None:
    """A diff without credentials that somebody wrote into the code."""
    if diff is None:
        return None
    text = diff.decode(errors="surrogateescape")
    return credentials.without_secrets(text).encode(errors="surrogateescape")


def _changes(journal: Journal, sources: Mapping[str, Any], installed: Mapping[str, str]) -> dict[str, Any]:
    before = journal.state.session or {}
    then = before.get("outputs", {})
    if "code" not in then:
        return {}
    read = journal.store.json
    changes = {
        "modules": differing(hashes(read(then["code"])), hashes(sources)),
        "distributions": differing(read(then["distributions"]), installed),
    }
    number = len(journal.state.generations) - (journal.state.current is not None)
    return {"generation": number, "since": before["seq"], **changes} if any(changes.values()) else {}
