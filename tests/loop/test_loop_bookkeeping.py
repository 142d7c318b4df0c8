"""A turn's bookkeeping is the same work however many turns came before."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from flywheel import loop
from flywheel.storage.store import Store
from tests.support.fake_stages import FakeComponents, on_strings, play

WATCHED = {"loop.py", "runner.py", "state.py", "retention.py", "slim.py", "sources.py", "stages.py"}
ROUND, ROUNDS = 4, 5


class Newest:
    """Keeps people's rows and the newest, so that what a corpus draws on does not grow by itself."""

    def curate(self, samples: pa.Table, carry: Any, key: Any) -> Any:
        made_in = samples["made_in"].to_numpy()
        keep = np.equal(samples["origin"].to_numpy(), "human") | (made_in == made_in.max())
        columns = {"id": samples["id"], "keep": keep, "reason": ["newest"] * len(keep)}
        return columns | {"weight": np.ones(len(keep)), "count": keep.astype(int)}, {}


class Work:
    """Counts lines that are run in the files above, and objects that are opened, by turn."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.lines, self.opened, self.turn = Counter[int](), Counter[int](), 0
        turn, opened = loop.turn, Store.open

        def counted(run: Any, generation: Any) -> None:
            self.turn = generation.number
            turn(run, generation)

        def opening(store: Store, name: str) -> Any:
            self.opened[self.turn] += 1
            return opened(store, name)

        patch.setattr(loop, "turn", counted)
        patch.setattr(Store, "open", opening)

    def trace(self, frame: Any, event: str, arg: Any) -> Any:
        if Path(frame.f_code.co_filename).name not in WATCHED:
            return None
        self.lines[self.turn] += event == "line"
        return self.trace


def of_round(counts: Counter[int], number: int) -> int:
    return sum(counts[turn] for turn in range(number * ROUND, (number + 1) * ROUND))


@pytest.mark.parametrize(
    "retention", [{"promoted": True, "last": 3}, {"promoted": False, "last": 1}], ids=str
)
def test_a_late_turn_is_as_much_work_as_an_early_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, retention: dict[str, Any]
) -> None:
    monkeypatch.setattr(FakeComponents, "verdict", lambda self, ctx: ctx.generation % ROUND == 0)
    with on_strings() as patch:
        work, before = Work(patch), sys.gettrace()
        sys.settrace(work.trace)
        try:
            play(
                tmp_path / "run",
                ROUND * ROUNDS,
                curator=Newest(),
                retention=retention,
                patience=9,
                budget={"seconds": 10**6},
            )
        finally:
            sys.settrace(before)
    assert of_round(work.lines, 3) == of_round(work.lines, 4)
    assert of_round(work.opened, 3) == of_round(work.opened, 4)
