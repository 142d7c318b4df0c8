"""State outside tensors survives the store as it was, or is refused by name."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flywheel.errors import ConfigError
from flywheel.runtime.extra_state import NAME, pack, unpack
from flywheel.storage.store import Store

KEYS = st.text() | st.sampled_from(["$tensor", "$tuple", "$pairs"])
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | KEYS
OTHER_KEYS = st.integers() | st.booleans() | st.none() | st.tuples(st.integers(), st.text())


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    mappings = st.dictionaries(KEYS, inner) | st.dictionaries(OTHER_KEYS | KEYS, inner, max_size=3)
    return st.lists(inner) | st.tuples(inner, inner) | mappings


@given(st.dictionaries(KEYS, st.recursive(PLAIN, nested, max_leaves=12)))
def test_plain_values_come_back_as_they_were_with_their_types_and_order(state: dict[str, Any]) -> None:
    others, found = unpack(pack(state) | {"weight": torch.ones(1)})
    assert repr(found) == repr(state)
    assert list(others) == ["weight"]


def test_tensors_among_the_values_come_back_through_the_store(tmp_path: Path) -> None:
    state = {"ema": {"a.b": torch.arange(3), "c": [torch.ones(2, dtype=torch.bfloat16), 1.5]}, "n": 3}
    store = Store(tmp_path)
    _, found = unpack(store.weights(store.put_weights(pack(state))))
    assert torch.equal(found["ema"]["a.b"], torch.arange(3))
    assert found["ema"]["c"][0].dtype is torch.bfloat16
    assert (found["ema"]["c"][1], found["n"]) == (1.5, 3)


ARRAYS = [
    np.arange(6.0).reshape(2, 3).T,
    np.float32([1, np.nan]),
    np.array(True),
    np.uint16([3]),
    np.float64(2.5),
    np.int8(3),
    np.bool_(True),
]


@pytest.mark.parametrize("array", ARRAYS, ids=repr)
def test_arrays_and_numbers_of_numpy_come_back(array: Any, tmp_path: Path) -> None:
    store = Store(tmp_path)
    _, found = unpack(store.weights(store.put_weights(pack({"best": [array], "by": {0: array}}))))
    for value in (found["best"][0], found["by"][0]):
        assert type(value) is type(array)
        assert value.dtype == array.dtype
        np.testing.assert_array_equal(value, array)


def test_the_bytes_do_not_depend_on_the_process(tmp_path: Path) -> None:
    state = {"words": {"b": 1, "a": 2}, "shift": torch.ones(2)}
    assert Store(tmp_path).put_weights(pack(state)) == Store(tmp_path).put_weights(pack(state))


@pytest.mark.parametrize(
    "value",
    [
        {1, 2},
        b"x",
        object(),
        Counter("aab"),
        defaultdict(int),
        torch.ones(2, 3).shape,
        np.array([object()]),
        np.datetime64("2024-01-01"),
        torch.float32,
        Path("x"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_would_come_back_as_something_else_is_refused_by_its_name(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"modules\.vocabulary is a "):
        pack({"modules": {"vocabulary": value}})


def test_weights_without_such_state_have_no_entry_for_it() -> None:
    weights = {"weight": torch.ones(1)}
    assert unpack(weights) == (weights, {})
    assert NAME not in weights
