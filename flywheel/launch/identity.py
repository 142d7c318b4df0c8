"""Checks that an existing run has the data and the prompts that the configuration gives now."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flywheel import ranks
from flywheel.config.components import Components
from flywheel.config.identity import differences, leaf_text, refuse_other
from flywheel.errors import IdentityError
from flywheel.records import Role
from flywheel.runtime.data import Data, recorded_suites
from flywheel.stages.generate import draw_prompts, shown_results
from flywheel.storage import lock
from flywheel.storage.state import RunState, Status
from flywheel.storage.store import Store
from flywheel.tables.digests import difference, sketch, sketch_difference


def check_data(directory: Path, state: RunState, store: Store, data: Data, remedy: str | None = None) -> Data:
    """The tables that the run has recorded, if those of the task are the same; else raise IdentityError.

    Floats may differ in the last bits, as they do between CPU types: then the recorded ones are used.
    """
    remedy = remedy or _another_name(directory)
    recorded = data.as_recorded(state, store)
    old, new = state.created.data if state.created else {}, data.identity
    lines: list[str] = []
    for name in sorted({*old, *new}):
        lines += _changes(name, old.get(name, {}), new.get(name, {}), recorded, data)
    refuse_other("data", directory, lines, remedy)
    return recorded


def _changes(
    name: str, old: Mapping[str, Any], new: Mapping[str, Any], recorded: Data, data: Data
) -> Iterator[str]:
    """What differs between a table that the run has recorded, or its digest, and that of the task."""
    for key, (there, now) in differences(old, new).items():
        if key == "table" and name in recorded.recorded and name in data.tables:
            change = difference(recorded.tables[name], data.tables[name])
            yield from [f"{name}: {change}"] if change else []
        else:
            yield f"{name}.{key}: {leaf_text(there)} there, {leaf_text(now)} now"


def check_prompts(directory: Path, state: RunState, store: Store, components: Components) -> None:
    """Raise IdentityError if the newest prompts that the run has recorded would be drawn otherwise now."""
    generations = [
        (generation, generation.generate.facts) for generation in state.generations if generation.generate
    ]
    if not generations:
        return
    newest, facts = generations[-1]
    carry = {part: store.json(name) for part, name in newest.carry_before.artifacts.items()}
    key, task = state.key(newest.number, "generate"), components.task
    parent = state.generations[newest.parent or 0]

    def changed() -> str | None:
        results = shown_results(task, recorded_suites(state, store, Role.DEV), store, parent)
        prompts = draw_prompts(task, newest.number, carry, key, results)
        return sketch_difference(facts.prompts, sketch(prompts))

    change = ranks.from_rank_0(changed)
    lines = [f"prompts of generation {newest.number}: {change}"] if change else []
    refuse_other("data", directory, lines, _another_name(directory))


def set_aside(directory: Path, state: RunState, data: Data) -> bool:
    """Move a run away that has other data and no generation that ended well: it begins anew, nothing is lost.

    That is how a run is left whose data were mended after its genesis failed. A fork stays: its weights are
    in its own store. Called on rank 0. Raises LockedError if the run is being written.
    """
    if (state.created and state.created.forked_from) or any(
        g.status is Status.PROMOTED for g in state.generations
    ):
        return False
    try:
        check_data(directory, state, Store(directory), data)
    except IdentityError:
        aside = _free(directory, f"{directory.name}-other-data")
        lock.acquire(directory)
        try:
            directory.rename(aside)
        finally:
            lock.release(directory)
        print(
            f"The data changed before a generation ended well: the run begins anew; {aside} has the old one."
        )
        return True
    return False


def _another_name(directory: Path) -> str:
    name = _free(directory, directory.name).name
    return f"Give name={name} to start a new run, or undo the change to continue this one."


def _free(directory: Path, stem: str) -> Path:
    """The first of STEM-2, STEM-3, ... that is not there yet, beside a directory."""
    tries = (directory.with_name(f"{stem}-{number}") for number in itertools.count(2))
    return next(path for path in tries if not path.exists())
