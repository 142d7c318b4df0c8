from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from benchmarks import power as bench
from flywheel.errors import ConfigError
from flywheel.experiments.looks import Decider, RecordedLook
from flywheel.experiments.pairs import Pairs, Population
from flywheel.experiments.power import (
    Simulated,
    any_of,
    at_one_look,
    correlation_of,
    points_text,
    power_of_looks,
    power_of_recipe,
    power_of_sizes,
    seen_text,
)
from flywheel.gates import Paired
from flywheel.gates.statistics import mcnemar_exact
from flywheel.keys import Key
from flywheel.records import Differences, GateResult
from flywheel.storage.accountant import ErrorBudget
from flywheel.testing import CONFIG_DIR

BUDGET = ErrorBudget(alpha=0.05, looks=20)
PAIRED = Decider(Paired(), {})


def look(differences, number=1, champion="one"):
    alone = np.arange(len(differences))
    return RecordedLook(
        number, champion, BUDGET.level(1), PAIRED, {"gate": Differences(differences, alone)}, {"gate": alone}
    )


def exact_chance(items, won, lost, level):
    """That exact McNemar is at most a level: over all counts of items won and lost, without simulation."""
    total = 0.0
    for differ in range(items + 1):
        log = math.lgamma(items + 1) - math.lgamma(differ + 1) - math.lgamma(items - differ + 1)
        chance = math.exp(log + differ * math.log(won + lost) + (items - differ) * math.log1p(-won - lost))
        if chance < 1e-12:
            continue
        wins = [
            math.comb(differ, k) * (won / (won + lost)) ** k * (lost / (won + lost)) ** (differ - k)
            for k in range(differ + 1)
        ]
        total += chance * sum(
            p for k, p in enumerate(wins) if k > differ - k and mcnemar_exact(k, differ - k) <= level
        )
    return total


@pytest.mark.parametrize(("won", "lost"), [(0.03, 0.02), (0.06, 0.01), (0.02, 0.02), (0.1, 0.1)])
def test_one_look_is_what_counting_all_outcomes_gives(won, lost):
    pairs = Pairs({"gate": Population.of_shares(np.ones(300, np.int64), won, lost)})
    simulated = at_one_look(PAIRED, [pairs], 0.0025, 2000, Key.root(0))
    assert abs(simulated.value - exact_chance(300, won, lost, 0.0025)) < 3.5 * simulated.standard_error
    assert simulated.standard_error < 0.012


def test_a_seldom_promotion_is_known_to_a_fifth_of_itself():
    pairs = Pairs({"gate": Population.of_shares(np.ones(300, np.int64), 0.05, 0.05)})
    false = at_one_look(PAIRED, [pairs], 0.0025, 1000, Key.root(0))
    assert 0 < false.value < 0.0025
    assert false.standard_error < 0.2 * false.value


def test_all_or_none_promoted_has_an_error_of_its_own():
    sure = Pairs({"gate": Population.of_shares(np.ones(300, np.int64), 0.5, 0.01)})
    assert at_one_look(PAIRED, [sure], 0.05, 50, Key.root(0)) == Simulated(1.0, 0.02)


@pytest.mark.parametrize(("correlation", "expected"), [(0.0, 1 - 0.7**5), (0.5, None)])
def test_any_of_several_looks(correlation, expected):
    if expected is None:  # a common part and one of its own, of equal variance
        rng = np.random.default_rng(0)
        both = (rng.standard_normal((200_000, 5)) + rng.standard_normal((200_000, 1))) / math.sqrt(2)
        expected = float((both.max(axis=1) > NormalDist().inv_cdf(0.7)).mean())
    assert any_of(0.3, 5, correlation) == pytest.approx(expected, abs=0.004)
    assert any_of(0.3, 1, correlation) == pytest.approx(0.3)
    assert [any_of(chance, 5, correlation) for chance in (0.0, 1.0)] == [0.0, 1.0]


def test_correlation_is_that_of_looks_at_one_champion():
    rng = np.random.default_rng(0)
    champion, other = rng.uniform(-0.5, 0.5, (2, 20_000))
    alike = [look(rng.uniform(-0.5, 0.5, 20_000) - champion) for _ in range(3)]
    assert measured(*alike, look(other, champion="another")) == pytest.approx(0.5, abs=0.02)
    assert measured(alike[0], look(other, champion="another")) == 0.5
    assert measured(look(champion), look(-champion)) == 0.0
    assert measured(look(champion), look(np.zeros(20_000))) == 0.5


def measured(*looks):
    return correlation_of(looks, [one.pairs() for one in looks])


def test_power_rises_with_the_gain_and_falls_with_disagreement():
    sizes = {"gate": np.ones(750, np.int64)}
    small, large = (power_of_sizes(sizes, PAIRED, gain, BUDGET, draws=300) for gain in (0.01, 0.03))
    for power in (small, large):
        first = [case.at_one_look.value for case in power.cases]
        assert first == sorted(first, reverse=True)
        assert all(
            a.over_the_run.value > a.at_one_look.value > a.false_promotion.value / 20 for a in power.cases
        )
        assert all(case.false_promotion.value < BUDGET.alpha for case in power.cases)
        needed = [case.items_needed for case in power.cases]
        assert needed == sorted(needed)
    assert all(
        a.at_one_look.value < b.at_one_look.value for a, b in zip(small.cases, large.cases, strict=True)
    )
    assert small.level == BUDGET.level(1)


@pytest.mark.parametrize("share", [0.02, 0.1])
def test_so_many_items_as_are_needed_are_enough(share):
    (case,) = power_of_sizes({"gate": np.ones(750, np.int64)}, PAIRED, 0.02, BUDGET, [share], draws=500).cases
    sizes = {"gate": np.ones(case.items_needed, np.int64)}
    (enough,) = power_of_sizes(sizes, PAIRED, 0.02, BUDGET, [share], draws=1000).cases
    assert enough.at_one_look.value == pytest.approx(0.8, abs=0.06)


def test_clusters_cost_power():
    alone, clustered = (
        power_of_sizes({"gate": sizes}, PAIRED, 0.05, BUDGET, [0.1], draws=300).cases[0]
        for sizes in (np.ones(600, np.int64), np.full(60, 10))
    )
    assert clustered.at_one_look.value < alone.at_one_look.value / 2
    assert clustered.items_needed > 2 * alone.items_needed


def test_no_number_of_items_shows_a_gain_below_the_least_effect():
    gate = Decider(Paired(min_effect=0.03), {})
    (case,) = power_of_sizes({"gate": np.ones(750, np.int64)}, gate, 0.02, BUDGET, [0.05], draws=300).cases
    assert case.items_needed is None


class Always:
    """A gate that is wrong, with an e-value."""

    def test(self, evidence, level, carry, key):
        assert carry == {"from": "the look"}
        return GateResult("always", e_value=2 / level), {}


def test_it_is_the_run_s_gate_that_decides():
    gate = Decider(Always(), {"from": "the look"})
    (case,) = power_of_sizes({"gate": np.ones(100, np.int64)}, gate, 0.02, BUDGET, [0.05], draws=100).cases
    assert case.at_one_look.value == pytest.approx(1, abs=0.3)
    assert case.false_promotion.value == pytest.approx(1, abs=0.1)


def test_a_run_s_own_pairs_answer_as_the_shares_that_they_have():
    rng = np.random.default_rng(0)
    looks = [look(rng.permutation(np.repeat([1.0, -1.0, 0.0], [30, 30, 690])), k) for k in range(3)]
    own = power_of_looks(looks, 0.02, BUDGET, draws=1000)
    assert (own.own_looks, own.items, own.clusters) == (3, 750, 750)
    assert own.correlation == pytest.approx(0, abs=0.05)
    (case,) = own.cases
    (stated,) = power_of_sizes(
        {"gate": np.ones(750, np.int64)}, PAIRED, 0.02, BUDGET, [case.disagreement], draws=1000
    ).cases
    assert 0.05 < case.disagreement < 0.08
    assert case.at_one_look.value == pytest.approx(stated.at_one_look.value, abs=0.06)


def test_pairs_in_which_nothing_was_won_have_no_power_to_tell():
    assert power_of_looks([look(np.array([0.0, 0, -1]))], 0.01, BUDGET) is None


def test_the_answer_is_the_same_each_time():
    words = ["recipe=moons", "error_budget.looks=7", "task.items=50"]
    first, again = (power_of_recipe(words, 0.05, CONFIG_DIR) for _ in range(2))
    assert first == again
    assert (first.items, first.clusters, first.looks, first.gate) == (50, 50, 7, "Paired")
    assert first.of == "recipe moons"


@pytest.mark.parametrize("gain", [0.02, 0.05])
def test_loops_that_are_drawn_otherwise_do_as_predicted(gain):
    """Items with chances of their own, in a few of the loops of benchmarks/power.py."""
    seen = [bench.loop(0.9, 300, gain, Key.root(k)("loop")) for k in range(300)]
    first, any_look, _ = bench.before(0.9, 300, gain, 1000)
    for predicted, hits in zip((first, any_look), zip(*seen, strict=True), strict=True):
        assert abs(bench.distance(predicted, bench.share(list(hits)))) <= 3


@pytest.mark.parametrize("gain", [0.0, 1.0, -0.1])
def test_a_gain_is_a_share(gain):
    with pytest.raises(ConfigError, match="A gain must be above 0 and below 1"):
        power_of_recipe(["recipe=moons"], gain, CONFIG_DIR)


def test_texts():
    assert (
        seen_text(750, 0.01, Simulated(0.312, 0.01))
        == "With 750 items a gain of 1 point is seen 31% of the time."
    )
    assert [points_text(gain) for gain in (0.005, 0.02)] == ["0.5 points", "2 points"]
