from __future__ import annotations

import json
from pathlib import Path

import pytest

import flywheel
from flywheel.errors import RunError
from flywheel.keys import Key
from flywheel.lineage.record import Record
from flywheel.lineage.samples import samples
from flywheel.lineage.show import show, uncommitted
from flywheel.storage.ledger import Ledger
from flywheel.storage.recall_rules import carries_without
from flywheel.storage.state import RunState
from tests.support.events import event_of


def test_all_that_made_a_generation(finished_run: Path) -> None:
    run = flywheel.open_run(finished_run)
    report = run.show(1).json()
    record = run.generation(1).record
    assert report["run"] == str(finished_run)
    assert report["parent"] == 0
    assert report["settings"] == record.settings
    assert report["config"]["settings"]["steps"] == report["settings"]["steps"]
    assert f"{report['weights']}.safetensors" == record.weights
    assert report["seeds"]["stages"]["train"] == Key.root(0)(1, "train").seed
    assert report["batch"]["grader"] == "Confidence"
    assert report["cost"]["steps"] == record.train.facts.steps
    assert report["artifacts"]["train"]["outputs"] == {"weights": record.weights}
    assert json.loads(json.dumps(report)) == report


def test_data_is_counted_by_origin(finished_run: Path) -> None:
    data = show(finished_run, 1).json()["data"]
    made = samples(finished_run, Record.read(finished_run).state, 1)
    drawn = made.filter(made["keep"])["count"].to_pylist()
    human, generated = data["by_origin"]
    assert (human["origin"], human["source"], human["rows"], human["made_by"]) == (
        "human",
        "recipe",
        10,
        None,
    )
    assert (generated["origin"], generated["made_in"], generated["made_by_generation"]) == ("generated", 1, 0)
    assert generated["rows"] == sum(count > 0 for count in drawn)
    assert generated["drawn"] == sum(drawn)
    assert generated["made_by"] == show(finished_run, 0).json()["weights"]
    assert data["rows"] == human["rows"] + generated["rows"]


def test_the_session_says_which_code_ran(finished_run: Path) -> None:
    (session,) = show(finished_run, 1).json()["sessions"]
    assert session["versions"]["torch"]
    for tree in session["checkouts"].values():
        assert tree["commit"] == session["commit"]
        assert (tree["diff"] is not None) == (tree["diff_bytes"] > 0)
        if tree["diff"]:
            assert len(Record.read(finished_run).store.get(tree["diff"])) == tree["diff_bytes"]


def test_the_uncommitted_changes_can_be_had_back(finished_run: Path) -> None:
    (session,) = show(finished_run, 1).json()["sessions"]
    sizes = sum(tree["diff_bytes"] for tree in session["checkouts"].values() if tree["diff"])
    assert len(uncommitted(finished_run, 1)) == sizes


def test_flags_stand_beside_the_verdict(run_copy: Path) -> None:
    before = show(run_copy, 1).json()
    ledger = Ledger(run_copy)
    recall = {"why": "a wrong grader", "by": "generation 1", "strict": False, "champion": 0}
    carry = dict(carries_without(RunState.replay(ledger), 0, {1, 2}).artifacts)
    recall |= {"generations": [1], "suspect": [2], "samples": "0" * 64 + ".parquet", "carry": carry}
    ledger.append(event_of("recalled", **recall))
    ledger.close()
    flags = [set(show(run_copy, number).json()["flags"]) - {"champion"} for number in (0, 1, 2)]
    assert flags == [set(), {"recalled"}, {"suspect"}]
    assert show(run_copy, 1).json()["status"] == before["status"]


@pytest.mark.parametrize("number", [-1, 3])
def test_a_number_that_there_is_not(finished_run: Path, number: int) -> None:
    with pytest.raises(RunError, match=f"0 to 2, champion or last; got {number}"):
        show(finished_run, number)
