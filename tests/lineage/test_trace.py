"""Where samples and generations came from, and how fast that is found."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from flywheel.errors import RunError
from flywheel.lineage.graph import Graph
from flywheel.lineage.samples import samples
from flywheel.lineage.status import read_state
from flywheel.lineage.trace import trace
from flywheel.storage import ids
from flywheel.storage.state import Generation, RunState, Status
from flywheel.storage.store import Store
from tests.support.events import event_of
from tests.support.fake_stages import on_strings, play


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with on_strings():
        folder = tmp_path_factory.mktemp("fakes") / "fake" / "run"
        play(folder, 5, seed=1)
        yield folder


def an_id(run: Path, turn: int) -> str:
    return samples(run, read_state(run), turn)["id"][0].as_py()


@pytest.mark.parametrize("length", [8, 32])
def test_a_sample_is_found_by_the_beginning_of_its_id(run: Path, length: int) -> None:
    name = an_id(run, 4)
    answer = trace(run, sample=name[:length]).json()
    parent = read_state(run).generations[4].parent
    assert (answer["sample"]["id"], answer["sample"]["made_in"]) == (name, 4)
    assert answer["sample"]["made_by_generation"] == answer["up"][0]["generation"] == parent
    assert answer["up"][-1]["generation"] == 0
    assert any(e["type"] == "produced_by" and e["generation"] is None for e in answer["up"][-1]["edges"])


def test_a_human_sample_has_no_ancestors(run: Path) -> None:
    answer = trace(run, sample=an_id(run, 0), down=False).json()
    assert (answer["sample"]["made_by"], answer["up"]) == (None, [])
    assert "down" not in answer


@pytest.mark.parametrize("length", [8, 32])
def test_a_human_sample_is_of_the_first_genesis_also_if_that_was_cut_off(tmp_path: Path, length: int) -> None:
    run = tmp_path / "runs" / "fakes" / "run"
    with on_strings():
        play(run, 1, stages=1)  # before the ids of its seed were noted
        play(run, 1, leaves={(0, "train"): RuntimeError("so it shall be")})
        play(run, 1)
        name = an_id(run, 0)
        answer = trace(run, sample=name[:length]).json()
    assert answer["sample"]["made_in"] == 0
    assert answer["down"]["samples"][0]["made_in"] == 0


@pytest.mark.parametrize(("prefix", "rule"), [("", "with which 19 begin"), ("xyz", "has no sample")])
def test_what_names_no_one_sample_is_refused(run: Path, prefix: str, rule: str) -> None:
    with pytest.raises(RunError, match=rule):
        trace(run, sample=prefix)
    for number in (99, -1):
        with pytest.raises(RunError, match=f"champion, last or final; got {number}"):
            trace(run, generation=number)


@pytest.mark.parametrize("damage", ["missing", "torn", "half", "wrong", "twice"])
def test_the_index_is_derived(run: Path, damage: str) -> None:
    path, name = run / ids.FILE, an_id(run, 3)
    trace(run, sample=name)
    whole = path.read_bytes()
    changed = {
        "missing": b"",
        "torn": whole[:-5],
        "half": whole[: len(whole) // 72 * 36],
        "wrong": whole.replace(name.encode(), b"0" * 32),
        "twice": whole * 2,
    }
    path.write_bytes(changed[damage])
    assert trace(run, sample=name).json()["sample"]["made_in"] == 3


def test_the_loop_keeps_the_index(run: Path, tmp_path: Path) -> None:
    with on_strings():
        play(tmp_path / "run", 2)
    assert (tmp_path / "run" / ids.FILE).stat().st_size == (4 + 2 * 3) * 36


def long_state(turns: int) -> RunState:
    """A state of so many promoted generations, each trained on its own batch from its parent's weights."""
    state = RunState()
    for n in range(turns):
        g = Generation(n, n - 1 if n else None, Status.PROMOTED)
        batch = "seed" if n == 0 else "generate"
        name = f"{n:064x}.parquet"
        rows = {"human": 10} if n == 0 else {"made": 10}
        g.stages[batch] = event_of("stage", stage=batch, outputs={"samples": name}, facts=rows)
        sources = [[f"{0:064x}.parquet", None, 10], *([[name, None, 1]] if n else [])]
        facts = {"corpus": "c", "by_origin": {"human": 10}}
        outputs = {"corpus": "c", "sources": json.dumps(sources)}
        g.stages["curate"] = event_of("stage", stage="curate", outputs=outputs, facts=facts)
        start = {"kind": "parent", "weights": f"w{n - 1}", "origin": n - 1} if n else {"kind": "fresh"}
        g.stages["train"] = event_of(
            "stage", stage="train", outputs={"weights": f"w{n}"}, facts={"start": start}
        )
        state.generations.append(g)
    return state


def test_ancestors_in_ten_thousand_generations_take_no_time(tmp_path: Path) -> None:
    turns, state = 10_000, long_state(10_000)
    records = np.zeros(turns * 10, [("made_in", "<i4"), ("id", "S32")])
    records["made_in"] = np.repeat(np.arange(turns), 10)
    records["id"] = [f"{n * 2654435761 % 2**128:032x}" for n in range(turns * 10)]
    (tmp_path / ids.FILE).write_bytes(records.tobytes())
    wanted = records["id"][50_005].decode()

    class OneBatch(Store):
        def table(self, name: str, columns: list[str] | None = None) -> pa.Table:
            return pa.table({"id": [wanted]})

        def json(self, name: str) -> Any:
            return json.loads(name)

    began = time.process_time()
    assert ids.find(tmp_path, state, OneBatch(tmp_path), wanted) == [(5000, wanted)]
    assert sum(1 for _ in Graph(OneBatch(tmp_path), state).ancestors([9_999])) == turns
    assert time.process_time() - began < 0.7
