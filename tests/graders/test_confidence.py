from __future__ import annotations

import pyarrow as pa
import pytest

from flywheel.graders.confidence import Confidence
from flywheel.keys import Key


def no_model() -> object:
    raise AssertionError("confidence needs no model")


@pytest.mark.parametrize("column", ["probability", "p"])
def test_the_score_is_the_producers_probability_row_for_row(column: str) -> None:
    samples = pa.table({"id": ["a", "b"], column: [0.25, 1.0], "label": [1, 0]})
    grader = Confidence() if column == "probability" else Confidence(column=column)
    assert grader.grade(samples, no_model, Key.root(0)) == {"confidence": samples[column]}


def test_a_missing_column_is_named() -> None:
    with pytest.raises(KeyError, match="probability"):
        Confidence().grade(pa.table({"p": [0.5]}), no_model, Key.root(0))
