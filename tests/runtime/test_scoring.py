from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from flywheel.keys import Key
from flywheel.runtime.scoring import score_chunk


class Says:
    def __init__(self, *scores: Any) -> None:
        self.scores = scores

    def evaluate(self, *_: Any) -> Any:
        return np.array(self.scores, np.float32)


def scored(*scores: float) -> list[float]:
    items = pa.table({"item": ["a", "b"], "cluster": ["a", "b"]})
    found: list[float] = score_chunk(Says(*scores), None, None, items, Key.root(0), {})["score"].to_pylist()
    return found


def test_what_rounding_adds_to_a_mean_is_taken_off() -> None:
    assert scored(1.0000001, -1e-8) == [1.0, 0.0]


@pytest.mark.parametrize("scores", [(1.001, 0.0), (0.0, -0.001), (float("nan"), 0.0), (float("inf"), 0.0)])
def test_other_numbers_beside_the_range_are_refused(scores: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"scores must lie in \[0, 1\]"):
        scored(*scores)
