"""A few samples of a turn, kept and dropped, read without the rest of the batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flywheel.errors import DamagedError
from flywheel.lineage.record import Record
from flywheel.lineage.text import number_text
from flywheel.storage.ids import batch_of
from flywheel.storage.state import Generation
from flywheel.tables import RESERVED
from flywheel.views import View, Viewer

BY_COLUMNS = Viewer()

PER_SIDE = 3
"""Samples that are shown of a turn, of those kept and of those dropped."""
_READ = 512
"""Rows that are read to find them."""
_LONGEST = 600
"""Characters of a sample's text on the page."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample as the page shows it."""

    id: str
    kept: bool
    reason: str
    """The rule that decided, e.g. ``below threshold``."""
    scores: str
    """E.g. ``vote 0.67, length 12``; empty: it has none."""
    drawn: int
    """How often it was drawn for the corpus."""
    view: View


@dataclass(frozen=True, slots=True)
class Samples:
    """Some of what a turn brought."""

    kept: tuple[Sample, ...] = ()
    dropped: tuple[Sample, ...] = ()
    note: str = ""
    """Why there are none, e.g. that the batch was pruned."""


def samples_of(record: Record, generation: Generation, viewer: Viewer = BY_COLUMNS) -> Samples:
    """Some samples of a turn's batch, from all over its first rows."""
    batch, decisions = batch_of(generation), generation.output("curate", "decisions")
    if batch is None or generation.is_genesis:
        return Samples(note="" if generation.is_genesis else "It made no samples.")
    if decisions is None:
        return Samples(note="Nothing was decided on its samples.")
    if record.is_gone(batch) or record.is_gone(decisions):
        return Samples(note="They were pruned.")
    rows = _first_rows(record, batch)
    scores = generation.output("grade", "scores")
    if scores is not None and not record.is_gone(scores):
        rows = _beside(rows, _first_rows(record, scores))
    decided = _rows_of(record, decisions, rows["id"])
    rows = _beside(rows, decided).filter(pc.is_in(rows["id"], value_set=decided["id"].combine_chunks()))
    kept, dropped = (tuple(_sample(r, viewer) for r in _spread(rows, kept=kept)) for kept in (True, False))
    return Samples(kept, dropped)


def _first_rows(record: Record, name: str) -> pa.Table:
    """The first rows of a table; no others are decoded."""
    with record.store.open(name) as file:
        return _first(pq.ParquetFile(file), name)


def _first(file: pq.ParquetFile, name: str) -> pa.Table:
    try:
        batch = next(file.iter_batches(batch_size=_READ), None)
        return file.schema_arrow.empty_table() if batch is None else pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError) as error:
        raise DamagedError(f"Artifact {name} is not a Parquet file that can be read: {error}") from error


def _rows_of(record: Record, name: str, ids: pa.ChunkedArray) -> pa.Table:
    """The rows of these ids. They are looked for from the end: what a turn decides on ends with its batch."""
    wanted, parts = ids.combine_chunks(), []
    with record.store.open(name) as raw:
        file = pq.ParquetFile(raw)
        left = len(wanted)
        for group in reversed(range(file.metadata.num_row_groups)):
            found = pc.is_in(file.read_row_group(group, ["id"])["id"], value_set=wanted)
            count = pc.sum(found).as_py() or 0
            if count:
                parts.append(file.read_row_group(group).filter(found))
                left -= count
            if left <= 0:
                break
        return pa.concat_tables(parts) if parts else file.schema_arrow.empty_table()


def _beside(rows: pa.Table, answers: pa.Table) -> pa.Table:
    """Rows with the columns of the answers; null where an id has none."""
    places = pc.index_in(rows["id"], value_set=answers["id"].combine_chunks())
    for name in answers.column_names:
        if name not in rows.column_names:
            rows = rows.append_column(name, answers[name].take(places))
    return rows


def _spread(rows: pa.Table, *, kept: bool) -> Iterator[dict[str, Any]]:
    """A few rows that were kept, or dropped, from all over."""
    chosen = rows.filter(rows["keep"] if kept else pc.invert(rows["keep"]))
    step = max(1, len(chosen) // PER_SIDE)
    yield from chosen.take(pa.array(range(0, len(chosen), step)[:PER_SIDE], pa.int64())).to_pylist()


_DECIDED = ("keep", "reason", "weight", "count")


def _sample(row: dict[str, Any], viewer: Viewer) -> Sample:
    numbers = {
        name: value
        for name, value in row.items()
        if isinstance(value, float) and name not in RESERVED and name not in _DECIDED
    }
    scores = ", ".join(f"{name} {number_text(value)}" for name, value in numbers.items())
    payload = {name: value for name, value in row.items() if name not in (*numbers, *_DECIDED, "failure")}
    view = viewer(payload if viewer.task is None else row)
    if len(view.text) > _LONGEST and view.html is None:
        view = View(f"{view.text[:_LONGEST]}…", view.pictures, None, view.is_failed)
    drawn = int(row.get("count") or 0)
    return Sample(row["id"], bool(row["keep"]), str(row.get("reason") or ""), scores, drawn, view)
