from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from flywheel.metrics.bradley_terry import bradley_terry

THREE = list(itertools.combinations(range(3), 2))
FOUR = list(itertools.combinations(range(4), 2))
ELO = 400 / math.log(10)


def test_of_two_players_the_rating_is_the_odds_with_one_drawn_game_more() -> None:
    scores = np.array([[1.0] * 7 + [0.0] * 2 + [0.5]])
    own, other = bradley_terry(scores, [(0, 1)], range(10), reference=1)
    assert own.value == pytest.approx(ELO * math.log(8 / 3))
    assert own.low < 0 < own.value < own.high
    assert (other.value, other.low, other.high) == (0, 0, 0)


def test_ratings_are_where_expected_scores_are_those_observed() -> None:
    scores = np.random.default_rng(0).choice([0.0, 0.5, 1.0], (3, 40), p=[0.5, 0.2, 0.3])
    ratings = bradley_terry(scores, THREE, range(40))
    strengths = np.array([rating.value for rating in ratings]) / ELO
    excess = np.zeros(3)
    for (a, b), games in zip(THREE, scores, strict=True):
        expected = 1 / (1 + math.exp(strengths[b] - strengths[a]))
        excess[a] += games.sum() + 0.5 - 41 * expected
        excess[b] -= games.sum() + 0.5 - 41 * expected
    assert excess == pytest.approx([0, 0, 0], abs=1e-6)


def test_who_wins_all_games_has_a_rating_and_no_interval_of_zero_width() -> None:
    scores = np.ones((3, 30))
    ratings = bradley_terry(scores, THREE, range(30), reference=2)
    assert ratings[0].value > ratings[1].value > 0
    assert all(math.isfinite(end) for rating in ratings for end in (rating.low, rating.high))
    assert ratings[1].high - ratings[1].low > 100


def test_games_of_one_cluster_say_little_more_than_one_game() -> None:
    scores = np.repeat(np.random.default_rng(1).choice([0.0, 1.0], (3, 20)), 5, axis=1)
    apart = bradley_terry(scores, THREE, range(100))[1]
    together = bradley_terry(scores, THREE, np.repeat(range(20), 5))[1]
    assert together.value == apart.value
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_intervals_hold_also_where_an_item_is_played_by_all_pairs() -> None:
    """Whoever has luck with an item has it against all: 300 tournaments of known strengths."""
    strengths = np.array([0.0, 0.3, 0.6, 1.2])
    rng, held = np.random.default_rng(2), 0
    for _ in range(300):
        noise = rng.gumbel(size=(4, 80)) + strengths[:, None]  # the difference of two is logistic
        scores = np.array([noise[a] > noise[b] for a, b in FOUR], float)
        rating = bradley_terry(scores, FOUR, range(80))[3]
        held += rating.low <= ELO * 1.2 <= rating.high
    assert held / 300 >= 0.93
