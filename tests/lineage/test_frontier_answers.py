"""What questions to a run with a frontier, and to one without a test, answer."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

import flywheel
from flywheel.cli.commands.recall import lines
from flywheel.cli.main import main
from flywheel.errors import ExitCode
from flywheel.lineage.diff import diff
from flywheel.lineage.graph import Opponent, lineage
from flywheel.lineage.item_history import evaluated_suites, item_history
from flywheel.lineage.recall import recall, rollback
from flywheel.lineage.record import Record
from flywheel.lineage.review import asked
from flywheel.lineage.show import show
from flywheel.lineage.status import (
    gate_beside_sealed,
    gate_beside_sealed_text,
    metrics,
    read_state,
    status,
    summary_line,
)
from flywheel.lineage.views import outcomes
from flywheel.storage.state import RunState
from tests.support.events import event_of
from tests.support.loop_runs import run_moons

ESTIMATE = {"value": 0.9, "low": 0.8, "high": 0.95}


@pytest.fixture
def frontier_copy(frontier_run: Path, tmp_path: Path) -> Path:
    """The frontier's run that a test may change."""
    return Path(shutil.copytree(frontier_run, tmp_path / "run"))


@pytest.fixture(scope="module")
def report(frontier_run: Path) -> dict[str, Any]:
    return status(frontier_run).json()


def test_a_status_says_what_is_ahead_of_the_champion(report: dict[str, Any]) -> None:
    assert report["champion"]["generation"] == 1
    frontier = report["generations"][5]
    assert report["frontier"] == {"generation": 5, "weights": frontier["weights"]}
    rule = {"rule": "frontier", "every": 2, "patience": 1, "harm": 0.07}
    assert report["promotion"] == {**rule, "looks_in_vain": 1, "ahead": [5], "falls_back": True}
    statuses = [(g["status"], g["abandoned"]) for g in report["generations"]]
    assert statuses[3:] == [("advanced", True), ("rejected", False), ("advanced", False)]
    assert [(g["parent"], g["champion"]) for g in report["generations"]][1:5] == [
        (0, 0),
        (1, 0),
        (1, 1),
        (3, 1),
    ]


def test_dev_figures_are_of_the_screening_where_there_was_no_evaluation(frontier_run: Path) -> None:
    state = read_state(frontier_run)
    looked_at, screened = state.generations[1], state.generations[2]
    assert list(metrics(screened, state)) == ["dev"]
    assert metrics(screened, state)["dev"] == screened.screen.facts.metrics["dev"]
    assert metrics(looked_at, state)["dev"] is looked_at.evaluate.facts.metrics["dev"]


def test_a_run_of_which_every_candidate_is_looked_at_has_no_frontier(finished_run: Path) -> None:
    ours = status(finished_run)
    assert ours.frontier is None
    assert (ours.promotion.rule, ours.promotion.every, ours.promotion.ahead) == ("each", None, ())
    assert str(ours.promotion) == ""


def test_greedy_says_that_it_is_no_test(greedy_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = status(greedy_run)
    assert (ours.error_budget, ours.promotion.rule) == (None, "greedy")
    assert summary_line(greedy_run, read_state(greedy_run)).endswith("promotion=greedy: no test")
    assert show(greedy_run, 1).flags == ["champion", "no test"]
    assert show(greedy_run, 0).flags == []
    commands = [("status",), ("lineage",), ("show",), ("diff", "0", "1"), ("bundle", "1")]
    for words in (*commands, ("trace", "--generation", "1")):
        out = ["--out", str(greedy_run.parent / "handed over")] if words[0] == "bundle" else []
        assert main([words[0], str(greedy_run), *words[1:], *out]) == 0
        told = capsys.readouterr()
        assert "no test" in told.out + told.err, words


def test_a_generation_shows_what_it_was_compared_with_on_dev(frontier_run: Path) -> None:
    second = show(frontier_run, 2)
    assert [one.generation for one in second.screened] == [0, 1]
    assert (second.parent, second.champion, second.verdict) == (1, 0, None)
    assert show(frontier_run, 3).flags == ["abandoned"]
    assert show(frontier_run, 5).flags == ["frontier"]


def test_show_prints_the_champion_to_beat(frontier_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["show", str(frontier_run), "2"])
    told = capsys.readouterr().out
    assert "generation 0, the champion" in told
    assert "screened on dev" in told
    main(["show", str(frontier_run), "3"])
    assert "the champion" not in capsys.readouterr().out.partition("data")[0], "it is the parent"


def test_the_tree_names_the_abandoned(frontier_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["lineage", str(frontier_run)])
    assert "generation 3 advanced abandoned" in capsys.readouterr().out
    nodes = lineage(frontier_run, read_state(frontier_run)).generations
    assert [node.generation for node in nodes if node.abandoned] == [3]
    opponents = {
        node.generation: [e.generation for e in node.edges if isinstance(e, Opponent)] for node in nodes
    }
    assert opponents == {0: [], 1: [0], 2: [0, 1], 3: [1], 4: [1, 3], 5: [1]}


def test_outcomes_of_a_screening_are_rows_of_their_own(frontier_run: Path) -> None:
    rows = outcomes(Record.read(frontier_run)).select(["generation", "stage"])
    counts = rows.group_by(["generation", "stage"]).aggregate([([], "count_all")]).to_pylist()
    by_stage = {(row["generation"], row["stage"]): row["count_all"] for row in counts}
    assert by_stage[0, "evaluate"] == by_stage[1, "evaluate"] == 400
    assert [by_stage[n, "screen"] for n in range(1, 6)] == [200] * 5
    assert (2, "evaluate") not in by_stage


def test_query_has_the_frontier(frontier_run: Path) -> None:
    pytest.importorskip("duckdb", reason='pip install -e ".[query]" brings it')
    columns = "generation, opponent, frontier, abandoned"
    sql = f"SELECT {columns} FROM generations WHERE abandoned OR frontier ORDER BY 1"
    rows = flywheel.open_run(frontier_run).query(sql).to_pylist()
    assert [tuple(row.values()) for row in rows] == [(3, 1, False, True), (5, 1, True, False)]


def test_items_are_compared_once_however_often_they_were_scored(frontier_run: Path) -> None:
    answer = diff(frontier_run, 1, frontier_run, 2).outcomes
    assert (answer["dev"].items.a, answer["dev"].items.b, answer["dev"].items.compared) == (200, 200, 200)
    assert (answer["gate"].items.a, answer["gate"].items.b) == (200, 0)


def test_an_item_has_one_score_a_generation(frontier_run: Path) -> None:
    record = Record.read(frontier_run)
    assert evaluated_suites(record.state, record.store) == ["dev", "gate", "sealed"]
    history = item_history(record.state, record.store, "dev", "dev-0")
    assert [score.generation for score in history.scores] == [0, 1, 2, 3, 4, 5]
    assert [s.generation for s in item_history(record.state, record.store, "gate", "gate-0").scores] == [
        0,
        1,
        3,
        5,
    ]


def test_a_recall_says_where_the_frontier_goes(frontier_copy: Path) -> None:
    told = list(lines(recall(frontier_copy, generation=5, why="wrong")))
    assert told[1:3] == ["  champion     stays generation 1", "  frontier     generation 5 -> generation 1"]
    told = list(lines(recall(frontier_copy, generation=3, why="wrong", yes=True)))
    assert told[2] == "  frontier     stays generation 5"
    assert told[-1].endswith("with seal=reopen as its sealed suites were opened, goes on from the frontier.")


def test_a_recall_of_a_run_without_frontier_says_nothing_of_one(run_copy: Path) -> None:
    assert not any("frontier" in line for line in lines(recall(run_copy, generation=1, why="wrong")))


def test_a_rollback_gives_the_frontier_up(frontier_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollback", str(frontier_copy), "0", "--why", "worse elsewhere"]) == 0
    told = capsys.readouterr().out
    assert "the champion is generation 0, no longer 1" in told
    assert "The frontier, generation 5, is given up" in told
    assert "with seal=reopen as its sealed suites were opened, goes on from the champion." in told
    assert status(frontier_copy).frontier is None
    answer = rollback(frontier_copy, 1, "no")
    assert (answer.frontier, answer.champion) == (answer.champion, answer.frontier)


@pytest.mark.parametrize(
    ("sealed", "pairs"),
    [
        (["sealed"], [("gate", "sealed")]),
        (["fresh_gate", "other"], [("gate", "fresh_gate")]),
        (["carry", "uneven"], []),
        ([], []),
    ],
)
def test_the_gate_stands_beside_the_sealed_suite_that_asks_the_like(
    sealed: list[str], pairs: list[tuple[str, str]]
) -> None:
    roles = {"gate": "gate", **dict.fromkeys(sealed, "sealed")}
    data = {f"suite {name}": {"name": name, "role": role} for name, role in roles.items()}
    weights = {"weights": "ab" * 32 + ".safetensors"}
    at = {"generation": 0}
    events = [
        event_of("run_created", data=data),
        event_of("generation_started", parent=None, champion=None, **at),
        event_of("stage", stage="train", outputs=weights, facts={"start": {"kind": "fresh"}}, **at),
        event_of("stage", stage="evaluate", facts={"metrics": {"gate": {"exact": ESTIMATE}}}, **at),
        event_of("generation_ended", status="promoted", **at),
    ]
    if sealed:
        figures = {name: {"exact": ESTIMATE} for name in sealed}
        events += [event_of("look", role="sealed", number=1, level=None, **at)]
        events += [event_of("stage", stage="sealed", facts={"metrics": figures}, **at)]
    state = RunState.replay(events)
    assert [(one.gate, one.sealed) for one in gate_beside_sealed(state)] == pairs
    told = list(gate_beside_sealed_text(state))
    if pairs or not sealed:
        assert len(told) == len(pairs)
    else:
        assert told == ["the sealed suites ask other things than the gate: their figures are not compared"]


def test_the_evaluation_of_a_look_is_of_the_items_that_were_screened(frontier_run: Path) -> None:
    record = Record.read(frontier_run)
    looked_at = record.state.generations[3]
    screened, evaluated = (
        record.store.table(looked_at.output(stage, "outcomes")) for stage in ("screen", "evaluate")
    )
    on_dev = evaluated.filter(pc.equal(evaluated["suite"], "dev"))
    assert screened["item"].to_pylist() == on_dev["item"].to_pylist()


@pytest.mark.parametrize(("rule", "stage"), [("greedy", "screen"), ("each", "evaluate")])
def test_a_person_is_asked_about_the_outcomes_that_decided(rule: str, stage: str, tmp_path: Path) -> None:
    run = run_moons(tmp_path, generations=1, promotion=rule, review="person")
    assert run.exit_code == ExitCode.AWAITING_REVIEW
    question = asked(run.path)
    assert question.outcomes == run.generation(1).record.output(stage, "outcomes")
    assert (question.generation, question.parent, question.champion) == (1, 0, 0)
    assert ("no test" in question.verdict.reason) is (rule == "greedy")
