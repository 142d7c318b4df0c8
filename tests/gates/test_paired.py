from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from flywheel.gates.paired import Paired
from flywheel.gates.statistics import bounded_mean, mcnemar_exact
from flywheel.keys import Key
from flywheel.records import Differences, Verdict
from flywheel.storage import accountant
from flywheel.testing import FixedEvidence

ALPHAS = st.sampled_from([0.001, 0.05, 0.3, 0.6, 0.95])
BINARY = st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=30)


def decide(
    differences: object, alpha: float = 0.05, seed: int = 0, min_effect: float = 0.0, **suites: object
) -> Verdict:
    """The verdict, with the gate's own sentence and numbers, which that on a rejected candidate has not."""
    given = {"gate": differences, **suites} if differences is not None else suites
    by_suite = {
        name: values if isinstance(values, Differences) else alone(values) for name, values in given.items()
    }
    result, carry = Paired(min_effect=min_effect).test(
        FixedEvidence(by_suite), alpha, {}, Key.root(seed)("gate")
    )
    assert carry == {}
    verdict = accountant.decide(result, alpha)
    compared = verdict.reason.rpartition(": ")[2]
    return replace(verdict, reason=f"{result.reason}: {compared}", numbers=dict(result.numbers))


def alone(values: object) -> Differences:
    """Each item a cluster of its own."""
    items = np.array(values, float)
    return Differences(items, np.arange(len(items)))


def in_clusters(by_cluster: list[list[float]]) -> Differences:
    """Differences of the items of each cluster."""
    clusters = np.repeat(np.arange(len(by_cluster)), [len(items) for items in by_cluster])
    return Differences(np.concatenate([np.array(items, float) for items in by_cluster]), clusters)


@given(st.integers(1, 200), ALPHAS)
def test_an_identical_candidate_is_never_promoted(n: int, alpha: float) -> None:
    verdict = decide(np.zeros(n), alpha)
    assert not verdict.promote
    assert verdict.p_value == 1.0
    assert "tie" in verdict.reason


@given(st.integers(1, 30), st.integers(0, 10), ALPHAS)
def test_as_many_wins_as_losses_never_promote(n: int, draws: int, alpha: float) -> None:
    assert not decide([1.0] * n + [-1.0] * n + [0.0] * draws, alpha).promote


@given(st.lists(st.integers(-9, 9).map(lambda k: k / 10), min_size=1, max_size=5), ALPHAS)
def test_differences_that_add_up_to_nothing_never_promote(half: list[float], alpha: float) -> None:
    assert not decide(half + [-d for d in half], alpha).promote


@pytest.mark.parametrize("differences", [[0.1, 0.2, -0.3], [0.7, 0.1, -0.8], [1e-17] * 9, [2**-60]])
@pytest.mark.parametrize("alpha", [0.05, 0.95])
def test_a_tie_is_not_broken_by_the_last_bit(differences: list[float], alpha: float) -> None:
    assert not decide(differences, alpha).promote


@pytest.mark.parametrize("sign", [1, -1])
def test_a_tie_reads_the_same_from_either_side(sign: int) -> None:
    """Added up, these differences are 5.6e-17 or -5.6e-17: no +0.00% here and -0.00% there."""
    assert decide(sign * np.array([0.1, 0.2, -0.3])).reason.startswith("+0.00% on 3 items")


def test_a_win_that_is_rounding_is_told_as_a_draw() -> None:
    numbers = decide([1e-16, -1e-16, 0.5, 0.0]).numbers
    assert (numbers["wins"], numbers["losses"]) == (1, 0)


@given(BINARY)
def test_a_worse_candidate_is_never_promoted(differences: list[float]) -> None:
    if sum(differences) <= 0:
        assert not decide(differences, 0.99).promote


@given(BINARY, ALPHAS)
def test_wins_and_losses_are_judged_by_mcnemar(differences: list[float], alpha: float) -> None:
    wins, losses = differences.count(1.0), differences.count(-1.0)
    verdict = decide(differences, alpha)
    assert verdict.numbers["test"] == "exact McNemar"
    assert verdict.p_value == (mcnemar_exact(wins, losses) if wins > losses else 1.0)
    assert verdict.promote == (wins > losses and mcnemar_exact(wins, losses) <= alpha)


def test_other_differences_are_judged_by_gaffkes_test() -> None:
    differences = [0.5, 0.25, 0.5, 0.75, 0.5, -0.25]
    verdict = decide(differences, alpha=0.2)
    assert verdict.numbers["test"] == "Gaffke's test"
    assert verdict.p_value == bounded_mean(np.array(differences), -1)
    assert verdict.promote
    assert "+37.50% on 6 items, 5 won, 1 lost, Gaffke's test: p 0.18 <= 0.2" in verdict.reason


def test_small_gains_on_all_items_do_not_exclude_rare_large_losses() -> None:
    """Had 1% of all problems lost .99, as many items as these would have shown none 13% of the time."""
    verdict = decide([0.01] * 200)
    assert verdict.p_value == pytest.approx(1.01**-200, rel=1e-9)
    assert not verdict.promote


@given(BINARY, st.sampled_from([0.1, 0.25, 0.5]))
def test_an_effect_below_the_least_is_no_evidence(differences: list[float], least: float) -> None:
    verdict, plain = decide(differences, 0.99, min_effect=least), decide(differences, 0.99)
    assert verdict.numbers == plain.numbers
    if plain.numbers["effect"] < least:
        assert verdict.p_value == 1.0
        assert not verdict.promote
    else:
        assert verdict == plain


@pytest.mark.parametrize("differences", [[1.0, 0.0, 0.0, 0.0], [0.1, 0.2, 0.3, 0.4]])
def test_the_least_effect_itself_counts(differences: list[float]) -> None:
    assert decide(differences, 0.99, min_effect=0.25).promote
    refused = decide(differences, 0.99, min_effect=0.26)
    assert "+25.00% on 4 items" in refused.reason
    assert "below the least effect of 26.00%: p 1 > 0.99" in refused.reason


@pytest.mark.parametrize("least", [-0.001, 1.0, 50, float("nan")])
def test_a_least_effect_out_of_range_is_refused(least: float) -> None:
    with pytest.raises(ValueError, match=f"min_effect must be at least 0 and below 1; it is {least}"):
        Paired(min_effect=least)


def test_the_threshold_itself_promotes() -> None:
    assert decide([1.0] * 4, alpha=1 / 16).promote
    assert not decide([1.0] * 4, alpha=1 / 16 - 1e-9).promote


@settings(max_examples=50)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=12), ALPHAS)
def test_evidence_says_all_that_decided(differences: list[float], alpha: float) -> None:
    verdict = decide(differences, alpha)
    numbers = verdict.numbers
    assert json.loads(json.dumps(dict(numbers), allow_nan=False)) == numbers
    assert type(verdict.promote) is bool
    assert numbers["n"] == len(differences)
    assert 0 < verdict.p_value <= 1
    assert verdict.promote == (numbers["effect"] > 0 and verdict.p_value <= alpha)


NO_GAIN = {
    "binary": lambda draw: draw.choice([-1.0, 0.0, 1.0], 40),
    "graded": lambda draw: draw.uniform(-1, 1, 10),
    "rare large losses": lambda draw: np.where(draw.random(100) < 0.02, -0.98, 0.02),
    "rarer ones": lambda draw: np.where(draw.random(100) < 0.005, -0.995, 0.005),
}
"""Differences with a mean of 0."""


@pytest.mark.parametrize("kind", NO_GAIN)
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_the_gate_errs_at_most_as_often_as_alpha(kind: str, alpha: float) -> None:
    """Candidates that are as good as the champion, many times over."""
    draw, trials = np.random.default_rng(7), 400
    promoted = 0
    for trial in range(trials):
        promoted += decide(NO_GAIN[kind](draw), alpha, trial).promote
    assert promoted / trials <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / trials)


def test_a_better_candidate_is_promoted_with_reasons() -> None:
    verdict = decide([1.0] * 21 + [-1.0] * 5 + [0.0] * 74)
    assert verdict.promote
    for text in ("+16.00%", "100 items", "21 won", "5 lost", "0.05"):
        assert text in verdict.reason


def test_all_gate_suites_are_judged_together() -> None:
    verdict = decide(None, easy=[1.0] * 3, hard=[1.0] * 3 + [0.0] * 4)
    assert verdict.numbers["n"] == 10
    assert verdict.p_value == 1 / 64


def test_a_decision_does_not_depend_on_what_was_drawn_before() -> None:
    differences = np.random.default_rng(0).uniform(-0.8, 1, 60)
    first = decide(differences, seed=5)
    np.random.default_rng(1).normal(size=10)
    assert decide(differences, seed=5) == first


def test_wins_that_are_whole_up_to_rounding_are_judged_by_mcnemar() -> None:
    exact = [1.0] * 20 + [-1.0] * 9
    nearly = [d * (1 - 2**-53) for d in exact]
    assert decide(nearly).p_value == pytest.approx(decide(exact).p_value, rel=1e-9)


def test_a_collapse_that_wins_most_clusters_is_not_promoted() -> None:
    """100 items of one cluster are lost, 8 in clusters of their own won: from 92.6% to 7.4%."""
    verdict = decide(in_clusters([[-1.0] * 100, *([[1.0]] * 8)]), 0.99)
    assert not verdict.promote
    assert verdict.numbers["effect"] == pytest.approx(-92 / 108)
    assert "-85.19% on 108 items in 9 clusters, 8 won, 100 lost" in verdict.reason
    assert (verdict.numbers["n"], verdict.numbers["clusters"]) == (108, 9)


def test_clusters_are_judged_by_their_sums_and_the_largest_ones_size() -> None:
    clusters = [[1.0, 1.0, 0.0], [1.0], [1.0, -1.0], [1.0, 1.0], [1.0], [1.0, -0.5]]
    verdict = decide(in_clusters(clusters), alpha=0.3)
    assert verdict.numbers["test"] == "Gaffke's test of clusters"
    assert verdict.p_value == bounded_mean(np.array([2.0, 1.0, 0.0, 2.0, 1.0, 0.5]), -3)
    assert verdict.promote


def test_clusters_of_one_size_that_are_won_or_lost_whole_are_judged_as_by_mcnemar() -> None:
    verdict = decide(in_clusters([[1.0] * 4] * 9 + [[-1.0] * 4] * 2))
    assert verdict.p_value == pytest.approx(mcnemar_exact(9, 2), rel=1e-9)


def test_the_largest_cluster_is_that_of_any_suite() -> None:
    pairs, single = in_clusters([[0.5, 0.5]] * 8), alone([0.5] * 5)
    verdict = decide(None, pairs=pairs, single=single)
    assert (verdict.numbers["n"], verdict.numbers["clusters"]) == (21, 13)
    assert verdict.p_value == bounded_mean(np.repeat([1.0, 0.5], [8, 5]), -2)


@given(st.integers(0, 2**32 - 1))
def test_the_order_of_items_and_clusters_is_irrelevant(seed: int) -> None:
    rng = np.random.default_rng(seed)
    items, clusters = rng.integers(-9, 10, 30) / 10, rng.integers(0, 12, 30)
    clusters = np.unique(clusters, return_inverse=True)[1]
    order, names = rng.permutation(30), rng.permutation(clusters.max() + 1)
    assert decide(Differences(items[order], names[clusters][order])) == decide(Differences(items, clusters))


def test_whole_clusters_won_are_less_evidence_than_as_many_items() -> None:
    assert not decide(in_clusters([[1.0] * 25] * 4)).promote
    assert decide([1.0] * 100).promote


@given(BINARY, ALPHAS)
def test_the_effect_is_over_items_whatever_the_clusters(items: list[float], alpha: float) -> None:
    clustered = Differences(np.array(items), np.arange(len(items)) // 3)
    verdict = decide(clustered, alpha)
    assert verdict.numbers["effect"] == decide(items, alpha).numbers["effect"]
    assert not verdict.promote or sum(items) > 0


SIZES = {"1 to 100": np.geomspace(1, 100, 20).astype(int), "one of 100": np.array([100, *[1] * 8])}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("alpha", [0.05, 0.2])
@pytest.mark.parametrize("whole", [True, False])
def test_the_gate_errs_at_most_as_often_as_alpha_with_clusters(
    sizes: np.ndarray, alpha: float, whole: bool
) -> None:
    """As good as the champion: right on 70% of whole clusters, or by rates that clusters have."""
    draw, trials, promoted = np.random.default_rng(3), 300, 0
    ids = np.repeat(np.arange(len(sizes)), sizes)
    for trial in range(trials):
        rates = draw.random((2, len(sizes))) < 0.7 if whole else draw.beta(1.4, 0.6, (2, len(sizes)))
        candidate, champion = draw.random((2, len(ids))) < rates[:, ids]
        promoted += decide(Differences(candidate * 1.0 - champion, ids), alpha, trial).promote
    assert promoted / trials <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / trials)
