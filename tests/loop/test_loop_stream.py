"""Runs whose curator decides in a stream: each turn decides on what is new, and comes to the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flywheel
from flywheel.curators import Dedupe, Pipeline, Threshold
from flywheel.runtime import inputs
from flywheel.storage.corpus import read_chosen
from flywheel.storage.store import Store
from flywheel.testing import CONFIG_DIR
from tests.support.harness import events
from tests.support.loop_runs import quick_folder, table_of, unsealed


def run_pipeline(runs: Path, **overrides: Any) -> flywheel.Run:
    steps = {"sure": Threshold(score="confidence", least=0.6), "dedupe": Dedupe(unique=["prompt"])}
    small = {"settings.steps": 3, "task.unlabelled": 60, "human_share": 0.3, "generations": 3}
    ours = {"recipe": "moons", "name": "run", "log": "quiet", "runs_dir": str(runs), "seal": "reopen"}
    return flywheel.run({**ours, **small, **overrides}, config_dir=CONFIG_DIR, curator=Pipeline(steps=steps))


@pytest.fixture(scope="module")
def run() -> Iterator[flywheel.Run]:
    """Three turns. To be read only."""
    with quick_folder() as folder:
        yield run_pipeline(folder)


def curated(run: flywheel.Run) -> list[dict[str, Any]]:
    return [event["facts"] for event in events(run.path) if event.get("stage") == "curate"]


def test_each_turn_decides_on_its_own_batch_and_readers_find_all_decisions(run: flywheel.Run) -> None:
    own = [table_of(run, number, "curate", "decisions") for number in range(4)]
    batches = [run.samples(number) for number in range(4)]
    assert [len(table) for table in own] == [len(batch) for batch in batches]
    for number, batch in enumerate(batches):
        assert batch["keep"].null_count == batch["reason"].null_count == 0
        rows = run.query(f"SELECT id, reason FROM decisions WHERE generation = {number}")
        assert rows["id"].to_pylist() == batch["id"].to_pylist()
    last = run.generation(3)
    assert len(last.corpus()) == sum(batch["keep"].to_numpy().sum() for batch in batches)
    traced = run.trace(sample=batches[1]["id"][0].as_py())
    assert traced.sample is not None
    assert traced.sample.row["reason"] == batches[1]["reason"][0].as_py()
    drawn = {share.made_in: share.drawn for share in run.show(3).data.by_origin}
    assert drawn[0] / sum(drawn.values()) == pytest.approx(0.3, abs=0.01)
    assert run.verify().ok


def test_a_run_that_decides_on_everything_in_each_turn_comes_to_the_same(
    run: flywheel.Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "stream_before", lambda *_: None)
    twin = run_pipeline(folder)
    assert curated(twin) == curated(run)
    assert [twin.generation(k).record.weights for k in range(4)] == [
        run.generation(k).record.weights for k in range(4)
    ]
    assert len(table_of(twin, 3, "curate", "decisions")) > len(table_of(run, 3, "curate", "decisions"))


def test_a_run_that_is_resumed_goes_on_where_it_was(run: flywheel.Run, folder: Path) -> None:
    for generations in (0, 1, 2, 3):
        resumed = run_pipeline(folder, generations=generations)
    assert unsealed(resumed.path) == unsealed(run.path)


def test_after_a_recall_no_row_of_it_is_drawn_and_what_it_hid_is(folder: Path) -> None:
    run = run_pipeline(folder, generations=2)
    batch = run.samples(1)
    report = run.recall(generation=1, why="flawed", yes=True)
    assert report.samples
    run = run_pipeline(folder, generations=4)
    last = run.generation(4)
    decided = table_of(run, last.number, "curate", "decisions")
    corpus = read_chosen(Store(run.path), str(last.record.output("curate", "corpus")))
    gone = set(batch["id"].to_pylist())
    assert gone.isdisjoint(corpus["id"].to_pylist())
    assert gone.isdisjoint(decided["id"].to_pylist())
    assert run.verify().ok


def test_what_is_pruned_is_decided_on_again_or_not_needed(folder: Path) -> None:
    run = run_pipeline(folder, generations=2, **{"retention.last": 1})
    kept = run_pipeline(folder, generations=4, **{"retention.last": 1})
    assert kept.verify().ok
    assert run.path == kept.path
    batches = [len(kept.samples(number)) for number in range(5)]
    own = table_of(kept, 4, "curate", "decisions")
    assert len(own) == batches[4]
