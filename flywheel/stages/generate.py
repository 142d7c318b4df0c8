"""Generate: the champion makes samples, chunk by chunk, on all ranks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from flywheel import ranks
from flywheel.errors import DataError, StageFailed
from flywheel.keys import Key
from flywheel.records import Carry
from flywheel.runtime.context import Context, StageOutput
from flywheel.runtime.weights import without_gradients
from flywheel.storage.parquet import GROUP_BYTES, GROUP_ROWS
from flywheel.storage.state import Generation
from flywheel.storage.store import Stored
from flywheel.tables import PROVENANCE, as_table, require, require_finite, with_provenance
from flywheel.tables.digests import sketch
from flywheel.tables.types import is_known, matched, stored


def generate(ctx: Context, *, parent: Generation) -> StageOutput:
    """The parent's answers to this generation's prompts, as samples with provenance.

    Prompts that a suite asks are left out: nobody is to learn from them.
    """
    task = ctx.components.task
    drawn = draw_prompts(task, ctx.generation, ctx.carry, ctx.key)
    prompts, left_out = ctx.data.hold_out(drawn)
    if len(prompts) == 0:
        raise StageFailed("generate", f"all {left_out} prompts are items of suites: none is left to answer")
    model = ctx.load_model(str(parent.weights), parent.settings)
    size = ctx.components.resolved["chunk_size"]
    count = -(-len(prompts) // size)

    def make(chunk: int) -> pa.Table:
        key = ctx.key("chunk", chunk)
        key.seed_globals()
        with without_gradients(ctx.components.resolved["trainer"]):
            made = task.generate(model, prompts.slice(chunk * size, size), ctx.settings, key)
        ctx.report_progress(min((chunk + 1) * size, len(prompts)), len(prompts), "")
        return stored(as_table(made), f"Samples of chunk {chunk}")

    facts = {"left_out": left_out, "prompts": sketch(drawn)}
    return _recorded(ctx, parent, ranks.stream_chunks(count, make, ctx.stop.check), facts)


def draw_prompts(task: Any, generation: int, carry: Mapping[str, Carry], key: Key) -> pa.Table:
    """The prompts of a generation; ``key``: that of its stage ``generate``."""
    key.seed_globals()
    prompts = as_table(task.prompts(generation, carry, key("prompts")))
    return require(stored(prompts, "Prompts"), "Prompts", unique="prompt")


def _recorded(
    ctx: Context, parent: Generation, chunks: Iterator[pa.Table], facts: dict[str, Any]
) -> StageOutput:
    """The chunks as one artifact, stored as they come: a batch need not fit into memory."""
    if ranks.rank() != 0:
        for _ in chunks:
            pass
        return StageOutput()
    failure: Exception | None = None
    samples = _Samples(ctx, parent)
    with ctx.store.table_writer() as writer:
        for chunk, rows in enumerate(chunks):
            try:
                for part in samples.of(chunk, rows) if failure is None else ():
                    writer.write(part)
            except Exception as error:
                if ranks.world_size() == 1:
                    raise
                failure = error  # the other ranks still make chunks together with this one
        if failure is not None:
            raise failure
        for part in samples.rest():
            writer.write(part)
        if writer.rows == 0:
            raise StageFailed("generate", "the champion made no samples")
    return StageOutput({"samples": Stored(writer.name)}, {"made": writer.rows, **facts})


class _Samples:
    """Makes samples of what ``generate`` returned, chunk after chunk, all with the same columns and types.

    The types are those of the seed samples; of a column that those lack, those of the first chunk that says
    one: while all have only nulls or empty lists there, chunks wait, up to a row group of them.
    """

    def __init__(self, ctx: Context, parent: Generation) -> None:
        self._ctx, self._parent = ctx, parent
        self._types = _known_types(ctx.data.human)
        self._names: list[str] = []
        self._waiting: list[tuple[int, pa.Table]] = []
        self._rows = self._bytes = 0

    def of(self, chunk: int, rows: pa.Table) -> list[pa.Table]:
        """The samples that are ready now that ``rows`` of this chunk are here.

        Raises DataError if a column's type cannot become that of the others without loss, or the columns are
        not those of the first chunk.
        """
        if len(rows) == 0:  # nothing says what its columns would be
            return []
        names = self._names = self._names or rows.column_names
        if sorted(names) != sorted(rows.column_names):
            raise DataError(
                f"Every chunk must have the same columns; chunk {chunk} has {rows.column_names}, those "
                f"before it {names}."
            )
        self._types = _known_types(rows) | self._types
        self._waiting.append((chunk, rows.select(names)))
        self._rows, self._bytes = self._rows + len(rows), self._bytes + rows.nbytes
        is_full = self._rows >= GROUP_ROWS or self._bytes >= GROUP_BYTES
        return self.rest() if is_full or _own(rows).keys() <= self._types.keys() else []

    def rest(self) -> list[pa.Table]:
        """The samples of all chunks that still wait."""
        unknown: dict[str, pa.DataType] = {}
        for _, rows in self._waiting:
            nulls = {name for name, kind in unknown.items() if pa.types.is_null(kind)}
            unknown |= {
                name: kind for name, kind in _own(rows).items() if name in nulls or name not in unknown
            }
        self._types = unknown | self._types
        ready, self._waiting, self._rows, self._bytes = self._waiting, [], 0, 0
        return [self._samples(chunk, rows) for chunk, rows in ready]

    def _samples(self, chunk: int, rows: pa.Table) -> pa.Table:
        samples = with_provenance(
            matched(rows, self._types, f"chunk {chunk}"),
            own=("prompt", "group"),
            origin="generated",
            made_in=self._ctx.generation,
            made_by=self._parent.weights,
            key=self._ctx.key("chunk", chunk).seed,
        )
        return require_finite(samples, f"Samples of chunk {chunk}")


def _own(rows: pa.Table) -> dict[str, pa.DataType]:
    """The types of the recipe's own columns."""
    return {field.name: field.type for field in rows.schema if field.name not in PROVENANCE.names}


def _known_types(rows: pa.Table) -> dict[str, pa.DataType]:
    """Of the recipe's own columns, those whose types say what their values are."""
    return {name: kind for name, kind in _own(rows).items() if is_known(kind)}
