from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flywheel.keys import Key

Path = tuple[str | int, ...]
PARTS = st.integers(-(2**63), 2**63) | st.text(max_size=8)
PATHS = st.lists(PARTS, min_size=1, max_size=4).map(tuple)
GOLDEN = {
    (0,): 6197007067532723406,
    (0, 3, "generate", "chunk", 17): 5201223225938092761,
    (1, "ü", -1): 4386544147336878236,
}


@pytest.mark.parametrize(("path", "seed"), GOLDEN.items())
def test_seeds_are_the_same_for_ever(path: Path, seed: int) -> None:
    assert Key(path).seed == seed


@given(st.sets(PATHS, min_size=2, max_size=8))
def test_other_paths_have_other_seeds(paths: set[Path]) -> None:
    assert len({Key(path).seed for path in paths}) == len(paths)


@pytest.mark.parametrize(
    ("one", "other"),
    [((1, 2), (12,)), (("a", "b"), ("ab",)), ((1,), ("1",)), (("a,b",), ("a", "b")), ((0, 1), (1, 0))],
)
def test_paths_that_look_alike_have_other_seeds(one: Path, other: Path) -> None:
    assert Key(one).seed != Key(other).seed


@given(PATHS, PATHS)
def test_a_path_may_be_walked_in_any_steps(head: Path, tail: Path) -> None:
    key = Key(head)
    for part in tail:
        key = key(part)
    assert key == Key(head)(*tail) == Key(head + tail)
    assert 0 <= key.seed < 2**63


def test_torch_generators_are_keyed() -> None:
    key = Key.root(2**62)(3, "fit")
    draws = [torch.rand(3, generator=k.torch()) for k in (key, key, key("other"))]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_all_global_generators_are_seeded() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.random()), float(torch.rand(()))

    Key.root(1)("fit").seed_globals()
    first = draw()
    draw()
    Key.root(1)("fit").seed_globals()
    assert draw() == first
    Key.root(2)("fit").seed_globals()
    assert not set(draw()) & set(first)


def test_torchs_draws_are_those_after_its_own_seeding() -> None:
    key = Key.root(1)("fit")
    key.seed_globals()
    ours = torch.rand(3)
    torch.manual_seed(key.seed)
    assert torch.equal(ours, torch.rand(3))


NAMES = ["a", "unlabelled-17", "", 'with "quotes" \\ and \n', "ü漢\U0001f600", "12+7"]


def test_each_name_has_the_key_of_its_path() -> None:
    key = Key.root(3)(1, "generate", "prompt")
    keys = key.each(NAMES)
    assert keys.seeds.tolist() == [key(name).seed for name in NAMES]
    assert [rng.random() for rng in keys.numpy()] == [key(name).numpy().random() for name in NAMES]
    assert len(key.each([])) == 0


def test_what_a_row_draws_does_not_depend_on_the_rows_beside_it() -> None:
    keys = Key.root(3)(1).each(f"p{k}" for k in range(50))
    some = keys[[3, 40, 7]]
    assert np.array_equal(keys.uniform(4, "a")[[3, 40, 7]], some.uniform(4, "a"))
    assert np.array_equal(keys.uniform(9, "a")[:, :4], keys.uniform(4, "a"))
    assert not np.isin(keys.uniform(4, "a"), keys.uniform(4, "b")).any()


def test_draws_by_keys_are_uniform_and_independent() -> None:
    keys = Key.root(0)(1).each(str(k) for k in range(4000))
    drawn = np.concatenate([keys.uniform(5, "a"), keys.uniform(5, "b")], 1)
    assert drawn.min() > 0
    assert drawn.max() < 1
    assert np.abs(drawn.mean(0) - 0.5).max() < 0.02
    assert np.abs(np.corrcoef(drawn.T) - np.eye(10)).max() < 0.07
    counts = np.histogram(drawn, 100, (0, 1))[0]
    assert ((counts - 400) ** 2 / 400).sum() < 160  # chi-squared of 99 degrees of freedom
