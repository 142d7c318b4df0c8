from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.records import Scalar
from flywheel.space import Dimension, Space, holds, names_in

NAMES = ("a", "b", "c", "d")


@st.composite
def dimensions(draw: st.DrawFn, name: str = "a") -> Dimension:
    kind = draw(st.sampled_from(["choices", "integers", "floats", "log", "log integers", "steps"]))
    if kind == "choices":
        scalars = st.one_of(st.integers(-5, 5), st.text(max_size=2), st.booleans(), st.none())
        same = {"unique_by": lambda one: (type(one), one)}
        return Dimension(name, choices=tuple(draw(st.lists(scalars, min_size=1, max_size=5, **same))))  # type: ignore[arg-type]
    if "integers" in kind:
        low = draw(st.integers(1, 50))
        high = low + draw(st.integers(0, 10**6))
        step = draw(st.sampled_from([None, 2, 7])) if kind == "integers" else None
        return Dimension(name, low=low, high=high, step=step, log=kind == "log integers")
    low = draw(st.floats(1e-6, 10))
    high = low * draw(st.floats(1, 1000))
    step = draw(st.floats(0.01, 1)) if kind == "steps" else None
    return Dimension(name, low=low, high=high, step=step, log=kind == "log")


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """Conditions name dimensions before them, and values that these can have."""
    made: list[Dimension] = []
    for name in NAMES[: draw(st.integers(1, 4))]:
        dimension = draw(dimensions(name))
        named = [one for one in made if one.choices]
        if named and draw(st.booleans()):
            parent = draw(st.sampled_from(named))
            dimension = Dimension(
                **{key: getattr(dimension, key) for key in ("name", "low", "high", "step", "log", "choices")},
                when={parent.name: (draw(st.sampled_from(parent.choices)),)},
            )
        made.append(dimension)
    return Space(tuple(made))


IN_FORCE: dict[str, Scalar] = dict.fromkeys(NAMES, "in force")


@given(dimensions(), st.integers(0, 2**32))
def test_what_is_drawn_is_allowed(dimension: Dimension, seed: int) -> None:
    for _ in range(5):
        value = dimension.draw(np.random.default_rng(seed))
        assert dimension.allows(value)
        assert 0 <= dimension.share(value) <= 1


@given(dimensions(), st.sampled_from([0.0, 1 - 2**-53]))
def test_the_ends_of_the_way_are_allowed(dimension: Dimension, share: float) -> None:
    assert dimension.allows(dimension.at(share))


@given(dimensions(), st.integers(0, 10**7))
def test_values_and_their_positions_are_inverse(dimension: Dimension, k: int) -> None:
    if dimension.count is not None:
        assert dimension.position(dimension.value(k % dimension.count)) == k % dimension.count


@given(spaces(), st.integers(0, 2**32))
def test_settings_that_are_drawn_lie_in_the_space(space: Space, seed: int) -> None:
    settings = space.draw(IN_FORCE, np.random.default_rng(seed))
    assert space.allows(settings)
    active = {dimension.name for dimension in space.active(settings)}
    assert all(settings[name] == "in force" for name in NAMES if name not in active)


@given(spaces(), st.integers(0, 2**32))
def test_to_complete_its_own_point_changes_nothing(space: Space, seed: int) -> None:
    settings = space.draw(IN_FORCE, np.random.default_rng(seed))
    point = dict(space.point(settings))
    assert space.complete(point, IN_FORCE) == settings
    assert space.complete(settings, IN_FORCE) == settings
    assert space.complete({}, settings) == settings


@given(spaces(), st.integers(0, 2**32))
def test_an_active_dimension_has_active_parents(space: Space, seed: int) -> None:
    settings = space.draw(IN_FORCE, np.random.default_rng(seed))
    active = {dimension.name for dimension in space.active(settings)}
    for dimension in space.active(settings):
        assert set(dimension.when) <= active


@given(spaces())
def test_each_settings_of_a_finite_space_are_other_ones(space: Space) -> None:
    if space.size is not None and space.size <= 1000:
        points = [space.point(settings) for settings in space.each(IN_FORCE)]
        assert len(set(map(repr, points))) == len(points) <= space.size
        assert all(space.allows(settings) for settings in space.each(IN_FORCE))


@pytest.mark.parametrize(
    ("dimension", "values"),
    [
        (Dimension("n", low=2, high=5), (2, 3, 4, 5)),
        (Dimension("n", low=16, high=64, step=16), (16, 32, 48, 64)),
        (Dimension("n", low=16, high=63, step=16), (16, 32, 48)),
        (Dimension("n", low=0.0, high=0.3, step=0.1), (0.0, 0.1, 0.2, 0.30000000000000004)),
        (Dimension("n", choices=("sgd", None, True)), ("sgd", None, True)),
        (Dimension("n", low=0.0, high=1.0), None),
    ],
)
def test_values(dimension: Dimension, values: tuple[Scalar, ...] | None) -> None:
    assert dimension.values() == values


@pytest.mark.parametrize(
    ("dimension", "value", "is_allowed"),
    [
        (Dimension("n", low=1, high=4), 4, True),
        (Dimension("n", low=1, high=4), 4.0, True),
        (Dimension("n", low=1, high=4), 2.5, False),
        (Dimension("n", low=1, high=4), 5, False),
        (Dimension("n", low=1, high=4), True, False),
        (Dimension("n", low=1, high=4), "2", False),
        (Dimension("n", low=1, high=4), None, False),
        (Dimension("n", low=1, high=10**12), 10**12, True),
        (Dimension("n", low=0.0, high=1.0), math.nan, False),
        (Dimension("n", low=0, high=1), math.inf, False),
        (Dimension("n", low=0.1, high=0.9, step=0.2), 0.7, True),
        (Dimension("n", choices=(True, False)), 1, False),
        (Dimension("n", choices=(1, 2)), True, False),
        (Dimension("n", choices=(1e-3, 1e-2)), 0.001, True),
    ],
)
def test_allows(dimension: Dimension, value: Any, is_allowed: bool) -> None:
    assert dimension.allows(value) is is_allowed


def test_log_draws_ratios() -> None:
    rng = np.random.default_rng(0)
    floats = [float(Dimension("n", low=1e-4, high=1.0, log=True).draw(rng)) for _ in range(2000)]  # type: ignore[arg-type]
    assert np.mean(np.array(floats) < 1e-2) == pytest.approx(0.5, abs=0.05)
    whole = [Dimension("n", low=1, high=100, log=True).draw(rng) for _ in range(2000)]
    assert np.mean(np.array(whole) <= 7) == pytest.approx(math.log(15) / math.log(201), abs=0.05)
    steps = [Dimension("n", low=0.0, high=9.0, step=3.0).draw(rng) for _ in range(2000)]
    assert {float(one) for one in steps} == {0.0, 3.0, 6.0, 9.0}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("constraint", "is_kept"),
    [
        ("width * depth <= 64", True),
        ("width * depth < 64", False),
        ("1 < depth < width", True),
        ("optimizer == 'sgd' or lr < 0.1", True),
        ("not (optimizer == 'sgd')", False),
        ("width % 4 == 0 and -depth < 0", True),
    ],
)
def test_constraints(constraint: str, is_kept: bool) -> None:
    settings: dict[str, Any] = {"width": 16, "depth": 4, "lr": 0.1, "optimizer": "sgd"}
    assert holds(constraint, settings) is is_kept


@pytest.mark.parametrize(
    "constraint",
    [
        *("width ** ", "missing < 3", "width < 'a'", "width / 0 > 1", "__import__('os')", "[1]"),
        *("width ** 9999999999 > 1", "'a' * 9999999999 != 'a'", "width ** 9 ** 9 > 1"),
    ],
)
def test_a_constraint_that_cannot_be_computed_is_refused(constraint: str) -> None:
    with pytest.raises(ValueError, match=r"cannot be computed|no setting|is neither"):
        holds(constraint, {"width": 16})


def test_settings_without_a_key_of_the_space_are_not_allowed() -> None:
    space = Space((Dimension("lr", low=0.0, high=1.0), Dimension("width", low=1, high=4)))
    assert space.allows({"lr": 0.5, "width": 2})
    assert not space.allows({"lr": 0.5})


def test_shapes_are_of_fresh_weights() -> None:
    space = Space((Dimension("lr", low=0.0, high=1.0), Dimension("width", low=1, high=4, shape=True)))
    assert [d.name for d in space.of_fresh(False).dimensions] == ["lr"]
    assert space.of_fresh(True) == space


def test_the_first_stage_that_changes() -> None:
    space = Space(
        (
            Dimension("lr", low=0.0, high=1.0),
            Dimension("votes", low=1, high=9, redo_from="curate"),
            Dimension("temperature", low=0.0, high=1.0, redo_from="generate"),
        )
    )
    now = {"lr": 0.1, "votes": 3, "temperature": 0.5}
    assert space.redo_from(now, now) == "train"
    assert space.redo_from({**now, "lr": 0.2}, now) == "train"
    assert space.redo_from({**now, "lr": 0.2, "votes": 5}, now) == "curate"
    assert space.redo_from({**now, "votes": 5, "temperature": 0.1}, now) == "generate"


def test_the_settings_that_a_constraint_names() -> None:
    assert names_in("width * depth <= 512 and not (optimizer == 'sgd' or lr < 2)") == {
        *("width", "depth", "optimizer", "lr")
    }


@pytest.mark.parametrize(
    "text", ["width", "width * 2", "-width", "f(x) == 1", "a.b == 1", "x if y else z", "a <"]
)
def test_what_is_no_comparison_of_settings_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"compares nothing|is neither|cannot be read"):
        names_in(text)
