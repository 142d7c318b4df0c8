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
from flywheel.runtime.scoring import measure, metrics
from flywheel.storage.events import EvaluateFacts
from flywheel.storage.state import Generation

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
