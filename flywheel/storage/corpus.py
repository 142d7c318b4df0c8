"""A corpus as rows: batches of samples with their scores, and the choice made from them."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from flywheel.errors import DataError
from flywheel.storage.sources import Source
from flywheel.storage.store import Store
from flywheel.tables import AUDITED


def read(store: Store, sources: Sequence[Source]) -> pa.Table:
    """All rows of the sources, samples beside their scores; columns that a batch lacks are null.

    Where any batch was audited there is a column ``audited``: what the trusted grader said, 1 for right and 0
    for wrong; null for rows that were not audited.

    Raises DataError if a sample occurs twice, or batches have columns of one name and types that do not meet.
    """
    batches = []
    for samples, scores, audits in sources:
        batch = store.table(str(samples))
        batch = batch if scores is None else beside(batch, store.table(scores))
        batches.append(batch if audits is None else _audited(batch, store.table(audits)))
    try:
        rows = pa.concat_tables(batches, promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(
            f"A column must have types that go together in all batches: {_types_that_differ(batches)}."
        ) from error
    twice = len(rows) - pc.count_distinct(rows["id"]).as_py()
    if twice:
        raise DataError(
            f"A corpus has each sample once; {twice} ids occur again among its {len(sources)} batches."
        )
    return rows


def _audited(batch: pa.Table, audits: pa.Table) -> pa.Table:
    where = pc.index_in(batch["id"], value_set=audits["id"])
    return batch.append_column(AUDITED, audits["trusted"].take(where))


def _types_that_differ(batches: Sequence[pa.Table]) -> str:
    types: dict[str, dict[str, None]] = {}
    for batch in batches:
        for field in batch.schema:
            types.setdefault(field.name, {})[str(field.type)] = None
    return "; ".join(f"{name!r} is {' and '.join(kinds)}" for name, kinds in types.items() if len(kinds) > 1)


def read_corpus(store: Store, corpus: str, sources: Sequence[Source]) -> pa.Table:
    """The rows of a corpus, in its order, with their ``weight`` and ``count``."""
    rows, chosen = read(store, sources), store.table(corpus)
    where = pc.index_in(chosen["id"], value_set=rows["id"])
    return rows.take(where).append_column("weight", chosen["weight"]).append_column("count", chosen["count"])


def beside(samples: pa.Table, answers: pa.Table) -> pa.Table:
    """Samples with the columns of a table that says more of each, by ``id``: scores, decisions."""
    if not answers["id"].equals(samples["id"]):
        answers = answers.take(pc.index_in(samples["id"], value_set=answers["id"]))
    for name in answers.column_names:
        if name != "id":
            samples = samples.append_column(name, answers[name])
    return samples
