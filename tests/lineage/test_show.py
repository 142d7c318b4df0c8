import json
from pathlib import Path

import flywheel
from flywheel.keys import Key
from flywheel.lineage.samples import read_samples
from flywheel.lineage.show import show, uncommitted
from flywheel.storage.store import Store
from tests.support.events import record_recall


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
    assert report["artifacts"]["train"]["outputs"] == {
        "weights": record.weights,
        "curve": record.output("train", "curve"),
    }
    assert json.loads(json.dumps(report)) == report


def test_data_is_counted_by_origin(finished_run: Path) -> None:
    data, rows = show(finished_run, 1).data, read_samples(finished_run, 1)
    drawn = rows.filter(rows["keep"])["count"].to_pylist()
    human, generated = data.by_origin
    assert (human.origin, human.source, human.rows, human.made_by) == ("human", "recipe", 10, None)
    assert (generated.origin, generated.made_in, generated.made_by_generation) == ("generated", 1, 0)
    assert generated.rows == sum(count > 0 for count in drawn)
    assert generated.drawn == sum(drawn)
    assert generated.made_by == show(finished_run, 0).weights
    assert data.rows == human.rows + generated.rows


def test_the_session_says_which_code_ran(finished_run: Path) -> None:
    (session,) = show(finished_run, 1).sessions
    assert session.versions["torch"]
    trees = session.checkouts.values()
    for tree in trees:
        assert tree["commit"] == session.commit
        assert (tree["diff"] is not None) == (tree["diff_bytes"] > 0)
        if tree["diff"]:
            assert len(Store(finished_run).get(tree["diff"])) == tree["diff_bytes"]
    sizes = sum(tree["diff_bytes"] for tree in trees if tree["diff"])
    assert len(uncommitted(finished_run, 1)) == sizes, "the changes can be had back"


def test_flags_stand_beside_the_verdict(run_copy: Path) -> None:
    before = show(run_copy, 1)
    record_recall(run_copy, why="a wrong grader")
    flags = [set(show(run_copy, number).flags) - {"champion"} for number in (0, 1, 2)]
    assert flags == [set(), {"recalled"}, {"suspect"}]
    assert show(run_copy, 1).status == before.status
