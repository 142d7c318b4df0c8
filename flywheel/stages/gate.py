"""Gate: how strong is the evidence that the candidate is better than the champion, and is it enough?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from flywheel import ranks
from flywheel.records import Differences, Role, Suite
from flywheel.runtime.context import Context, StageOutput, carry_of
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


@dataclass(frozen=True, slots=True)
class PairedOutcomes:
    """What a gate sees of two models: names of suites and paired differences, no item and no mean."""

    _all: Mapping[str, Suite]
    _candidate: pa.Table
    _champion: pa.Table
    _role: Role = Role.GATE

    @property
    def suites(self) -> list[str]:
        """Names of the suites with the role."""
        return [suite.name for suite in self._all.values() if suite.role == self._role]

    def differences(self, suite: str, clusters: int | None = None) -> Differences:
        """Differences candidate - champion on the same items; of a duel, 2 x mean score - 1.

        Of the suite's first ``clusters`` clusters, with all their items; None: of all.
        """
        theirs = _of_suite(self._candidate, suite)
        scores = theirs["score"].to_numpy()
        if self._all[suite].duel:
            differences = 2 * scores - 1
        else:
            ours = _of_suite(self._champion, suite)
            if ours["item"].to_pylist() != theirs["item"].to_pylist():
                raise ValueError(f"champion and candidate were scored on different items of {suite}")
            differences = scores - ours["score"].to_numpy()
        numbers = _numbered(theirs["cluster"].to_pylist())
        chosen = numbers < (len(numbers) if clusters is None else clusters)
        return Differences(differences[chosen], numbers[chosen])


def _of_suite(outcomes: pa.Table, suite: str) -> pa.Table:
    return outcomes.filter(np.equal(outcomes["suite"].to_numpy(), suite))


def _numbered(clusters: list[str]) -> np.ndarray:
    """The number of each item's cluster, clusters in order of first appearance."""
    order = {cluster: k for k, cluster in enumerate(dict.fromkeys(clusters))}
    return np.array([order[cluster] for cluster in clusters], np.int64)
