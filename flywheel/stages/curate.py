"""Curate: decide which samples the candidate trains on, how often and with what weight."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from flywheel.context import Context, Made, carried
from flywheel.corpus import Source, read
from flywheel.errors import StageFailed
from flywheel.lineage.store import Store
from flywheel.tables import DECISIONS, as_table, digest


def curate(ctx: Context, *, sources: Sequence[Source]) -> Made:
    """Decisions on every sample of the sources, and the corpus that follows from them.

    ``sources`` run from the human samples over earlier generations' to the newest.
    """
    curator = ctx.components.build("curator", ctx.settings)
    samples = read(ctx.store, sources)
    decisions, carry = curator.curate(samples, ctx.carry.get("curator", {}))
    decisions = as_table(decisions).select(DECISIONS.names).cast(DECISIONS)
    if len(decisions) != len(samples):
        raise ValueError(f"a curator must decide on every sample: {len(samples)}, not {len(decisions)}")
    kept = samples.append_column("keep", decisions["keep"]).filter(decisions["keep"])
    corpus = decisions.filter(decisions["keep"]).select(["id", "weight", "count"])
    if len(corpus) == 0:
        raise StageFailed("curate", "the corpus is empty: no sample was kept")
    used = [source for source in sources if _contributes(ctx.store, source, corpus["id"])]
    facts = {
        "corpus": digest(corpus["id"], corpus["count"]),
        "sources": [list(source) for source in used],
        "rows": len(corpus),
        "by_origin": _counts(kept["origin"]),
        "by_reason": _counts(decisions["reason"]),
    }
    made = carried(curator, carry)
    return Made({"decisions": decisions, "corpus": corpus, **made.outputs}, {**facts, **made.facts})


def _contributes(store: Store, source: Source, ids: pa.ChunkedArray) -> bool:
    return bool(pc.any(pc.is_in(store.table(str(source[0]))["id"], value_set=ids.combine_chunks())).as_py())


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {str(entry["values"]): entry["counts"] for entry in pc.value_counts(column).to_pylist()}
