import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import flywheel
from flywheel.errors import DamagedError, RunError
from flywheel.lineage.graph import Ancestor, Edge, Init, lineage
from flywheel.lineage.status import all_runs, bare, find_run, find_runs, read_state, status, summary_line
from flywheel.storage import lock
from flywheel.testing import CONFIG_DIR


@pytest.fixture
def runs(finished_run: Path, tmp_path: Path) -> Path:
    """Three runs of two recipes; the newest is moons/b."""
    for age, name in enumerate(["moons/b", "moons/a", "suns/a"]):
        shutil.copytree(finished_run, tmp_path / name)
        os.utime(tmp_path / name / "ledger.jsonl", (10**9 - age, 10**9 - age))
    return tmp_path


@pytest.fixture(scope="module")
def continued(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one turn whose candidate starts from its parent's weights."""
    overrides = {"recipe": "moons", "log": "quiet", "generations": 1, "threads": 1, "init": "parent"}
    runs = str(tmp_path_factory.mktemp("continued"))
    return flywheel.run({**overrides, "runs_dir": runs}, config_dir=CONFIG_DIR).path


def test_a_run_is_found_by_path_by_recipe_and_name_by_name_and_by_recipe(runs: Path) -> None:
    a, b = runs / "moons" / "a", runs / "moons" / "b"
    assert find_run(str(a), "/elsewhere") == a
    assert find_run("moons/a", str(runs)) == a
    assert find_run("b", str(runs)) == b
    assert find_run("moons", str(runs)) == b
    assert find_run("a", str(runs)) == a
    assert find_run("moons/a", str(runs), changes=True) == a


@pytest.mark.parametrize("name", ["a", "moons"])
def test_what_is_changed_is_not_chosen_among_several(runs: Path, name: str) -> None:
    fitting = find_runs(name, str(runs))
    assert len(fitting) == 2
    with pytest.raises(RunError, match=r"the name of 2: .*, .*Give RECIPE/NAME") as refused:
        find_run(name, str(runs), changes=True)
    assert all(str(path) in str(refused.value) for path in fitting)


def test_runs_are_listed_from_old_to_new(runs: Path) -> None:
    assert all_runs(str(runs)) == [runs / "suns" / "a", runs / "moons" / "a", runs / "moons" / "b"]
    assert all_runs(str(runs / "nothing")) == []


def test_a_run_that_is_not_there_is_told_with_near_misses(runs: Path) -> None:
    with pytest.raises(RunError, match=r"There is no run 'moons/c'\. Did you mean moons/[ab] or moons/[ab]"):
        find_run("moons/c", str(runs))
    with pytest.raises(RunError, match=r"Under .*nothing: none"):
        find_run("x", str(runs / "nothing"))


@pytest.fixture(scope="module")
def report(finished_run: Path) -> dict[str, Any]:
    return status(finished_run).json()


def test_a_status_says_where_a_run_stands(finished_run: Path, report: dict[str, Any]) -> None:
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    about = {"run", "recipe", "state", "writer", "reason", "head", "forked_from", "held_out"}
    about |= {"champion", "frontier", "promotion", "final", "code_changes", "error_budget", "generations"}
    assert set(report) == about | {"sealed_openings", "gate_beside_sealed", "spent"}
    assert (report["run"], report["recipe"], report["state"]) == (str(finished_run), "moons", "finished")
    assert report["head"] == (finished_run / "HEAD").read_text().strip()


def test_a_status_says_what_each_generation_is(report: dict[str, Any]) -> None:
    genesis, first, second = report["generations"]
    assert [g["generation"] for g in (genesis, first, second)] == [0, 1, 2]
    end = {"status", "reason", "recalled", "suspect", "abandoned", "audit", "metrics", "cost"}
    origin = {"generation", "parent", "champion", "refit_of", "init", "weights", "corpus", "by_origin"}
    assert (genesis["parent"], genesis["status"], genesis["init"]) == (None, "promoted", "fresh")
    assert genesis["by_origin"] == {"human": 10}
    assert (first["parent"], first["init"]) == (0, "fresh")
    assert set(first["by_origin"]) == {"human", "generated"}
    for generation in (genesis, first, second):
        assert set(generation) == origin | end
        assert len(generation["weights"]) == len(generation["corpus"]) == 64
        assert set(generation["metrics"]) >= {"dev", "gate"}
        for numbers in generation["metrics"]["gate"].values():
            assert set(numbers) == {"value", "low", "high"}
            assert 0 <= numbers["low"] <= numbers["value"] <= numbers["high"] <= 1
        cost = generation["cost"]
        assert set(cost) == {"seconds", "cpu_seconds", "lost_seconds", "steps", "flops", "stages"}
        assert cost["flops"] > 0
        assert cost["steps"] == 40
        assert cost["seconds"] == pytest.approx(sum(cost["stages"].values()), abs=0.01)


def test_the_sealed_suite_is_looked_at_for_champions_only(report: dict[str, Any]) -> None:
    looked_at = [g["generation"] for g in report["generations"] if "sealed" in g["metrics"]]
    assert set(looked_at) == {0, report["champion"]["generation"]}


def test_the_champion_is_named_with_its_weights(report: dict[str, Any]) -> None:
    assert set(report["champion"]) == {"generation", "weights"}
    champion = report["generations"][report["champion"]["generation"]]
    assert champion["status"] == "promoted"
    assert report["champion"]["weights"] == champion["weights"]


def standing(run: Path) -> tuple[str, str | None]:
    return status(run).state, status(run).writer


def test_a_run_that_is_being_written_is_running(run_copy: Path) -> None:
    lock.acquire(run_copy)
    try:
        assert standing(run_copy) == ("running", "run")
    finally:
        lock.release(run_copy)
    assert standing(run_copy) == ("finished", None)


@pytest.mark.parametrize("work", [work for work in lock.Work if work is not lock.Work.RUN])
def test_a_run_that_is_written_by_something_else_is_not_running(run_copy: Path, work: lock.Work) -> None:
    lock.acquire(run_copy, work)
    try:
        assert standing(run_copy) == ("finished", work)
        line = summary_line(run_copy, read_state(run_copy))
        assert "running" not in line
        assert line.endswith(f"finished  (all generations are made)  (being {work.passive})")
    finally:
        lock.release(run_copy)


def test_a_damaged_run_has_no_status(run_copy: Path) -> None:
    ledger = run_copy / "ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes().replace(b'"rejected"', b'"promoted"', 1))
    with pytest.raises(DamagedError):
        status(run_copy)


def edges(entry: Ancestor) -> dict[str, Edge]:
    return {edge.type: edge for edge in entry.edges}


def test_lineage_says_what_each_generation_was_made_from(finished_run: Path) -> None:
    answer = lineage(finished_run, read_state(finished_run))
    genesis, first, _ = answer.generations
    assert set(edges(genesis)) == {"trained_on", "init", "produced_by"}
    assert edges(genesis)["trained_on"].by_origin == {"human": 10}
    assert [(e.generation, e.made_in) for e in first.edges if e.type == "produced_by"] == [(None, 0), (0, 1)]
    assert (edges(first)["graded_by"].grader, edges(first)["opponent"].generation) == ("Confidence", 0)
    assert json.loads(json.dumps(answer.json())) == answer.json()


def test_lineage_says_whose_weights_a_generation_started_from(continued: Path) -> None:
    genesis, first = lineage(continued, read_state(continued)).generations
    parent = Init(init="parent", generation=0, weights=genesis.weights, forked_from=None)
    assert edges(first)["init"] == parent
    assert edges(genesis)["init"] == Init(init="fresh", generation=None, weights=None, forked_from=None)


def test_bare_names() -> None:
    assert bare("ab.parquet") == "ab"
    assert bare(None) is None


def test_a_state_can_be_read_while_the_last_line_is_torn(run_copy: Path) -> None:
    whole = read_state(run_copy)
    with open(run_copy / "ledger.jsonl", "ab") as file:
        file.write(b'{"event":"session_star')
    assert read_state(run_copy) == whole
