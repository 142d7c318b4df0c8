"""Seed: the human samples, suites and weights from elsewhere, as artifacts; labels: further human samples."""

from __future__ import annotations

import pyarrow as pa

from flywheel.runtime.context import Context, StageOutput
from flywheel.runtime.data import labelled, output_of
from flywheel.runtime.weights import read_base, weights_of_rivals
from flywheel.storage.events import LabelsFacts, SeedFacts
from flywheel.storage.store import Stored


def seed(ctx: Context) -> StageOutput:
    """Samples that people made, items to evaluate on, and weights to start from or of rivals.

    A genesis that is tried again uses those that the run has recorded.
    """
    recorded = {name: Stored(artifact) for name, artifact in ctx.data.recorded.items()}
    tables = {output_of(name): recorded.get(name, table) for name, table in ctx.data.tables.items()}
    path = ctx.components.resolved["base"]
    imported = {"base": read_base(path)} if path else {}
    rivals = weights_of_rivals(ctx.components.resolved)
    imported |= {f"rival_{name}": weights for name, weights in rivals.items()}
    facts = SeedFacts(human=len(ctx.data.human), held_out=ctx.data.held_out)
    return StageOutput({**tables, **imported}, facts)


def labels(ctx: Context) -> StageOutput:
    """The items of the suites that the stage sees, with what people gave to them, as human samples."""
    batches = {
        suite.name: labelled(ctx.components.task, suite, ctx.data.human) for suite in ctx.data.suites.values()
    }
    samples = pa.concat_tables(batches.values(), promote_options="permissive")
    by_suite = {name: len(batch) for name, batch in batches.items()}
    return StageOutput({"samples": samples}, LabelsFacts(human=len(samples), by_suite=by_suite))
