"""Generate: the champion makes samples, chunk by chunk, on all ranks."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from flywheel import distributed
from flywheel.context import Context, Made
from flywheel.errors import DataError, StageFailed
from flywheel.lineage.state import Generation
from flywheel.lineage.store import Stored
from flywheel.tables import as_table, require, require_finite, with_provenance


def generate(ctx: Context, *, parent: Generation) -> Made:
    """The parent's answers to this generation's prompts, as samples with provenance.

    Prompts that a suite asks are left out: nobody is to learn from them.
    """
    import torch

    task = ctx.components.task
    prompts = task.prompts(ctx.generation, ctx.carry, ctx.key("prompts"))
    prompts, left_out = ctx.data.hold_out(require(as_table(prompts), "Prompts", unique="prompt"))
    if len(prompts) == 0:
        raise StageFailed("generate", f"all {left_out} prompts are items of suites: none is left to answer")
    model = ctx.load_model(str(parent.weights), parent.settings)
    size = ctx.components.resolved["chunk_size"]
    count = -(-len(prompts) // size)

    def make(chunk: int) -> pa.Table:
        key = ctx.key("chunk", chunk)
        key.seed_globals()
        with torch.inference_mode():
            made = task.generate(model, prompts.slice(chunk * size, size), ctx.settings, key)
        ctx.tell(min((chunk + 1) * size, len(prompts)), len(prompts), "")
        rows = with_provenance(
            as_table(made),
            own=("prompt", "group"),
            origin="generated",
            source=parent.weights,
            generation=ctx.generation,
            key=key.seed,
        )
        _check_types(rows, ctx.data.human)
        return require_finite(rows, "Samples")

    return _recorded(ctx, distributed.stream_chunks(count, make, ctx.stop.check), left_out)


def _recorded(ctx: Context, chunks: Iterator[pa.Table], left_out: int | None) -> Made:
    """The chunks as one artifact, stored as they come: a batch need not fit into memory."""
    if distributed.rank() != 0:
        for _ in chunks:
            pass
        return Made()
    failure: Exception | None = None
    with ctx.store.table_writer() as writer:
        for rows in chunks:
            try:
                if failure is None:
                    writer.write(rows)
            except Exception as error:
                if distributed.world_size() == 1:
                    raise
                failure = error  # the other ranks still make chunks together with this one
        if failure is not None:
            raise failure
        if writer.rows == 0:
            raise StageFailed("generate", "the champion made no samples")
    return Made({"samples": Stored(writer.name)}, {"made": writer.rows, "left_out": left_out})


def _check_types(samples: pa.Table, human: pa.Table) -> None:
    for name in set(samples.column_names) & set(human.column_names):
        ours, theirs = samples.schema.field(name).type, human.schema.field(name).type
        if not (ours == theirs or (pa.types.is_integer(ours) and pa.types.is_integer(theirs))):
            raise DataError(f"Generated rows must have the seed's types: {name} is {ours}, not {theirs}.")
