"""Scoring a model on a suite, item by item, in chunks shared among the ranks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from flywheel import ranks
from flywheel.errors import StageFailed
from flywheel.keys import Key
from flywheel.metrics.intervals import mean_interval, reach
from flywheel.records import Json, Role, Suite
from flywheel.runtime.context import Context
from flywheel.runtime.weights import without_gradients

if TYPE_CHECKING:
    import lightning

_ROUNDING = 1e-6
"""What a mean of 32-bit floats may be above 1, or below 0; of coarser floats it may be one step of theirs."""


def score_items(
    ctx: Context, model: lightning.LightningModule, rival: object, suite: Suite, key: Key
) -> pa.Table | None:
    """Columns ``item``, ``cluster``, ``score`` of a suite's items, on rank 0; None elsewhere."""
    size, items = ctx.components.resolved["chunk_size"], with_clusters(suite.items)

    def score(chunk: int) -> pa.Table:
        part = items.slice(chunk * size, size)
        trainer = ctx.components.resolved["trainer"]
        scored = score_chunk(ctx.components.task, model, rival, part, key("chunk", chunk), trainer)
        ctx.report_progress(min((chunk + 1) * size, len(items)), len(items), suite.name)
        return scored

    chunks = ranks.in_chunks(-(-len(items) // size), score, ctx.stop.check)
    return None if chunks is None else pa.concat_tables(chunks)


def with_clusters(items: pa.Table) -> pa.Table:
    """The items; each a cluster of its own where nothing else is said."""
    return items if "cluster" in items.column_names else items.append_column("cluster", items["item"])


def score_chunk(
    task: Any,
    model: lightning.LightningModule,
    rival: object,
    items: pa.Table,
    key: Key,
    trainer: Mapping[str, Any],
) -> pa.Table:
    """Columns ``item``, ``cluster``, ``score`` of a chunk of items. Raises ValueError for bad scores.

    ``trainer``: the configured section; see ``without_gradients``.
    """
    key.seed_globals()
    with without_gradients(trainer):
        scores, step = _numbers(task.evaluate(model, rival, items, key))
    if scores.shape != (len(items),):
        raise ValueError(f"evaluate() must score every item: {len(items)} items, shape {scores.shape}")
    bad = np.flatnonzero(~((scores >= -step) & (scores <= 1 + step)))
    if len(bad):
        raise ValueError(
            f"scores must lie in [0, 1]; {len(bad)} of {len(scores)} do not, the first is "
            f"{scores[bad[0]]:g}, of item {str(items['item'][bad[0]])!r}"
        )
    scores = scores.clip(0, 1) + 0.0  # no -0.0
    return pa.table({"item": items["item"], "cluster": items["cluster"], "score": pa.array(scores)})


def _numbers(scores: Any) -> tuple[np.ndarray, float]:
    """Scores as 64-bit floats, NaN where there is none, and by how much rounding may have moved them."""
    if str(getattr(scores, "dtype", "")) == "torch.bfloat16":  # NumPy has no such type
        return scores.double().numpy(force=True), 2.0**-7
    if isinstance(scores, np.ma.MaskedArray):
        scores = np.ma.filled(scores.astype(float), np.nan)
    raw = np.asarray(scores)
    if raw.dtype.kind not in "biufO":
        raise ValueError(f"scores must be numbers; evaluate() gave {raw.dtype}")
    step = float(np.finfo(raw.dtype).eps) if raw.dtype.kind == "f" else 0.0
    return np.asarray(scores, float), max(step, _ROUNDING)


def score_mean(ctx: Context, model: lightning.LightningModule, rival: object, role: Role, key: Key) -> float:
    """Mean score over all items of the suites with this role; duels only with a rival."""
    model.eval()
    suites = [s for s in ctx.data.suites.values() if s.role == role and (rival or not s.duel)]
    if not suites:
        raise StageFailed("tune", f"attempts are scored on {role} suites, and the task has none to use")
    tables = [score_items(ctx, model, rival if s.duel else None, s, key(s.name)) for s in suites]
    return ranks.from_rank_0(
        lambda: float(np.mean(np.concatenate([t["score"].to_numpy() for t in tables if t is not None])))
    )


def metrics(outcomes: pa.Table, suites: Mapping[str, Suite]) -> dict[str, dict[str, Json]]:
    """{suite: {metric: {value, low, high}}}: mean score with its 95% interval, clusters respected.

    Where a suite has a ladder, also how far the model gets: an interval whose ``unit`` is "level".
    """
    found: dict[str, dict[str, Json]] = {}
    names = outcomes["suite"].to_numpy()
    for suite in suites.values():
        own = outcomes.filter(names == suite.name)
        if len(own) == 0:
            continue
        scores = own["score"].to_numpy()
        clusters = own["cluster"].to_numpy()
        found[suite.name] = {suite.metric: mean_interval(scores, clusters).json()}
        if suite.reach:
            levels = suite.items[suite.reach.level].to_numpy()
            far = reach(scores, levels, suite.reach.share, clusters)
            found[suite.name][suite.reach.metric] = {**far.json(), "unit": "level"}
    return found
