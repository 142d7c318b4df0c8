from __future__ import annotations

import pyarrow as pa
import pytest

from flywheel.records import Role, Suite
from flywheel.stages.gate import PairedOutcomes


def outcomes(scores: list[float], clusters: str, items: str = "abcde") -> pa.Table:
    named = {"suite": ["gate"] * len(scores), "item": list(items[: len(scores)]), "cluster": list(clusters)}
    return pa.table({**named, "score": pa.array(scores, pa.float64())})


def suites(*, duel: bool = False) -> dict[str, Suite]:
    return {"gate": Suite("gate", Role.GATE, pa.table({"item": list("abcde")}), duel=duel)}


def test_differences_are_of_items_with_their_clusters_in_order() -> None:
    candidate, champion = outcomes([1, 0.5, 0, 1, 1], "yxyzx"), outcomes([0, 0.5, 1, 0, 1], "yxyzx")
    found = PairedOutcomes(suites(), candidate, champion).differences("gate")
    assert found.items.tolist() == [1, 0, -1, 1, 0]
    assert found.clusters.tolist() == [0, 1, 0, 2, 1]


def test_the_first_clusters_come_with_all_their_items() -> None:
    candidate, champion = outcomes([1, 0.5, 0, 1, 1], "yxyzx"), outcomes([0, 0.5, 1, 0, 1], "yxyzx")
    found = PairedOutcomes(suites(), candidate, champion).differences("gate", 2)
    assert (found.items.tolist(), found.clusters.tolist()) == ([1, 0, -1, 0], [0, 1, 0, 1])


def test_a_duel_is_a_difference_by_itself() -> None:
    found = PairedOutcomes(suites(duel=True), outcomes([1, 0.5, 0.25], "abc"), outcomes([], "")).differences(
        "gate"
    )
    assert found.items.tolist() == [1, 0, -0.5]


def test_other_items_are_refused() -> None:
    with pytest.raises(ValueError, match="different items of gate"):
        PairedOutcomes(suites(), outcomes([1, 0], "ab"), outcomes([1, 0], "ab", "ba")).differences("gate")
