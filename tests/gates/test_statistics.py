from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from flywheel.gates.statistics import mcnemar_exact, sign_flip

COUNTS = st.integers(0, 300)
SMALL = st.lists(st.integers(-20, 20).map(lambda n: n / 20), max_size=10).map(np.array)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def exact_sign_flip(differences: np.ndarray) -> float:
    """By the definition, one flip after the other, in integers of 1/20."""
    units = np.rint(differences * 20).astype(int)
    sums = [sum(s * u for s, u in zip(signs, units, strict=True)) for signs in flips(len(units))]
    return sum(total >= units.sum() for total in sums) / len(sums)


def flips(n: int) -> itertools.product:
    return itertools.product((1, -1), repeat=n)


@given(COUNTS, COUNTS)
def test_mcnemar_is_the_binomial_test_of_the_discordant_pairs(wins: int, losses: int) -> None:
    p_value = mcnemar_exact(wins, losses)
    assert 0 < p_value <= 1
    if wins + losses:
        expected = stats.binomtest(wins, wins + losses, alternative="greater").pvalue
        assert p_value == pytest.approx(expected, rel=1e-9)


def test_mcnemar_without_discordant_pairs_is_no_evidence() -> None:
    assert mcnemar_exact(0, 0) == 1.0


@given(COUNTS, COUNTS)
def test_mcnemar_falls_with_wins_and_rises_with_losses(wins: int, losses: int) -> None:
    p_value = mcnemar_exact(wins, losses)
    assert mcnemar_exact(wins + 1, losses) <= p_value
    assert mcnemar_exact(wins, losses + 1) >= p_value


@given(st.integers(0, 300))
def test_as_many_wins_as_losses_is_never_evidence(n: int) -> None:
    assert mcnemar_exact(n, n) >= 0.5


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_mcnemar_errs_at_most_as_often_as_it_says(alpha: float) -> None:
    """Over all outcomes of n fair coins: the exact type-I error, no simulation."""
    for n in range(1, 80):
        passing = [math.comb(n, wins) for wins in range(n + 1) if mcnemar_exact(wins, n - wins) <= alpha]
        assert sum(passing) / 2**n <= alpha


@settings(max_examples=40)
@given(SMALL)
def test_sign_flip_is_the_share_of_all_flips_that_reach_the_sum(differences: np.ndarray) -> None:
    assert sign_flip(differences, rng()) == pytest.approx(exact_sign_flip(differences), abs=1e-12)


@pytest.mark.parametrize("n", [2, 5, 11])
def test_sign_flip_is_scipys_permutation_test(n: int) -> None:
    differences = rng(n).normal(0.1, 1, n)
    expected = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", alternative="greater", n_resamples=2**n
    )
    assert sign_flip(differences, rng()) == pytest.approx(expected.pvalue, abs=1e-12)


@pytest.mark.parametrize(("wins", "losses"), [(9, 4), (20, 9), (30, 30), (60, 35)])
def test_sampled_flips_agree_with_mcnemar_on_wins_and_losses(wins: int, losses: int) -> None:
    exact = mcnemar_exact(wins, losses)
    differences = np.concatenate([np.ones(wins), -np.ones(losses), np.zeros(7)])
    noise = 4 * math.sqrt(exact * (1 - exact) / 10_000) + 1e-4
    assert abs(sign_flip(differences, rng()) - exact) <= noise


@settings(max_examples=60)
@given(st.lists(st.floats(-1, 1), max_size=12).map(np.array))
def test_sign_flip_is_a_probability(differences: np.ndarray) -> None:
    assert 0 < sign_flip(differences, rng()) <= 1


@pytest.mark.parametrize("n", [1, 12, 13, 100])
def test_sign_flip_is_never_zero(n: int) -> None:
    assert sign_flip(np.ones(n), rng()) >= 1 / (2**n if n <= 12 else 10_001)


@given(SMALL)
def test_draws_do_not_count(differences: np.ndarray) -> None:
    with_draws = np.concatenate([np.zeros(3), differences, np.zeros(2)])
    assert sign_flip(with_draws, rng()) == sign_flip(differences, rng())


@given(SMALL)
def test_a_larger_difference_is_no_less_evidence(differences: np.ndarray) -> None:
    larger = differences.copy()
    larger[differences > 0] += 0.5
    assert sign_flip(larger, rng()) <= sign_flip(differences, rng()) + 1e-12


@settings(max_examples=60)
@given(SMALL, st.integers(0, 2**32 - 1))
def test_the_last_bits_of_floats_decide_nothing(differences: np.ndarray, seed: int) -> None:
    noise = rng(seed).uniform(-1e-12, 1e-12, len(differences))
    order = rng(seed).permutation(len(differences))
    assert sign_flip((differences + noise)[order], rng()) == sign_flip(differences, rng())


def test_ties_of_sums_count_though_floats_do_not_add_up() -> None:
    differences = np.array([0.1, 0.2, -0.3])  # their float sum is 2.8e-17
    assert sign_flip(differences, rng()) == exact_sign_flip(differences) == 5 / 8


@pytest.mark.parametrize("n", [8, 12, 20])
def test_sign_flip_errs_at_most_as_often_as_it_says(n: int) -> None:
    draw, trials = rng(n), 400
    p_values = [sign_flip(draw.laplace(0, 1, n), draw) for _ in range(trials)]
    for alpha in (0.05, 0.2):
        sampling = 3 * math.sqrt(alpha * (1 - alpha) / trials)
        assert np.mean(np.array(p_values) <= alpha) <= alpha + sampling


def test_the_same_differences_have_the_same_p_value() -> None:
    differences = rng(1).normal(0.1, 1, 40)
    assert sign_flip(differences, rng(2)) == sign_flip(differences, rng(2))
