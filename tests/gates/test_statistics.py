from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from flywheel.gates.statistics import bounded_mean, mcnemar_exact

COUNTS = st.integers(0, 300)
GRADED = st.lists(st.integers(-20, 20).map(lambda n: n / 20), max_size=40).map(np.array)
APART = st.sets(st.integers(-99, 100).filter(bool), max_size=12)
"""Differences in hundredths, no two alike, none the worst."""


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def exact(hundredths: list[int]) -> float:
    """The chance that weights of the exponential distribution bring the sum to 0 or below, in fractions.

    By partial fractions, which need differences that are all different: the sum over the negative ones, the
    added worst one with them, of the product of 1 / (1 - b / a) over the other differences b.
    """
    values = [*map(Fraction, hundredths), Fraction(-100)]
    terms = (
        math.prod((1 / (1 - b / a) for b in values if b != a), start=Fraction(1)) for a in values if a < 0
    )
    return float(sum(terms))


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


@settings(max_examples=150)
@given(APART)
def test_the_bounded_mean_is_the_exact_chance(hundredths: set[int]) -> None:
    differences = np.array([h / 100 for h in hundredths])
    assert bounded_mean(differences, -1) == pytest.approx(exact([*hundredths]), rel=1e-9)


@pytest.mark.parametrize("gain", [1, 3, 9, 30, 60])
def test_the_bounded_mean_is_exact_far_in_the_tail(gain: int) -> None:
    """Down to p = 1e-22, in relative terms."""
    hundredths = [gain + 2 * k for k in range(20)] + [-7, -40]
    p_value = bounded_mean(np.array(hundredths) / 100, -1)
    assert p_value == pytest.approx(exact(hundredths), rel=1e-9)


@given(COUNTS, COUNTS)
def test_the_bounded_mean_of_wins_and_losses_is_mcnemar(wins: int, losses: int) -> None:
    differences = np.repeat([1.0, -1.0, 0.0], [wins, losses, 5])
    assert bounded_mean(differences, -1) == pytest.approx(mcnemar_exact(wins, losses), rel=1e-9)


@pytest.mark.parametrize(
    "differences",
    [rng(1).normal(0.03, 0.2, 60), np.repeat([0.01, -0.3], [200, 3]), np.array([0.4] * 9 + [-0.2] * 5)],
    ids=["normal", "skewed", "few"],
)
def test_the_bounded_mean_agrees_with_draws(differences: np.ndarray) -> None:
    draws, draw = 40_000, rng(2)
    weights = draw.exponential(size=(draws, len(differences) + 1))
    share = np.mean(weights @ np.append(differences, -1) <= 0)
    p_value = bounded_mean(differences, -1)
    assert abs(share - p_value) <= 4 * math.sqrt(p_value * (1 - p_value) / draws)


def test_gains_without_the_large_losses_that_may_exist_are_little_evidence() -> None:
    """200 items gained .01; 1% that lose .99 would bring the mean to 0 and be missed 13% of the time."""
    assert bounded_mean(np.full(200, 0.01), -1) == pytest.approx(1.01**-200, rel=1e-9)
    assert bounded_mean(np.full(200, 0.01), -1) > 0.99**200


@pytest.mark.parametrize("low", [-1, -3, -100])
def test_only_the_ratio_to_the_worst_counts(low: float) -> None:
    differences = rng(3).uniform(-0.9, 1, 30)
    assert bounded_mean(-low * differences, low) == pytest.approx(bounded_mean(differences, -1), rel=1e-9)
    assert bounded_mean(differences, low) >= bounded_mean(differences, -1)


@given(GRADED, st.integers(0, 2**32 - 1))
def test_the_order_of_the_items_is_irrelevant(differences: np.ndarray, seed: int) -> None:
    assert bounded_mean(rng(seed).permutation(differences), -1) == bounded_mean(differences, -1)


@given(GRADED, st.integers(0, 39), st.floats(0, 1))
def test_the_bounded_mean_never_rises_with_a_difference(
    differences: np.ndarray, at: int, more: float
) -> None:
    better = differences.copy()
    better[at : at + 1] += more
    assert bounded_mean(better, -1) <= bounded_mean(differences, -1) * (1 + 1e-9)


@given(GRADED)
def test_draws_do_not_count(differences: np.ndarray) -> None:
    with_draws = np.concatenate([np.zeros(3), differences, np.zeros(2)])
    assert bounded_mean(with_draws, -1) == bounded_mean(differences, -1)


@given(st.lists(st.floats(-1, 1), max_size=12).map(np.array))
def test_the_bounded_mean_is_a_probability(differences: np.ndarray) -> None:
    assert 0 < bounded_mean(differences, -1) <= 1


@pytest.mark.parametrize("differences", [[], [0.0], [-0.5, 0.0], [-1.0]])
def test_without_a_gain_there_is_no_evidence(differences: list[float]) -> None:
    assert bounded_mean(np.array(differences), -1) == 1.0


@pytest.mark.parametrize(("differences", "low"), [([-1.01], -1), ([0.5], 0), ([0.5], 1)])
def test_a_difference_below_the_worst_is_refused(differences: list[float], low: float) -> None:
    with pytest.raises(ValueError, match=f"Expected differences of at least {low}, below 0"):
        bounded_mean(np.array(differences), low)


@settings(max_examples=40)
@given(GRADED, st.integers(0, 2**32 - 1))
def test_the_last_bits_of_floats_move_p_by_as_little(differences: np.ndarray, seed: int) -> None:
    noise = rng(seed).uniform(0, 1e-14, len(differences)) * (differences != 0)
    assert bounded_mean(differences + noise, -1) == pytest.approx(bounded_mean(differences, -1), rel=1e-9)


Part = tuple[np.ndarray, np.ndarray]
"""Values that a difference can take, and their chances."""


def errors(parts: list[Part], low: float, levels: list[float]) -> list[float]:
    """The chance of p at most each level, over all outcomes of independent differences: no simulation."""
    combinations = itertools.product(*(range(len(chances)) for _, chances in parts))
    errs = np.zeros(len(levels))
    for places in combinations:
        picked = [(values[k], chances[k]) for k, (values, chances) in zip(places, parts, strict=True)]
        p_value = bounded_mean(np.array([value for value, _ in picked]), low)
        errs += math.prod(chance for _, chance in picked) * (p_value <= np.array(levels))
    return errs.tolist()


def without_gain(values: np.ndarray, chances: np.ndarray) -> Part:
    """The distribution with its gains made smaller so that the mean is 0."""
    gains, losses = np.maximum(values, 0) @ chances, -np.minimum(values, 0) @ chances
    return np.where(values > 0, values * min(1, losses / gains), values), chances


LEVELS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.2]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("alike", [True, False])
def test_the_bounded_mean_errs_at_most_as_often_as_it_says(seed: int, alike: bool) -> None:
    """Distributions of mean 0 with a rare worst value: one for all five differences, or five."""
    draw = rng(seed)
    size = np.ones(5) if alike else draw.choice([1, 3, 10], 5)
    parts = []
    for k in range(5):
        values = np.array([-1, *draw.uniform([-0.5, 0], [0.5, 1])])
        part = without_gain(values, draw.dirichlet([0.3, 1, 1]))
        parts.append(parts[0] if alike and k else (size[k] * part[0], part[1]))
    for level, err in zip(LEVELS, errors(parts, -float(size.max()), LEVELS), strict=True):
        assert err <= level + 1e-9


@pytest.mark.parametrize("losses", [0.5, 1, 2, 4, 8])
def test_rare_large_losses_make_it_err_no_more_often(losses: float) -> None:
    """100 items that gain a little, or lose all: exactly, by the number of losses."""
    n, share = 100, losses / 100
    gain = share / (1 - share)
    chances = stats.binom.pmf(np.arange(40), n, share)
    p_values = np.array([bounded_mean(np.repeat([-1, gain], [k, n - k]), -1) for k in range(40)])
    for level in LEVELS:
        assert chances[p_values <= level].sum() <= level


def test_ten_thousand_items_are_no_problem() -> None:
    """By the normal approximation, with the mean and the spread of the weighted sum."""
    differences = np.clip(rng(4).uniform(-1, 1, 10_000) + 0.015, -1, 1)
    z = (differences.sum() - 1) / math.sqrt((differences**2).sum() + 1)
    assert bounded_mean(differences, -1) == pytest.approx(stats.norm.sf(z), rel=0.05)
    assert mcnemar_exact(5100, 4900) == pytest.approx(stats.binom.sf(5099, 10_000, 0.5), rel=1e-9)
