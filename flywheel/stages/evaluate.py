"""Evaluate: outcomes of a model on suites, item by item, never just a mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from flywheel import ranks
from flywheel.metrics.ladder import is_step, rounded
from flywheel.records import Interval, Role, Suite
from flywheel.runtime.context import Context, StageOutput
from flywheel.runtime.evidence import PairedOutcomes
from flywheel.runtime.scoring import metrics, score_suites
from flywheel.runtime.work import UnitsDone
from flywheel.storage.events import EvaluateFacts
from flywheel.storage.state import Generation
from flywheel.tables import OUTCOMES, constant

Figures = dict[str, Interval]
"""Metric -> estimate."""


def evaluate(
    ctx: Context,
    *,
    weights: str,
    opponent: Generation | None,
    shown: Mapping[str, str] | None = None,
    figures: Mapping[str, Figures] | None = None,
    level: float | None = None,
) -> StageOutput:
    """Outcomes on all suites that the stage sees, and their means with intervals.

    Duels are against ``opponent``: the champion, or in ``sealed`` the first champion. Of gate suites the
    outcomes have all, the facts what the Ladder shows: ``shown`` are the outcomes and ``figures`` the
    estimates that were shown last, by suite, ``level`` that of the look.
    """
    outcomes, units = measure(ctx, weights, opponent)
    if ranks.rank() != 0:
        return StageOutput()
    ladder = Ladder(ctx, outcomes, shown or {}, figures or {}, level)
    measured, repeated = ladder.limit(metrics(outcomes, ctx.data.suites))
    facts = EvaluateFacts(metrics=measured, units=units.facts, repeated=repeated)
    return StageOutput({"outcomes": outcomes}, facts, units.seconds)


def measure(ctx: Context, weights: str, opponent: Generation | None) -> tuple[pa.Table, UnitsDone]:
    """Outcomes on the suites that the stage sees, item by item, and the units they were made in.

    On ranks other than 0 the table is empty.
    """
    model = ctx.load_model(weights, ctx.settings)
    rival = ctx.load_model(str(opponent.weights), opponent.settings) if opponent else None
    chosen = [suite for suite in ctx.data.suites.values() if rival is not None or not suite.duel]
    names = [suite.name for suite in chosen]
    inputs = {"weights": weights, "opponent": opponent and opponent.weights, "suites": names}
    scored, units = score_suites(ctx, model, rival, chosen, ctx.key, inputs)
    if ranks.rank() != 0:
        return OUTCOMES.empty_table(), units
    tables = [
        _outcomes(rows, suite, weights, opponent.weights if suite.duel and opponent else None)
        for suite, rows in zip(chosen, scored, strict=True)
    ]
    return pa.concat_tables(tables) if tables else OUTCOMES.empty_table(), units


@dataclass(frozen=True, slots=True)
class Ladder:
    """What is shown of gate suites, see ``metrics.ladder``; the fields are what ``evaluate`` is given."""

    ctx: Context
    outcomes: pa.Table
    shown: Mapping[str, str]
    figures: Mapping[str, Figures]
    level: float | None

    def limit(self, measured: Mapping[str, Figures]) -> tuple[dict[str, Figures], tuple[str, ...]]:
        """The estimates to show, and the suites of which they are those that were shown last.

        A duel that is not clearly won shows nothing: what was shown last was against another champion.
        """
        limited, repeated = dict(measured), []
        suites = self.ctx.data.view((Role.GATE,)).suites
        for name, suite in suites.items():
            if name not in measured:
                continue
            if self._is_step(suite):
                limited[name] = {m: rounded(value, len(suite.items)) for m, value in measured[name].items()}
            elif suite.duel:
                del limited[name]
            else:
                limited[name] = dict(self.figures[name])
                repeated.append(name)
        return limited, tuple(repeated)

    def _is_step(self, suite: Suite) -> bool:
        before = self.shown.get(suite.name)
        if before is None and not suite.duel:
            return True
        earlier = self.outcomes if suite.duel or before is None else self.ctx.store.table(before)
        pairs = PairedOutcomes(self.ctx.data.suites, self.outcomes, earlier)
        return is_step(pairs.differences(suite.name), self.level)


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
