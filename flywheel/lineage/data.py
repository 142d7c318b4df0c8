"""The corpus that a generation was given to train on, counted by origin."""

from __future__ import annotations

import pyarrow as pa

from flywheel.lineage.record import Record
from flywheel.lineage.status import bare
from flywheel.records import Answer
from flywheel.storage.sources import drawn_of
from flywheel.storage.state import Generation

_FROM = ("origin", "made_in", "made_by", "source")


def corpus_of(record: Record, generation: Generation) -> pa.Table | None:
    """Columns ``id``, ``weight`` and ``count``; None if it has none."""
    return record.table(generation.output("curate", "corpus"))


class DataShare(Answer, frozen=True):
    """Rows of a corpus that have one origin."""

    origin: str
    """``human`` or ``generated``."""
    made_in: int
    """The generation in whose turn they were made; 0 for human rows."""
    made_by: str | None
    """SHA-256 of the weights that made them; None: people did."""
    made_by_generation: int | None
    """The generation with these weights; None: people made them, or weights from elsewhere did."""
    source: str | None
    """Where human rows come from."""
    rows: int
    drawn: int
    """A row counts as often as it was drawn for the corpus. A fit of more or fewer steps than the corpus has
    batches saw it more or less often."""
    rival: str | None = None
    """Its name, if it was a rival that made them, and not the parent."""


def by_origin(record: Record, generation: Generation) -> tuple[DataShare, ...]:
    """Rows and draws of a corpus by origin; none if what they came from was pruned, or without a corpus."""
    corpus = corpus_of(record, generation)
    if corpus is None:
        return ()
    batches = [record.table(samples) for samples in drawn_of(record.store, generation)]
    known = [batch.select(["id", *_FROM]) for batch in batches if batch is not None]
    if not known:
        return ()
    origins = pa.concat_tables(known, promote_options="permissive")
    rows = corpus.join(origins, "id", join_type="left outer")
    counted = rows.group_by(list(_FROM)).aggregate([("count", "count"), ("count", "sum")])
    counted = counted.sort_by([(name, "ascending") for name in ("made_in", "origin", "source", "made_by")])
    return tuple(_share(record, **row) for row in counted.to_pylist())


def _share(
    record: Record,
    *,
    origin: str,
    made_in: int,
    made_by: str | None,
    source: str | None,
    count_count: int,
    count_sum: int,
) -> DataShare:
    turn = record.state.generations[made_in]
    maker = record.state.makers_of(turn).get(made_by) if made_by else None
    rival = next((name for name, one in turn.rivals.items() if one.weights == made_by), None)
    return DataShare(origin, made_in, bare(made_by), maker, source, count_count, count_sum, rival)
