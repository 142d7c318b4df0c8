"""Opening a run for writing: lock, replay, identity, and what is recorded of the session.

Rank 0 holds the lock and the ledger.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flywheel import ranks
from flywheel.config import credentials
from flywheel.config.components import identity_part
from flywheel.config.modules import Code, version_of
from flywheel.config.remembered import remember
from flywheel.errors import UnwritableError, wrap_user_errors
from flywheel.executors import executor_of_process
from flywheel.launch.identity import check_data, check_prompts, set_aside
from flywheel.launch.preflight import Ready
from flywheel.lineage.code_changes import differing, hashes
from flywheel.runtime import work
from flywheel.runtime.checkout import checkout
from flywheel.runtime.context import StageTools
from flywheel.runtime.environment import compute, distributions, threads
from flywheel.runtime.runner import StageRunner
from flywheel.runtime.stop import Stop
from flywheel.storage import files, lock, pruning
from flywheel.storage.accountant import ErrorBudget
from flywheel.storage.events import CodeChanged, Event, ForkedFrom, RunCreated, SessionStarted
from flywheel.storage.ledger import Ledger, canonical
from flywheel.storage.state import RunState
from flywheel.storage.store import Store

FORMAT = 1
_RECORDED_VERSIONS = ("flywheel", "torch", "lightning", "hydra-core", "numpy", "pyarrow", "safetensors")


@contextmanager
def open_runner(ready: Ready) -> Iterator[StageRunner]:
    """Open a run for writing, creating it or resuming it. Raises RunError if it cannot be."""
    plan = ready.plan
    directory = plan.directory
    ledger: Ledger | None = None
    is_writer = False

    def enter() -> tuple[list[Event], ForkedFrom | None]:
        nonlocal ledger, is_writer
        with _disk(directory):
            there = plan.recorded if plan.recorded and plan.recorded.created else None
            is_new = there is None or set_aside(directory, there, ready.data)
            files.make_directory(directory)
            lock.acquire(directory)
            is_writer = True
            files.sweep(directory)
            Stop(directory).consume()
            forked_from = plan.origin.begin(directory, ready.openings) if plan.origin and is_new else None
            ledger = Ledger(directory, has_start=forked_from is not None)
        return list(ledger), forked_from

    try:
        events, forked_from = ranks.from_rank_0(enter)
        state = RunState.replay(events)
        store, stop, folder = Store(directory), Stop(directory), directory / work.FOLDER
        tools = StageTools(
            plan.components, store, ready.data, stop, executor_of_process(stop.check_unit), folder
        )
        runner = StageRunner(directory, tools, ready.trackers, state, ledger)
        ready.trackers.open(directory)
        with _disk(directory):
            _begin(runner, forked_from, ready.spent)
            _make_room(runner)
        if ranks.rank() == 0:
            remember(directory, plan.config_dir, plan.trusted)
        with _disk(directory):  # what a stage raises has become its failure before it gets here
            yield runner
    finally:
        try:
            ready.trackers.close()
        finally:  # also where Ctrl-C comes while a tracker closes
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


def _begin(runner: StageRunner, forked_from: ForkedFrom | None, spent: float) -> None:
    """Create the run or check that it is ours, and record the session."""
    config = runner.components.resolved
    if runner.state.created is None:
        runner.record(
            RunCreated(
                format=FORMAT,
                recipe=config["recipe"],
                name=runner.directory.name,
                config=json.loads(canonical(identity_part(runner.components.config))),  # keys as text
                data=runner.tools.data.identity,
                threads=threads(config, None),
                error_budget=ErrorBudget.of(config, spent),
                forked_from=forked_from,
            )
        )
    else:
        where, data = (runner.directory, runner.state, runner.store), runner.tools.data
        runner.tools.data = ranks.run_on_all_ranks(lambda: check_data(*where, data))
        with wrap_user_errors("The recipe's task must be able to draw its prompts again:"):
            check_prompts(*where, runner.components)
    code, changes = ranks.from_rank_0(lambda: _code(runner))
    if changes:  # first, so that a crash between the two does not lose it
        runner.record(changes)
    runner.record(
        SessionStarted(
            world_size=ranks.world_size(),
            threads=threads(config, runner.state),
            **code,
            machine=platform.machine(),
            compute=compute(config["trainer"]),
            python=platform.python_version(),
            versions=versions(),
            command=tuple(credentials.without_values(sys.argv[1:])),
        )
    )


def _make_room(runner: StageRunner) -> None:
    """End a pruning that a crash cut off, and apply a retention policy that is new or was not reached."""
    if runner.ledger:
        pruning.delete(runner.store, runner.state.pruned)
    if runner.state.current is None:
        if runner.ledger:
            work.discard_generations(runner.directory)
        runner.retain()


def versions() -> dict[str, str | None]:
    """Versions of the packages that decide what a fit computes."""
    return {name: version_of(name) for name in _RECORDED_VERSIONS}


def _code(runner: StageRunner) -> tuple[dict[str, Any], CodeChanged | None]:
    """The code that is run: checkouts, and as artifacts their changes, sources and distributions.

    Second, how it differs from the session before; None if it does not.
    """
    task = sys.modules.get(type(runner.components.task).__module__)
    ours, theirs = (checkout(Path(str(file)).parent) for file in (__file__, getattr(task, "__file__", "")))
    both = {"flywheel": ours, "recipe": theirs if not ours or (theirs and theirs.top != ours.top) else None}
    trees = {name: tree for name, tree in both.items() if tree}
    diffs = {f"diff.{name}": _without_secrets(tree.kept_diff) for name, tree in trees.items()}
    sources, installed = _sources(runner.components.code), distributions()
    outputs = {name: runner.store.put(diff, ".diff") for name, diff in diffs.items() if diff}
    outputs |= {"code": runner.store.put_json(sources), "distributions": runner.store.put_json(installed)}
    outputs["config"] = runner.store.put(runner.components.yaml().encode(), ".yaml")
    trees_json = {name: tree.json() for name, tree in trees.items()}
    code = {"commit": ours.commit if ours else None, "checkouts": trees_json, "outputs": outputs}
    return code, _changes(runner, sources, installed)


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


def _changes(
    runner: StageRunner, sources: Mapping[str, Any], installed: Mapping[str, str]
) -> CodeChanged | None:
    before, read = runner.state.session, runner.store.json
    if before is None:
        return None
    modules = differing(hashes(read(before.outputs["code"])), hashes(sources))
    packages = differing(read(before.outputs["distributions"]), installed)
    number = len(runner.state.generations) - (runner.state.current is not None)
    changed = CodeChanged(generation=number, since=before.seq, modules=modules, distributions=packages)
    return changed if modules or packages else None
