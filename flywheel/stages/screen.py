"""Screen: is harm shown on dev? With ``promotion=greedy``: is the mean on dev higher?

No gate item is read. Harm is judged by the paired test that a gate applies, on the dev items, with the
candidate and the other model exchanged.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from flywheel import ranks
from flywheel.gates.evidence import FixedEvidence
from flywheel.gates.paired import Paired
from flywheel.records import Differences, Role
from flywheel.runtime.context import Context, StageOutput
from flywheel.runtime.evidence import PairedOutcomes
from flywheel.runtime.scoring import measure, metrics
from flywheel.storage.events import Compared, ScreenFacts
from flywheel.storage.policy import GREEDY, Promotion
from flywheel.storage.state import Generation


def screen(
    ctx: Context, *, weights: str, opponent: Generation, against: Mapping[str, str], rule: Promotion
) -> StageOutput:
    """Outcomes on dev, and whether the candidate goes on.

    ``opponent``: the champion, for duels. ``against``: generation -> outcomes, the champion first, then the
    best frontier. ``rule``: by which it goes on.
    """
    outcomes, units = measure(ctx, weights, opponent)
    if ranks.rank() != 0:
        return StageOutput()
    compared = [
        _compare(ctx, outcomes, int(number), ctx.store.table(theirs), opponent.number)
        for number, theirs in against.items()
    ]
    advance = rule.advances(compared)
    facts = ScreenFacts(
        advance=advance,
        reason=_reason(compared, opponent.number, rule, advance),
        score=round(float(np.mean(outcomes["score"].to_numpy())), 9),
        against=tuple(compared),
        metrics=metrics(outcomes, ctx.data.suites),
        units=units.facts,
    )
    return StageOutput({"outcomes": outcomes}, facts, units.seconds)


def _compare(ctx: Context, ours: pa.Table, number: int, theirs: pa.Table, champion: int) -> Compared:
    """The candidate beside a generation; by duels only beside the champion, their opponent."""
    evidence = PairedOutcomes(ctx.data.suites, ours, theirs, Role.DEV)
    names = [name for name in evidence.suites if number == champion or not ctx.data.suites[name].duel]
    pairs = {name: evidence.differences(name) for name in names}
    if not pairs:
        return Compared(generation=number, effect=0.0, p_value=1.0)
    effect = round(float(np.concatenate([pair.items for pair in pairs.values()]).mean()), 9) + 0.0
    exchanged = {name: Differences(-pair.items, pair.clusters) for name, pair in pairs.items()}
    result, _ = Paired().test(FixedEvidence(exchanged), level=0.0, carry={}, key=ctx.key)
    assert result.p_value is not None
    return Compared(generation=number, effect=effect, p_value=result.p_value)


def _reason(compared: list[Compared], champion: int, rule: Promotion, advance: bool) -> str:
    """The finding as a sentence, e.g. ``no harm shown on dev: +0.40% against generation 3, the champion``."""
    if rule.rule == GREEDY:
        return f"no test, promotion=greedy: {compared[0].effect:+.2%} on dev against generation {champion}"
    level = rule.harm_level(len(compared))
    texts = [
        f"{one.effect:+.2%} against generation {one.generation}, "
        f"{'the champion' if one.generation == champion else 'the best frontier'}, "
        f"p {one.p_value:.2g} {'<=' if one.p_value <= level else '>'} {level:g}"
        for one in compared
    ]
    return f"{'no harm' if advance else 'harm'} shown on dev: {'; '.join(texts)}"
