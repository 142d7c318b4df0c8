"""Gate: how strong is the evidence that the candidate is better than the champion, and is it enough?"""

from __future__ import annotations

from flywheel import ranks
from flywheel.runtime.context import Context, StageOutput, carry_of
from flywheel.runtime.evidence import PairedOutcomes
from flywheel.storage.accountant import decide
from flywheel.storage.events import GateFacts


def gate(ctx: Context, *, candidate: str, champion: str, level: float) -> StageOutput:
    """The verdict on two tables of outcomes: the gate tests, the accountant decides.

    ``level``: what the look was charged. All ranks do it, so that a gate may have more items evaluated.
    """
    part = ctx.components.build("gate", ctx.settings)
    evidence = PairedOutcomes(ctx.data.suites, ctx.store.table(candidate), ctx.store.table(champion))
    result, carry = part.test(evidence, level, ctx.carry.get("gate", {}), ctx.key("gate"))
    verdict = decide(result, level)
    if ranks.rank() != 0:
        return StageOutput()
    output, carry_kept = carry_of(part, carry)
    return StageOutput(output, GateFacts(verdict=verdict, carry_kept=carry_kept))
