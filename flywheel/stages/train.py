"""Train: the candidate, by one Lightning fit from its start on the corpus."""

from __future__ import annotations

from flywheel.curves import Curve
from flywheel.records import Start
from flywheel.runtime.context import Context, StageOutput
from flywheel.runtime.fit import check_loads, fit
from flywheel.runtime.weights import load_weights, take_weights
from flywheel.storage.corpus import read_corpus
from flywheel.storage.events import TrainFacts
from flywheel.storage.sources import read_sources


def train(ctx: Context, *, corpus: str, sources: str, start: Start, share: float = 1.0) -> StageOutput:
    """The candidate's weights and training curve: a fit on the corpus from a start.

    ``share``: of the configured steps or epochs, those that are left where the start is a trial's; 0: none.
    """
    if share == 0:
        return adopt(ctx, start=start)
    rows = read_corpus(ctx.store, corpus, read_sources(ctx.store, sources))
    curve = Curve()
    done = fit(ctx, ctx.settings, ctx.key("fit"), rows, start.weights, fidelity=share, curve=curve)
    facts = TrainFacts(
        start=start,
        settings=ctx.settings,
        steps=done.steps,
        loss=done.loss,
        best=done.best,
        share=share,
        flops=done.flops,
    )
    weights = check_loads(ctx, ctx.settings, take_weights(done.model))
    return StageOutput({"weights": weights, "curve": curve.table()}, facts)


def adopt(ctx: Context, *, start: Start) -> StageOutput:
    """The start as the candidate, without a step: imported weights, or fresh ones."""
    ctx.key("fit").seed_globals()
    model = ctx.components.model(ctx.settings)
    if start.weights is not None:
        load_weights(model, ctx.store.weights(start.weights))
    facts = TrainFacts(start=start, settings=ctx.settings, steps=0, loss=None, share=0.0)
    return StageOutput({"weights": take_weights(model)}, facts)
