from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.keys import Key

PARTS = st.integers(-(2**63), 2**63) | st.text(max_size=8)
PATHS = st.lists(PARTS, min_size=1, max_size=4).map(tuple)
GOLDEN = {
    (0,): 6197007067532723406,
    (0, 3, "generate", "chunk", 17): 5201223225938092761,
    (1, "ü", -1): 4386544147336878236,
}


@pytest.mark.parametrize(("path", "seed"), GOLDEN.items())
def test_seeds_are_the_same_for_ever(path: tuple[str | int, ...], seed: int) -> None:
    assert Key(path).seed == seed


@given(st.sets(PATHS, min_size=2, max_size=8))
def test_other_paths_have_other_seeds(paths: set[tuple[str | int, ...]]) -> None:
    assert len({Key(path).seed for path in paths}) == len(paths)


@pytest.mark.parametrize(
    ("one", "other"),
    [((1, 2), (12,)), (("a", "b"), ("ab",)), ((1,), ("1",)), (("a,b",), ("a", "b")), ((0, 1), (1, 0))],
)
def test_paths_that_look_alike_have_other_seeds(
    one: tuple[str | int, ...], other: tuple[str | int, ...]
) -> None:
    assert Key(one).seed != Key(other).seed


@given(PATHS)
def test_a_seed_has_63_bits(path: tuple[str | int, ...]) -> None:
    assert 0 <= Key(path).seed < 2**63


@given(PATHS, PATHS)
def test_a_path_may_be_walked_in_any_steps(head: tuple[str | int, ...], tail: tuple[str | int, ...]) -> None:
    key = Key(head)
    for part in tail:
        key = key(part)
    assert key == Key(head)(*tail) == Key(head + tail)


def test_many_chunks_have_distinct_seeds_spread_over_the_range() -> None:
    seeds = np.array([Key.root(0)(1, "generate", "chunk", k).seed for k in range(5000)], float) / 2**63
    assert len(np.unique(seeds)) == 5000
    assert abs(seeds.mean() - 0.5) < 0.02


def test_draws_do_not_depend_on_the_order_of_work() -> None:
    def draw(chunk: int) -> float:
        return float(Key.root(4)(2, "evaluate", chunk).numpy().random())

    forwards = [draw(chunk) for chunk in range(6)]
    assert [draw(chunk) for chunk in reversed(range(6))] == forwards[::-1]


def test_torch_generators_are_keyed() -> None:
    import torch

    key = Key.root(2**62)(3, "fit")
    draws = [torch.rand(3, generator=k.torch()) for k in (key, key, key("other"))]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_all_global_generators_are_seeded() -> None:
    import torch

    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.random()), float(torch.rand(()))

    Key.root(1)("fit").seed_globals()
    first = draw()
    draw()
    Key.root(1)("fit").seed_globals()
    assert draw() == first
    Key.root(2)("fit").seed_globals()
    assert not set(draw()) & set(first)
