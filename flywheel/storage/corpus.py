"""A corpus as rows: batches of samples with their scores, and the choice made from them.

The choice is a table with ``id``, ``weight`` and ``count``, or a list of parts of such tables, where a
curator decides batch by batch: a part that has not changed since an earlier turn is not written again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import nullcontext

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from flywheel.errors import DamagedError, DataError
from flywheel.storage.sources import Source
from flywheel.storage.store import Store
from flywheel.tables import AUDITED


def read(store: Store, sources: Sequence[Source]) -> pa.Table:
    """All rows of the sources, samples beside their scores; columns that a batch lacks are null.

    Where any batch was audited there is a column ``audited``: what the trusted grader said, .5 or more where
    a row is right; null for rows that were not audited.

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


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What is drawn of one batch: rows of a table with ``id``, ``weight`` and ``count``."""

    table: str
    """The artifact that has them."""
    first: int
    rows: int
    draws: int
    """A row counts as often as it is drawn."""
    origin: str
    """``human`` or ``generated``."""
    digest: str
    """Of ids, weights and counts: see ``docs/format.md``."""


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """A batch that was decided on: what is drawn of it, before human rows are drawn more often."""

    source: tuple[str | None, ...]
    """Its samples, scores and audits."""
    part: Part
    kept: int
    """Rows that were kept, also those that are not drawn."""
    reasons: dict[str, int]
    """Rows by the reason of the decision."""
    leaked: int


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """How far a curator that decides batch by batch has come; a later turn may go on from there."""

    curator: str | None
    """Fingerprint of its arguments and code; None: not known."""
    recalled: str | None
    """The artifact of the samples that it was not shown."""
    types: dict[str, str]
    """Of the columns by which rows are compared."""
    decided: tuple[Decided, ...]
    keys: tuple[str, ...]
    """Artifacts of the keys of all rows that were kept, see ``tables.row_keys``."""


def read_stream(store: Store, name: str) -> Stream:
    """How far a curator had come. Raises DamagedError if the artifact is not of this kind."""
    try:
        return msgspec.convert(store.json(name), Stream)
    except msgspec.ValidationError as error:
        raise DamagedError(f"Artifact {name} does not say how far a curator has come: {error}") from error


def is_in_parts(corpus: str) -> bool:
    """Whether a corpus is a list of parts, as it is of a curator that decides in a stream."""
    return corpus.endswith(".json")


def parts_of(store: Store, corpus: str) -> tuple[Part, ...]:
    """The parts of a corpus that is a list of them. Raises DamagedError if it is none."""
    try:
        return msgspec.convert(store.json(corpus), tuple[Part, ...])
    except msgspec.ValidationError as error:
        raise DamagedError(f"Artifact {corpus} is not a corpus: {error}") from error


def read_chosen(store: Store, corpus: str) -> pa.Table:
    """The ``id``, ``weight`` and ``count`` of each row of a corpus, in its order."""
    if not is_in_parts(corpus):
        return store.table(corpus)
    parts = [store.table(part.table).slice(part.first, part.rows) for part in parts_of(store, corpus)]
    return pa.concat_tables(parts)


def stream(store: Store, source: Source, columns: Collection[str], rows: int) -> Iterator[pa.Table]:
    """A batch's rows, so many at a time: ``id``, ``origin`` and the columns of these that it has.

    Raises DataError if its scores are not in the order of its samples.
    """
    samples, scores, audits = source
    wanted = {"id", "origin", *columns}
    audited = store.table(audits) if audits is not None and AUDITED in columns else None
    with (
        store.rows(str(samples), wanted) as batch,
        store.rows(scores, wanted) if scores is not None else nullcontext() as graded,
    ):
        step = min(rows, batch.step)
        while len(piece := batch.read(step)):
            if graded is not None:
                answers = graded.read(len(piece))
                if not answers["id"].equals(piece["id"]):
                    raise DataError(
                        f"Scores must be in the order of their samples; those of {samples} are not."
                    )
                piece = beside(piece, answers)
            yield piece if audited is None else _audited(piece, audited)


def read_corpus(store: Store, corpus: str, sources: Sequence[Source]) -> pa.Table:
    """The rows of a corpus, in its order, with their ``weight`` and ``count``."""
    rows, chosen = read(store, sources), read_chosen(store, corpus)
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
