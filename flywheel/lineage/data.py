"""The corpus that a generation was given to train on, counted by origin."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from flywheel.lineage.record import Record
from flywheel.lineage.status import bare
from flywheel.storage.sources import drawn_of
from flywheel.storage.state import Generation

_FROM = ("origin", "made_in", "made_by", "source")


def corpus_of(record: Record, generation: Generation) -> pa.Table | None:
    """Columns ``id``, ``weight`` and ``count``; None if it has none."""
    return record.table(generation.output("curate", "corpus"))


def by_origin(record: Record, generation: Generation) -> list[dict[str, Any]]:
    """Rows and draws of a corpus by origin.

    ``made_in`` is the generation in whose turn the rows were made, ``made_by`` the weights that made them
    and ``made_by_generation`` the number of these (both null for human rows), ``source`` is where human
    rows come from. ``drawn`` counts a row as often as it was drawn for the corpus; a fit of more or fewer
    steps than the corpus has batches saw it more or less often.
    """
    corpus = corpus_of(record, generation)
    if corpus is None:
        return []
    batches = [record.table(samples) for samples in drawn_of(record.store, generation)]
    known = [batch.select(["id", *_FROM]) for batch in batches if batch is not None]
    if not known:
        return []
    origins = pa.concat_tables(known, promote_options="permissive")
    rows = corpus.join(origins, "id", join_type="left outer")
    counted = rows.group_by(list(_FROM)).aggregate([("count", "count"), ("count", "sum")])
    counted = counted.sort_by([(name, "ascending") for name in ("made_in", "origin", "source")])
    return [_entry(record, row) for row in counted.to_pylist()]


def _entry(record: Record, row: dict[str, Any]) -> dict[str, Any]:
    maker = record.state.generations[row["made_in"]].parent if row["made_by"] else None
    return {
        "origin": row["origin"],
        "made_in": row["made_in"],
        "made_by": bare(row["made_by"]),
        "made_by_generation": maker,
        "source": row["source"],
        "rows": row["count_count"],
        "drawn": row["count_sum"],
    }
