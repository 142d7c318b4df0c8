"""Evaluate: outcomes of a model on suites, item by item, never just a mean."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from flywheel import ranks
from flywheel.records import Role, Suite
from flywheel.runtime.context import Context, StageOutput
from flywheel.runtime.scoring import metrics, score_suites
from flywheel.storage.state import Generation
from flywheel.tables import OUTCOMES, constant

OPEN_ROLES = (Role.DEV, Role.GATE, Role.GUARD)


def evaluate(ctx: Context, *, weights: str, opponent: Generation | None) -> StageOutput:
    """The candidate's outcomes on all but the sealed suites; duels are against the champion."""
    return outcomes_on(ctx, weights, opponent, [s for s in ctx.data.suites.values() if s.role in OPEN_ROLES])


def sealed(ctx: Context, *, weights: str, opponent: Generation | None) -> StageOutput:
    """The champion's outcomes on the sealed suites; duels are against the first champion."""
    return outcomes_on(ctx, weights, opponent, [s for s in ctx.data.suites.values() if s.role == Role.SEALED])


def outcomes_on(
    ctx: Context, weights: str, opponent: Generation | None, suites: Iterable[Suite]
) -> StageOutput:
    """Outcomes on these suites, and their means with intervals."""
    model = ctx.load_model(weights, ctx.settings)
    rival = ctx.load_model(str(opponent.weights), opponent.settings) if opponent else None
    chosen = [suite for suite in suites if rival is not None or not suite.duel]
    named = {
        "weights": weights,
        "opponent": opponent and opponent.weights,
        "suites": [s.name for s in chosen],
    }
    scored, units = score_suites(ctx, model, rival, chosen, ctx.key, named)
    if ranks.rank() != 0:
        return StageOutput()
    tables = [
        _outcomes(rows, suite, weights, opponent.weights if suite.duel and opponent else None)
        for suite, rows in zip(chosen, scored, strict=True)
    ]
    outcomes = pa.concat_tables(tables) if tables else OUTCOMES.empty_table()
    facts = {"metrics": metrics(outcomes, ctx.data.suites), **units.facts}
    return StageOutput({"outcomes": outcomes}, facts, units.cost)


def _outcomes(scored: pa.Table, suite: Suite, subject: str, opponent: str | None) -> pa.Table:
    columns = {
        "suite": constant(suite.name, pa.string(), len(scored)),
        "item": scored["item"],
        "cluster": scored["cluster"],
        "subject": constant(subject, pa.string(), len(scored)),
        "opponent": constant(opponent, pa.string(), len(scored)),
        "score": scored["score"],
    }
    return pa.table(columns).cast(OUTCOMES)
