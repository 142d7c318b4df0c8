"""In which generation a sample was made, by the first characters of its id, without reading all batches.

``RUN/ids.index`` has a record for each sample: ``made_in``, and the id. It is derived: the loop appends to
it, a reader adds the batches that it lacks, whatever does not fit the ledger is made anew, and who finds
a sample by it reads that sample from its batch. So it is neither synced nor verified.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.storage import files, lock
from flywheel.storage.state import Generation, RunState
from flywheel.storage.store import Store

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

FILE = "ids.index"
_WIDTH = 32
_RECORD = [("made_in", "<i4"), ("id", f"S{_WIDTH}")]
_RECORD_BYTES = 4 + _WIDTH
_STAGES = ("generate", "seed", "labels")


def batch_of(generation: Generation) -> str | None:
    """Artifact of the samples that a turn brought: the champion's; in a genesis and a refit human ones."""
    outputs = (generation.output(stage, "samples") for stage in _STAGES)
    return next(filter(None, outputs), None)


def rows_of(generation: Generation) -> int:
    """Rows of the batch that a turn brought; 0: it brought none."""
    if generation.generate:
        return generation.generate.facts.made
    human = generation.seed or generation.labels
    return human.facts.human if human else 0


def made_in(generation: Generation) -> int:
    """``made_in`` of the samples that a turn brought: 0 for the human ones."""
    return generation.number if generation.generate else 0


def note(directory: Path, turn: int, stage: str, samples: Any) -> None:
    """Append a batch that was just recorded. A full disk is no reason to fail: readers catch up."""
    if stage in _STAGES:
        with contextlib.suppress(OSError), files.open_to_append(directory / FILE) as file:
            file.truncate(file.tell() // _RECORD_BYTES * _RECORD_BYTES)  # what a crash tore
            file.write(_records(turn, samples["id"]).tobytes())


def find(directory: Path, state: RunState, store: Store, prefix: str) -> list[tuple[int, str]]:
    """(made_in, id) of each sample whose id begins with ``prefix``."""
    if len(prefix) == _WIDTH:  # there is one at most: no need to know whether the file has all batches
        noted = _matches(_file(directory), prefix)[:1]
        if noted and noted[0][0] < len(state.generations) and _is_there(store, state, *noted[0]):
            return [(_first_with_batch(state, noted[0][0]), prefix)]
    for trusted in (True, False):
        records = _read(directory, state, store, trusted=trusted)
        places = _matches(records, prefix)
        if places and all(_is_there(store, state, turn, name) for turn, name in places):
            return places
    return []


def _first_with_batch(state: RunState, turn: int) -> int:
    """The first turn with the batch of one: geneses share the human one, of which a note may be missing."""
    generation = state.generations[turn]
    if not generation.is_genesis:
        return turn
    batch = batch_of(generation)
    return next(other.number for other in state.generations if batch_of(other) == batch)


def _is_there(store: Store, state: RunState, turn: int, name: str) -> bool:
    batch = batch_of(state.generations[turn])
    return batch is not None and name in _ids(store, state, batch).to_pylist()  # pc.equal imports pandas


def _ids(store: Store, state: RunState, batch: str) -> pa.ChunkedArray:
    return store.table(state.resolve_pruned(batch), ["id"])["id"]


def _matches(records: np.ndarray, prefix: str) -> list[tuple[int, str]]:
    import numpy as np

    start = np.frombuffer(prefix.encode()[:_WIDTH], np.uint8)
    letters = np.ascontiguousarray(records["id"]).view(np.uint8).reshape(-1, _WIDTH)[:, : len(start)]
    hits = records[(letters == start).all(1)]
    first: dict[str, int] = {}  # the human batch is noted again by each genesis
    for turn, name in sorted(hits.tolist()):
        first.setdefault(name.decode(), int(turn))
    return sorted((turn, name) for name, turn in first.items())


def _read(directory: Path, state: RunState, store: Store, *, trusted: bool) -> np.ndarray:
    """All records; batches that the file lacks are read, and the file is brought up to date."""
    import numpy as np

    batches = _batches(state)
    records = _file(directory) if trusted else np.empty(0, _RECORD)
    turns = len(state.generations)
    is_known = (records["made_in"] >= 0) & (records["made_in"] < turns)
    counts = np.bincount(records["made_in"][is_known], minlength=turns)
    if not is_known.all() or any(counts[turn] not in (0, rows) for turn, (_, rows) in batches.items()):
        records, counts = np.empty(0, _RECORD), np.zeros(turns, int)
    missing = [turn for turn, (_, rows) in batches.items() if rows and not counts[turn]]
    if missing:
        added = (_records(turn, _ids(store, state, batches[turn][0])) for turn in missing)
        records = np.concatenate([records, *added])
        if not lock.is_held(directory):
            with contextlib.suppress(OSError):  # a run on a read-only disk can be asked, too
                files.write_atomic(directory / FILE, records.tobytes())
    return records


def _batches(state: RunState) -> dict[int, tuple[str, int]]:
    """Artifact and number of rows of each turn's batch; the human one once."""
    batches: dict[str, tuple[int, int]] = {}
    for generation in state.generations:
        if name := batch_of(generation):
            batches.setdefault(name, (generation.number, rows_of(generation)))
    return {turn: (name, rows) for name, (turn, rows) in batches.items()}


def _file(directory: Path) -> np.ndarray:
    import numpy as np

    try:
        data = (directory / FILE).read_bytes()
    except OSError:
        data = b""
    return np.frombuffer(data[: len(data) // _RECORD_BYTES * _RECORD_BYTES], _RECORD)


def _records(turn: int, ids: pa.ChunkedArray) -> np.ndarray:
    import numpy as np

    records = np.empty(len(ids), _RECORD)
    records["made_in"] = turn
    records["id"] = np.array(ids.to_pylist(), f"S{_WIDTH}")
    return records
