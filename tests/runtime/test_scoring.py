from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from flywheel.keys import Key
from flywheel.runtime.scoring import score_unit


class Says:
    def __init__(self, scores: Any) -> None:
        self.scores = scores

    def evaluate(self, *_: Any) -> Any:
        return self.scores


def scored(scores: Any) -> list[float]:
    items = pa.table({"item": ["a", "b"], "cluster": ["a", "b"]})
    keys = Key.root(0).each(["a", "b"])
    return list(score_unit(Says(scores), None, None, items, keys, {})["score"].to_pylist())


STEP = 2.0**-7  # of bfloat16, at 1
ROUNDED = {
    "float32": np.array([1.0000001, -1e-8], np.float32),
    "float16": np.array([1.001, -1e-4], np.float16),
    "bfloat16": torch.tensor([1 + STEP, 0.0], dtype=torch.bfloat16),
    "gradient": torch.tensor([1.0, 0.0], requires_grad=True),
    "-0.0": [1, -0.0],
    "bool": torch.tensor([True, False]),
    "bools": [np.bool_(True), False],
    "scalars": [np.float16(1), torch.tensor(0)],
    "decimals": pa.array([Decimal(1), Decimal(0)]),
    "chunks": pa.chunked_array([[1.0], [0.0]]),
    "bytes": np.array([1, 0], np.uint8),
}


@pytest.mark.parametrize("kind", ROUNDED)
def test_scores_may_come_in_any_numbers_and_rounding_is_taken_off(kind: str) -> None:
    assert list(map(str, scored(ROUNDED[kind]))) == ["1.0", "0.0"]


NUMBERS = {
    "above": ([1.001, 0.0], "1 of 2 do not, the first is 1.001, of item 'a'"),
    "below": (np.array([0.0, -0.001], np.float32), "the first is -0.001, of item 'b'"),
    "two steps": (torch.tensor([1 + 2 * STEP, 0.0], dtype=torch.bfloat16), "1 of 2 do not"),
    "infinite": ([0.0, np.inf], "the first is inf, of item 'b'"),
    "nan": ([0.0, np.nan], "the first is nan, of item 'b'"),
    "none": ([None, 0.5], "the first is nan, of item 'a'"),
    "null": (pa.array([0.5, None]), "the first is nan, of item 'b'"),
    "masked": (np.ma.array([0.5, 1.0], mask=[True, False]), "the first is nan, of item 'a'"),
    "percent": ([50, 100], "2 of 2 do not, the first is 50"),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_other_numbers_beside_the_range_are_refused(kind: str) -> None:
    scores, message = NUMBERS[kind]
    with pytest.raises(ValueError, match=rf"scores must lie in \[0, 1\]; .*{message}"):
        scored(scores)


@pytest.mark.parametrize("scores", [["0.5", "1"], [1j, 0], np.array([0, 1], "m8[s]")], ids=str)
def test_what_is_no_number_is_no_score(scores: Any) -> None:
    with pytest.raises(ValueError, match="scores must be numbers; evaluate"):
        scored(scores)
