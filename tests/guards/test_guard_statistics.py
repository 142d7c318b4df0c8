from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.gates.statistics import bounded_mean
from flywheel.guards.statistics import chance_to_reject, clusters_needed, disagreement_of, non_inferiority
from flywheel.keys import Key
from flywheel.records import Differences

LEVEL, RUNS = 0.05, 2000
MARGIN = 0.1


def in_clusters(items: np.ndarray, *sizes: int) -> Differences:
    """Differences of clusters of these sizes, or of each item alone."""
    clusters = np.repeat(np.arange(len(sizes)), sizes) if sizes else np.arange(len(items))
    return Differences(np.asarray(items, float), clusters)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.sampled_from([0.01, 0.1, 0.5]))
def test_it_is_the_gates_test_of_shifted_differences(items: list[float], margin: float) -> None:
    shifted = np.round(np.array(items) + margin, 9)
    expected = bounded_mean(shifted, margin - 1 - 1e-9)
    assert non_inferiority(in_clusters(np.array(items)), margin) == expected


def test_where_nothing_differs_the_number_of_items_decides() -> None:
    """Had the candidate lost ``margin`` of all problems, the items would have shown none with this chance."""
    for n in (1, 10, 200):
        p_value = non_inferiority(in_clusters(np.zeros(n)), 0.02)
        assert p_value == pytest.approx(0.98**n, rel=1e-6)


def test_whole_clusters_count_as_one_item() -> None:
    alone = non_inferiority(in_clusters(np.array([1.0, 0, 0, -1, 0])), 0.3)
    assert non_inferiority(in_clusters(np.repeat([1.0, 0, 0, -1, 0], 7), *[7] * 5), 0.3) == pytest.approx(
        alone
    )


def _lost_wholly(rng: np.random.Generator, n: int) -> np.ndarray:
    return -(rng.random(n) < MARGIN).astype(float)


def _won_and_lost(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.choice([1.0, 0.0, -1.0], n, p=[0.1, 0.7, 0.2])


def _rarely_lost(rng: np.random.Generator, n: int) -> np.ndarray:
    """A little is gained, and seldom nearly all is lost: as often no item of the suite shows it."""
    rare = 0.005
    gain = (rare - MARGIN) / (1 - rare)
    return np.where(rng.random(n) < rare, -1.0, gain)


@pytest.mark.parametrize("draw", [_lost_wholly, _won_and_lost, _rarely_lost])
@pytest.mark.parametrize("sizes", [[1] * 300, [1, 2, 5, 10, 20, 40] * 6], ids=["items", "clusters"])
def test_a_candidate_worse_by_the_margin_passes_with_a_chance_of_the_level(
    draw: Any, sizes: list[int]
) -> None:
    rng = Key.root(0)("a test").numpy()
    passed = 0
    for _ in range(RUNS // 4):
        items = np.repeat(draw(rng, len(sizes)), sizes)
        passed += non_inferiority(in_clusters(items, *sizes), MARGIN) <= LEVEL
    assert passed <= RUNS // 4 * LEVEL + 3 * math.sqrt(RUNS // 4 * LEVEL * (1 - LEVEL))


@pytest.mark.parametrize(
    ("sizes", "margin", "disagreement"),
    [([1] * 800, 0.02, 0.05), ([1] * 100, 0.1, 0.3), ([1, 1, 2, 4, 8, 16] * 10, 0.1, 0.1)],
)
def test_the_chance_to_reject_is_that_of_equal_candidates(
    sizes: list[int], margin: float, disagreement: float
) -> None:
    rng, half = Key.root(1)("a test").numpy(), disagreement / 2
    rejected = 0
    for _ in range(RUNS):
        won = rng.choice([1.0, -1.0, 0.0], len(sizes), p=[half, half, 1 - disagreement])
        rejected += non_inferiority(in_clusters(np.repeat(won, sizes), *sizes), margin) > LEVEL
    expected = chance_to_reject(np.array(sizes), margin, LEVEL, disagreement)
    assert 0.1 < expected < 0.9
    assert abs(rejected / RUNS - expected) < 4 * math.sqrt(2 * 0.25 / RUNS)


@pytest.mark.parametrize("sizes", [[1], [1, 5, 5, 20]])
@pytest.mark.parametrize(("margin", "disagreement"), [(0.02, 0.05), (0.05, 0.0), (0.1, 0.5)])
def test_so_many_clusters_are_needed_and_not_many_fewer(
    sizes: list[int], margin: float, disagreement: float
) -> None:
    needed = clusters_needed(np.array(sizes), margin, LEVEL, disagreement, 0.2)

    def chance(count: int) -> float:
        return chance_to_reject(np.resize(sizes, count), margin, LEVEL, disagreement)

    assert chance(needed) <= 0.2
    assert chance(int(needed * 0.7)) > 0.2


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_disagreement_is_the_share_of_clusters_won_or_lost(share: float) -> None:
    rng, sizes = Key.root(0)("a test").numpy(), np.tile([1, 3, 9], 700)
    won = np.where(rng.random(len(sizes)) < share, rng.choice([1.0, -1.0], len(sizes)), 0.0)
    assert disagreement_of(in_clusters(np.repeat(won, sizes), *sizes)) == pytest.approx(share, abs=0.05)
    assert disagreement_of(in_clusters(np.full(4, 0.5))) == 0.25
