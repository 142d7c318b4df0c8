"""Policies of prompts: more where a champion is weak and learnable, a floor for each slice."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from flywheel.keys import Key
from flywheel.prompting import Even, WeakSpots

RESULTS = pa.table({"digit": [0, 1, 2, 3], "items": [50] * 4, "score": [1.0, 0.6, 0.1, 0.9]})


def test_the_learnable_is_asked_most_the_perfect_and_the_hopeless_least() -> None:
    shares = WeakSpots().shares(RESULTS, range(4))
    assert sum(shares.values()) == pytest.approx(1)
    assert shares[2] == pytest.approx(shares[3])
    assert shares[1] > shares[2] > shares[0]
    assert shares[0] >= 0.3 / 4, "the floor"
    assert WeakSpots(floor=1).shares(RESULTS, range(4)) == Even().shares(RESULTS, range(4))


def test_few_items_say_little_and_none_what_the_prior_says() -> None:
    few = pa.table({"digit": [0, 1], "items": [1, 1000], "score": [1.0, 1.0]})
    shares = WeakSpots(floor=0).shares(few, [0, 1, 2])
    assert shares[2] == pytest.approx(shares[0] * (1 / 6) / (2 / 12))
    assert shares[1] < 0.02 * shares[0]


def test_what_is_no_better_than_chance_is_hopeless() -> None:
    guessed = pa.table({"digit": [0, 1], "items": [400, 400], "score": [0.25, 0.6]})
    assert WeakSpots(floor=0).shares(guessed, [0, 1])[0] > 0.4
    assert WeakSpots(floor=0, chance=0.25).shares(guessed, [0, 1])[0] < 0.02


def test_without_results_or_any_gap_shares_are_even() -> None:
    assert list(WeakSpots().shares(None, range(5)).values()) == pytest.approx([0.2] * 5)


def test_counts_sum_up_and_are_the_shares_on_average() -> None:
    policy, keys = WeakSpots(), [Key.root(0)(n) for n in range(400)]
    drawn = [policy.counts(10, RESULTS, range(4), key) for key in keys]
    assert {sum(counts.values()) for counts in drawn} == {10}
    for digit, share in policy.shares(RESULTS, range(4)).items():
        counts = [one[digit] for one in drawn]
        assert set(counts) <= {int(10 * share), int(10 * share) + 1}
        assert sum(counts) / len(counts) == pytest.approx(10 * share, abs=0.1)
    assert policy.counts(10, RESULTS, range(4), keys[0]) == drawn[0], "the same key, the same counts"


def test_slices_of_several_columns_are_tuples() -> None:
    table = pa.table({"a": ["x", "x"], "b": [1, 2], "items": [40, 40], "score": [1.0, 0.5]})
    shares = WeakSpots().shares(table, [("x", 1), ("x", 2)])
    assert shares["x", 2] > shares["x", 1]


@pytest.mark.parametrize(("argument", "value"), [("floor", 1.5), ("prior", 0.0), ("chance", 1.0)])
def test_arguments_have_ranges(argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{argument} must be .*; it is {value}"):
        WeakSpots(**{argument: value})
