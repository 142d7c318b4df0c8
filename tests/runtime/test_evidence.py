from __future__ import annotations

import pyarrow as pa
import pytest

from flywheel.records import Role, Suite
from flywheel.runtime.evidence import PairedOutcomes


def outcomes(scores: list[float], clusters: str, items: str = "abcde") -> pa.Table:
    named = {"suite": ["gate"] * len(scores), "item": list(items[: len(scores)]), "cluster": list(clusters)}
    return pa.table({**named, "score": pa.array(scores, pa.float64())})


def suites(*, duel: bool = False) -> dict[str, Suite]:
    return {"gate": Suite("gate", Role.GATE, pa.table({"item": list("abcde")}), duel=duel)}


@pytest.mark.parametrize(
    ("first", "items", "clusters"),
    [(None, [1, 0, -1, 1, 0], [0, 1, 0, 2, 1]), (2, [1, 0, -1, 0], [0, 1, 0, 1])],
)
def test_differences_are_of_all_items_of_the_first_clusters(
    first: int | None, items: list[float], clusters: list[int]
) -> None:
    candidate, champion = outcomes([1, 0.5, 0, 1, 1], "yxyzx"), outcomes([0, 0.5, 1, 0, 1], "yxyzx")
    differences = PairedOutcomes(suites(), candidate, champion).differences("gate", first)
    assert (differences.items.tolist(), differences.clusters.tolist()) == (items, clusters)


def test_a_duel_is_a_difference_by_itself() -> None:
    candidate = outcomes([1, 0.5, 0.25], "abc")
    differences = PairedOutcomes(suites(duel=True), candidate, outcomes([], "")).differences("gate")
    assert differences.items.tolist() == [1, 0, -0.5]


def test_other_items_are_refused() -> None:
    with pytest.raises(ValueError, match="different items of gate"):
        PairedOutcomes(suites(), outcomes([1, 0], "ab"), outcomes([1, 0], "ab", "ba")).differences("gate")
