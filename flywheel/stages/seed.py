"""Seed: the human samples, the suites and the base weights, as artifacts."""

from __future__ import annotations

from flywheel.runtime.context import Context, StageOutput
from flywheel.runtime.data import output_of
from flywheel.runtime.weights import read_base
from flywheel.storage.events import SeedFacts
from flywheel.storage.store import Stored


def seed(ctx: Context) -> StageOutput:
    """Samples that people made, items to evaluate on, and weights to start from.

    A genesis that is tried again uses those that the run has recorded.
    """
    recorded = {name: Stored(artifact) for name, artifact in ctx.data.recorded.items()}
    tables = {output_of(name): recorded.get(name, table) for name, table in ctx.data.tables.items()}
    path = ctx.components.resolved["base"]
    base = {"base": read_base(path)} if path else {}
    facts = SeedFacts(human=len(ctx.data.human), held_out=ctx.data.held_out)
    return StageOutput({**tables, **base}, facts)
