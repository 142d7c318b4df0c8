"""Seed: the human samples, the suites and the base weights, as artifacts."""

from __future__ import annotations

from flywheel.context import Context, Made
from flywheel.models import read_base


def seed(ctx: Context) -> Made:
    """Samples that people made, items to evaluate on, and weights to start from."""
    suites = {f"suite_{suite.name}": suite.items for suite in ctx.data.suites.values()}
    path = ctx.components.resolved["base"]
    base = {"base": read_base(path)} if path else {}
    facts = {"human": len(ctx.data.human), "held_out": ctx.data.held_out}
    return Made({"samples": ctx.data.human, **suites, **base}, facts)
