"""What guards measure: known values, blocks of one size, tests that rarely fire by chance."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest

from flywheel.guards.measures import (
    Estimate,
    distinct_ngrams,
    is_below,
    label_entropy,
    pass_at,
    rank_correlation,
    tokens_of,
)
from flywheel.guards.pairs import holm, p_above
from flywheel.keys import Key


def test_pass_at_k_is_the_mean_over_all_choices_of_k_answers() -> None:
    right = np.array([1, 0, 0, 1, 0, 0, 0, 0, 0, 1], float)
    groups = ["a"] * 6 + ["b"] * 3 + ["c"]
    expected = [
        np.mean([max(chosen) for chosen in combinations(right[rows], 3)])
        for rows in (slice(0, 6), slice(6, 9))
    ]
    estimate = pass_at(groups, right, 3)
    assert estimate.mean == pytest.approx(np.mean(expected))
    assert estimate.n == 2, "a group of one answer says nothing of three"


def test_distinct_ngrams_are_over_all_ngrams_of_a_block() -> None:
    texts = pa.chunked_array([["a b a b", None, "c", "a b"]])
    estimate = distinct_ngrams(tokens_of(texts, "words"), 2, block=4)
    assert estimate == Estimate(2 / 4, 0.0, 1)
    assert distinct_ngrams(tokens_of(texts, "characters"), 9, block=4).mean == 0, "no n-grams, none distinct"
    lists = pa.chunked_array([pa.array([[1, 2, 1, 2], [1, 2]])])
    assert distinct_ngrams(tokens_of(lists, "words"), 2, block=2).mean == 0.5


def test_entropy_is_in_bits() -> None:
    assert label_entropy([0, 1, 2, 3] * 4, block=8) == Estimate(2.0, 0.0, 2)
    assert label_entropy([7] * 16, block=8) == Estimate(0.0, 0.0, 2)


def test_measures_do_not_depend_on_how_many_rows_a_batch_has() -> None:
    rng = Key.root(0)("rows").numpy()
    few, many = (label_entropy(rng.integers(0, 10, n).tolist(), 50) for n in (500, 20_000))
    assert abs(few.mean - many.mean) < 4 * few.error


def test_a_fall_is_seen_and_chance_is_not_taken_for_one() -> None:
    rng = Key.root(0)("falls").numpy()
    before = np.array([1 / 10] * 10)
    skewed = np.array([0.7, *[0.3 / 9] * 9])

    def entropy(shares: np.ndarray, rows: int = 500) -> Estimate:
        return label_entropy(rng.choice(10, rows, p=shares).tolist(), 50)

    at_the_limit = entropy(skewed, 50_000).mean / entropy(before, 50_000).mean
    false = [is_below(entropy(skewed), entropy(before), at_the_limit, 0.05) for _ in range(300)]
    seen = [is_below(entropy(skewed), entropy(before), 0.8, 0.01) for _ in range(50)]
    assert np.mean(false) <= 0.09, "5%, and three standard errors"
    assert all(seen)
    assert not is_below(Estimate(0.0, 0.0, 1), entropy(before), 0.8, 0.01), "one block tells nothing"


def test_rank_correlation_covers_and_knows_nothing_of_constants() -> None:
    rng = Key.root(0)("ranks").numpy()
    misses = 0
    for _ in range(400):
        x, y = rng.normal(size=(2, 60))
        _, low, high = rank_correlation(x, y, 0.025)
        misses += not low <= 0 <= high
    assert misses <= 34, "5% of 400, and three standard errors"
    assert rank_correlation(np.arange(20.0), np.exp(np.arange(20.0)), 0.01)[1] > 0.9
    assert rank_correlation(np.ones(50), np.arange(50.0), 0.01) == (0.0, -1.0, 1.0)


def test_holm_steps_down() -> None:
    assert holm([0.04, 0.001, 0.02], 0.05) == [True, True, True]
    assert holm([0.04, 0.001, 0.03], 0.05) == [False, True, False]
    assert holm([], 0.05) == []


def test_the_test_of_losses_is_mcnemars_where_they_are_wins_and_losses() -> None:
    values = np.array([1.0] * 8 + [-1.0] + [0.0] * 30)
    expected = sum([1, 9]) / 2**9
    assert p_above(values, np.arange(39), -1.0) == pytest.approx(expected, rel=1e-5)
    assert p_above(np.array([]), np.array([]), -1.0) == 1.0
    together = p_above(values, np.repeat(np.arange(13), 3), -1.0)
    assert together > expected, "three items of one cluster are no three pieces of evidence"
