"""Gate: is there evidence that the candidate is better than the champion?"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pyarrow as pa

from flywheel.records import Differences, Pull, Role
from flywheel.runtime.context import Context, StageOutput, carried


def gate(ctx: Context, *, candidate: str, champion: str) -> StageOutput:
    """The gate's verdict on two tables of outcomes. The gate sees suite names and differences only."""
    rule = ctx.components.build("gate", ctx.settings)
    pull = pulls(ctx, ctx.store.table(candidate), ctx.store.table(champion))
    names = [suite.name for suite in ctx.data.suites.values() if suite.role == Role.GATE]
    verdict, carry = rule.decide(pull, names, ctx.carry.get("gate", {}), ctx.key("gate"))
    if not isinstance(verdict.promote, bool):
        raise TypeError(f"a verdict's promote must be True or False; it is {verdict.promote!r}")
    made = carried(rule, carry)
    return StageOutput(made.outputs, {"verdict": asdict(verdict), **made.facts})


def pulls(ctx: Context, candidate: pa.Table, champion: pa.Table) -> Pull:
    """Differences candidate - champion on the same items; of a duel, 2 x mean score - 1."""

    def pull(suite: str, n: int | None) -> Differences:
        theirs = candidate.filter(_is(candidate, suite))
        scores = theirs["score"].to_numpy()
        if ctx.data.suites[suite].duel:
            differences = 2 * scores - 1
        else:
            ours = champion.filter(_is(champion, suite))
            if ours["item"].to_pylist() != theirs["item"].to_pylist():
                raise ValueError(f"champion and candidate were scored on different items of {suite}")
            differences = scores - ours["score"].to_numpy()
        clusters = _numbered(theirs["cluster"].to_pylist())
        chosen = clusters < (len(clusters) if n is None else n)
        return Differences(differences[chosen], clusters[chosen])

    return pull


def _is(outcomes: pa.Table, suite: str) -> np.ndarray:
    mask: np.ndarray = np.equal(outcomes["suite"].to_numpy(), suite)
    return mask


def _numbered(clusters: list[str]) -> np.ndarray:
    """The number of each item's cluster, clusters in order of first appearance."""
    order = {cluster: k for k, cluster in enumerate(dict.fromkeys(clusters))}
    return np.array([order[cluster] for cluster in clusters], np.int64)
