"""Is the run that is there the one that we would make? Its configuration, its data, its prompts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flywheel import distributed
from flywheel.components import Components
from flywheel.compose import differences, leaf_text
from flywheel.data import Data
from flywheel.digests import difference, sketch, sketch_difference
from flywheel.errors import IdentityError
from flywheel.lineage.state import RunState
from flywheel.lineage.store import Store
from flywheel.stages.generate import draw_prompts

_GO_ON = "Give another name= (or none) to start a new run, or undo the change to go on with this one."
_MOST_LINES = 12


def check_same(
    what: str, directory: Path, recorded: Mapping[str, Any], ours: Mapping[str, Any], remedy: str = _GO_ON
) -> None:
    """Raise IdentityError, listing the keys that differ, unless the run is what we would make."""
    found = differences(recorded, ours)
    lines = [f"{key}: {leaf_text(old)} there, {leaf_text(new)} now" for key, (old, new) in found.items()]
    _refuse(what, directory, lines, remedy)


def check_data(directory: Path, state: RunState, store: Store, data: Data, remedy: str = _GO_ON) -> Data:
    """The tables that the run has recorded, if those of the task are the same; else raise IdentityError.

    Floats may differ in the last bits, as they do between CPU types: then the recorded ones are gone on with.
    """
    recorded = data.as_recorded(state, store)
    old, new = (state.created or {})["data"], data.identity
    lines: list[str] = []
    for name in sorted({*old, *new}):
        lines += _changes(name, old.get(name, {}), new.get(name, {}), recorded, data)
    _refuse("data", directory, lines, remedy)
    return recorded


def _changes(
    name: str, old: Mapping[str, Any], new: Mapping[str, Any], recorded: Data, data: Data
) -> Iterator[str]:
    """What differs between a table that the run has recorded, or its digest, and that of the task."""
    for key, (there, now) in differences(old, new).items():
        if key == "table" and name in recorded.recorded and name in data.tables:
            told = difference(recorded.tables[name], data.tables[name])
            yield from [f"{name}: {told}"] if told else []
        else:
            yield f"{name}.{key}: {leaf_text(there)} there, {leaf_text(now)} now"


def check_prompts(directory: Path, state: RunState, store: Store, components: Components) -> None:
    """Raise IdentityError if the newest prompts that the run has recorded would be drawn otherwise now."""
    asked = [generation for generation in state.generations if "generate" in generation.stages]
    if not asked:
        return
    newest = asked[-1]
    carry = {part: store.json(name) for part, name in newest.carry_before.artifacts.items()}
    key = state.key(newest.number, "generate")

    def changed() -> str | None:
        prompts = draw_prompts(components.task, newest.number, carry, key)
        return sketch_difference(newest.fact("generate", "prompts"), sketch(prompts))

    told = distributed.from_rank_0(changed)
    _refuse("data", directory, [f"prompts of generation {newest.number}: {told}"] if told else [], _GO_ON)


def _refuse(what: str, directory: Path, lines: Iterable[str], remedy: str) -> None:
    shown = [f"    {line}" for line in lines][:_MOST_LINES]
    if shown:
        raise IdentityError(
            f"A run keeps its identity: {directory} was made with other {what}.\n"
            + "\n".join([*shown, remedy])
        )
