from __future__ import annotations

import pyarrow as pa
import pytest

from flywheel.graders.confidence import Confidence
from flywheel.keys import Key


def no_model() -> object:
    raise AssertionError("confidence needs no model")


def test_the_score_is_the_producers_probability_row_for_row() -> None:
    samples = pa.table({"id": ["a", "b"], "probability": [0.25, 1.0], "label": [1, 0]})
    scores = Confidence().grade(samples, no_model, Key.root(0))
    assert {name: column.to_pylist() for name, column in scores.items()} == {"confidence": [0.25, 1.0]}


def test_another_column_can_be_named() -> None:
    samples = pa.table({"p": [0.5]})
    assert Confidence(column="p").grade(samples, no_model, Key.root(0))["confidence"].to_pylist() == [0.5]


def test_a_missing_column_is_named() -> None:
    with pytest.raises(KeyError, match="probability"):
        Confidence().grade(pa.table({"p": [0.5]}), no_model, Key.root(0))
