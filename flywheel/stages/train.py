"""Train: the candidate, by one Lightning fit from the init weights on the corpus."""

from __future__ import annotations

from flywheel.context import Context, Made
from flywheel.corpus import Source, read_corpus
from flywheel.fit import fit
from flywheel.models import load_weights, take_weights


def train(
    ctx: Context,
    *,
    corpus: str,
    sources: list[Source],
    starts: dict[str, str | None],
    init: str,
    adopt: bool = False,
) -> Made:
    """The candidate's weights: a fit on the corpus from the weights ``starts[init]`` (None: fresh).

    ``adopt``: take the start as it is, without a step; it must fit the model.
    """
    start = starts[init]
    if adopt and start is not None:
        model = ctx.components.model(ctx.settings)
        load_weights(model, ctx.store.weights(start))
        return Made({"weights": take_weights(model)}, {"init": init, "steps": 0, "loss": None})
    done = fit(ctx, ctx.settings, ctx.key("fit"), read_corpus(ctx.store, corpus, sources), start)
    return Made({"weights": take_weights(done.model)}, {"init": init, "steps": done.steps, "loss": done.loss})
