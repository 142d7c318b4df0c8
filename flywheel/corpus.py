"""A corpus as rows: batches of samples with their scores, and the choice made from them."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from flywheel.lineage.sources import Source
from flywheel.lineage.store import Store


def read(store: Store, sources: Sequence[Source]) -> pa.Table:
    """All rows of the sources, samples beside their scores; columns that a batch lacks are null."""
    return pa.concat_tables([_read_one(store, source) for source in sources], promote_options="permissive")


def read_corpus(store: Store, corpus: str, sources: Sequence[Source]) -> pa.Table:
    """The rows of a corpus, in its order, with their ``weight`` and ``count``."""
    rows, chosen = read(store, sources), store.table(corpus)
    where = pc.index_in(chosen["id"], value_set=rows["id"])
    taken = rows.take(where)
    return taken.append_column("weight", chosen["weight"]).append_column("count", chosen["count"])


def beside(samples: pa.Table, answers: pa.Table) -> pa.Table:
    """Samples with the columns of a table that says more of each, by ``id``: scores, decisions."""
    if not answers["id"].equals(samples["id"]):
        answers = answers.take(pc.index_in(samples["id"], value_set=answers["id"]))
    for name in answers.column_names:
        if name != "id":
            samples = samples.append_column(name, answers[name])
    return samples


def _read_one(store: Store, source: Source) -> pa.Table:
    samples, scores = source
    table = store.table(str(samples))
    return table if scores is None else beside(table, store.table(scores))
