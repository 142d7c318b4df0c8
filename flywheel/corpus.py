"""A corpus as rows: batches of samples with their scores, and the choice made from them."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from flywheel.lineage.state import Generation
from flywheel.lineage.store import Store

Source = Sequence[str | None]
"""Artifacts of one batch: its samples, and its scores or None."""


def sources_of(store: Store, generation: Generation) -> list[Source]:
    """The batches that a generation's corpus drew from; none before it has a corpus."""
    name = generation.output("curate", "sources")
    return list(store.json(name)) if name else []


def read(store: Store, sources: Sequence[Source]) -> pa.Table:
    """All rows of the sources, samples beside their scores; columns that a batch lacks are null."""
    return pa.concat_tables([_read_one(store, source) for source in sources], promote_options="permissive")


def read_corpus(store: Store, corpus: str, sources: Sequence[Source]) -> pa.Table:
    """The rows of a corpus, in its order, with their ``weight`` and ``count``."""
    rows, chosen = read(store, sources), store.table(corpus)
    where = pc.index_in(chosen["id"], value_set=rows["id"])
    taken = rows.take(where)
    return taken.append_column("weight", chosen["weight"]).append_column("count", chosen["count"])


def _read_one(store: Store, source: Source) -> pa.Table:
    samples, scores = source
    table = store.table(str(samples))
    if scores is not None:
        graded = store.table(scores)
        for name in graded.column_names[1:]:
            table = table.append_column(name, graded[name])
    return table
