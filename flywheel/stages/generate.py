"""Generate: the champion makes samples, chunk by chunk, on all ranks."""

from __future__ import annotations

import pyarrow as pa

from flywheel import distributed
from flywheel.context import Context, Made
from flywheel.errors import DataError, StageFailed
from flywheel.lineage.state import Generation
from flywheel.tables import as_table, require, require_finite, with_provenance


def generate(ctx: Context, *, parent: Generation) -> Made:
    """The parent's answers to this generation's prompts, as samples with provenance."""
    import torch

    task = ctx.components.task
    prompts = task.prompts(ctx.generation, ctx.carry, ctx.key("prompts"))
    prompts = require(as_table(prompts), "Prompts", unique="prompt")
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

    chunks = distributed.in_chunks(count, make, ctx.stop.check)
    if chunks is None:
        return Made()
    samples = pa.concat_tables(chunks)
    if len(samples) == 0:
        raise StageFailed("generate", "the champion made no samples")
    return Made({"samples": samples}, {"made": len(samples)})


def _check_types(samples: pa.Table, human: pa.Table) -> None:
    for name in set(samples.column_names) & set(human.column_names):
        ours, theirs = samples.schema.field(name).type, human.schema.field(name).type
        if not (ours == theirs or (pa.types.is_integer(ours) and pa.types.is_integer(theirs))):
            raise DataError(f"Generated rows must have the seed's types: {name} is {ours}, not {theirs}.")
