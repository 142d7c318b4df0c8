from __future__ import annotations

import math

import numpy as np
import pytest

from flywheel.experiments.pairs import Pairs, Population
from flywheel.keys import Key
from flywheel.records import Differences

ALONE = np.ones(200, np.int64)
UNEVEN = np.array([1, 1, 2, 5, 20, 1, 3])


def recorded(differences, clusters=None):
    values = np.asarray(differences, float)
    return Differences(values, np.arange(len(values)) if clusters is None else np.asarray(clusters))


def pairs_of(*recorded_suites):
    return Pairs({f"suite {k}": Population.of(one) for k, one in enumerate(recorded_suites)})


ROOT = Key.root(0)


def drawn(pairs, key=ROOT):
    evidence = pairs.draw(key)
    return [evidence.differences(suite) for suite in evidence.suites]


def test_units_are_drawn_whole_and_clusters_are_numbered_as_they_appear():
    mixed = recorded([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0, 1, 0, 2, 1, 2])
    for k in range(20):
        (one,) = drawn(pairs_of(mixed), Key.root(k))
        assert one.clusters.tolist() == [0, 0, 1, 1, 2, 2]
        allowed = [{0.1, 0.3}, {0.2, 0.5}, {0.4, 0.6}]
        assert all(set(one.items[one.clusters == cluster].tolist()) in allowed for cluster in range(3))


def test_a_unit_of_several_clusters_keeps_them_apart():
    unit = np.array([0, 0, 0, 1, 1])
    population = Population.of(recorded([0.1, 0.2, 0.3, 0.4, 0.5], [0, 1, 0, 2, 3]), unit)
    one, numbers = population.draw(np.random.default_rng(3))
    counts = [{0: 2, 1: 2}[number] for number in numbers.tolist()]
    assert one.clusters.max() + 1 == sum(counts)
    assert np.all(np.diff(one.clusters) >= 0)
    assert np.all(np.diff(one.clusters) <= 1)


def test_draws_follow_from_their_key():
    pairs = pairs_of(recorded(np.linspace(-1, 1, 50)))
    first, again, other = (drawn(pairs, Key.root(k))[0].items for k in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("mean", [-0.2, 0.0, 0.01, 0.3])
def test_tilted_pairs_have_the_mean_and_no_other_values(mean):
    clustered = recorded(
        np.repeat([1.0, -1.0, 0.0, 0.0, 1.0], [1, 3, 8, 1, 2]), np.repeat(range(5), [1, 3, 8, 1, 2])
    )
    alone = recorded([1, 0, 0, 0, -1, 0.5])
    tilted = pairs_of(clustered, alone).tilted(mean)
    assert tilted.mean == pytest.approx(mean, abs=1e-9)
    assert {value for one in drawn(tilted) for value in one.items.tolist()} <= {1.0, 0.0, -1.0, 0.5}


def test_what_is_tilted_to_its_own_mean_stays_as_it_is():
    pairs = pairs_of(recorded([1, 1, -1, 0, 0.25, 0]))
    population = pairs.tilted(pairs.mean).by_suite["suite 0"]
    assert population.chances == pytest.approx(np.full(6, 1 / 6))


@pytest.mark.parametrize("differences", [[0, 0, 0], [1, 0, 0], [0, -1, -1]])
def test_pairs_on_one_side_cannot_be_tilted_to_0(differences):
    assert pairs_of(recorded(differences)).tilted(0.0) is None


def test_mean_and_standard_error_are_those_of_what_is_drawn():
    population = Population.of_shares(UNEVEN, 0.4, 0.3)
    pairs = Pairs({"one": population, "two": Population.of_shares(ALONE, 0.4, 0.3)})
    sums = [sum(one.items.sum() for one in drawn(pairs, Key.root(k))) for k in range(4000)]
    sizes = [sum(len(one.items) for one in drawn(pairs, Key.root(k))) for k in range(4000)]
    assert pairs.items == pytest.approx(np.mean(sizes), rel=0.01)
    assert pairs.mean == pytest.approx(0.1)
    error = np.std(np.array(sums) - 0.1 * np.array(sizes)) / pairs.items
    assert pairs.standard_error == pytest.approx(error, rel=0.05)


def test_shares_of_items_won_and_lost_are_the_gain_and_the_disagreement():
    pairs = Pairs({"gate": Population.of_shares(UNEVEN, 0.06, 0.05)})
    assert pairs.mean == pytest.approx(0.01)
    assert pairs.disagreement == pytest.approx(0.1)
    assert Pairs({"gate": Population.of_shares(UNEVEN, 0.0, 0.0)}).disagreement == 0


def test_the_ratio_turns_draws_of_one_into_those_of_another():
    equal = Pairs({"gate": Population.of_shares(ALONE, 0.1, 0.1)})
    better = equal.tilted(0.05)
    weighted = []
    for k in range(4000):
        evidence, ratio = better.draw_against(equal, Key.root(k))
        weighted.append([ratio, ratio * evidence.differences("gate").items.mean()])
    total, mean = np.mean(weighted, axis=0)
    assert total == pytest.approx(1, abs=0.15)
    assert mean == pytest.approx(0, abs=4 * np.std([row[1] for row in weighted]) / math.sqrt(4000))


def test_mirrored_and_scaled():
    pairs = pairs_of(recorded([1, 1, -1, 0], [0, 0, 1, 2]))
    assert pairs.mirrored().mean == pytest.approx(-pairs.mean)
    assert pairs.scaled(10).items == pytest.approx(10 * pairs.items)
    assert pairs.scaled(100).standard_error == pytest.approx(pairs.standard_error / 10)
