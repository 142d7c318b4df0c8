"""Evaluate: outcomes of a model on suites, item by item, never just a mean."""

from __future__ import annotations

import pyarrow as pa

from flywheel import ranks
from flywheel.records import Suite
from flywheel.runtime.context import Context, StageOutput
from flywheel.runtime.scoring import metrics, score_suites
from flywheel.storage.events import EvaluateFacts
from flywheel.storage.state import Generation
from flywheel.tables import OUTCOMES, constant


def evaluate(ctx: Context, *, weights: str, opponent: Generation | None) -> StageOutput:
    """Outcomes on all suites that the stage sees, and their means with intervals.

    Duels are against ``opponent``: the champion, or in ``sealed`` the first champion.
    """
    model = ctx.load_model(weights, ctx.settings)
    rival = ctx.load_model(str(opponent.weights), opponent.settings) if opponent else None
    chosen = [suite for suite in ctx.data.suites.values() if rival is not None or not suite.duel]
    names = [suite.name for suite in chosen]
    inputs = {"weights": weights, "opponent": opponent and opponent.weights, "suites": names}
    scored, units = score_suites(ctx, model, rival, chosen, ctx.key, inputs)
    if ranks.rank() != 0:
        return StageOutput()
    tables = [
        _outcomes(rows, suite, weights, opponent.weights if suite.duel and opponent else None)
        for suite, rows in zip(chosen, scored, strict=True)
    ]
    outcomes = pa.concat_tables(tables) if tables else OUTCOMES.empty_table()
    facts = EvaluateFacts(metrics=metrics(outcomes, ctx.data.suites), units=units.facts)
    return StageOutput({"outcomes": outcomes}, facts, units.seconds)


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
