"""State outside tensors survives the store as it was, or is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flywheel.errors import ConfigError
from flywheel.runtime.extra_state import NAME, pack, unpack
from flywheel.storage.store import Store

PLAIN = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
KEYS = st.text().filter(lambda key: key != "$tensor")
TREES = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=12)


@given(st.dictionaries(KEYS, TREES))
def test_json_values_come_back_as_they_were_with_their_types_and_order(state: dict[str, Any]) -> None:
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


def test_the_bytes_do_not_depend_on_the_process(tmp_path: Path) -> None:
    state = {"words": {"b": 1, "a": 2}, "shift": torch.ones(2)}
    assert Store(tmp_path).put_weights(pack(state)) == Store(tmp_path).put_weights(pack(state))


@pytest.mark.parametrize(
    "value",
    [{1: "x"}, (1, 2), {1, 2}, float("nan"), float("inf"), b"x", object(), {"$tensor": "x"}],
    ids=lambda value: type(value).__name__,
)
def test_what_would_come_back_as_something_else_is_refused_by_its_name(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"modules\.vocabulary is a "):
        pack({"modules": {"vocabulary": value}})


def test_weights_without_such_state_have_no_entry_for_it() -> None:
    weights = {"weight": torch.ones(1)}
    assert unpack(weights) == (weights, {})
    assert NAME not in weights
