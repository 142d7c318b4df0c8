import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import rich.console

import flywheel
from flywheel.cli.commands import diff as commands_diff
from flywheel.lineage.diff import _flips, _same_rows, changes
from flywheel.testing import CONFIG_DIR


def test_two_generations_of_a_run(finished_run: Path) -> None:
    run = flywheel.open_run(finished_run)
    report = run.diff(0, 1).json()
    assert (report["settings"], report["config"], report["environment"]) == ({}, {}, {})
    assert report["code"]["same"] is True
    assert report["grader"]["b"]["grader"] == "Confidence"
    rows = report["data"]["rows"]
    assert (rows["a"], rows["shared"]) == (10, 10)
    assert rows["b"] == run.show(1).json()["data"]["rows"]
    assert [batch["made_in"] for batch in report["data"]["batches"]["shared"]] == [0]
    assert [batch["made_in"] for batch in report["data"]["batches"]["only_b"]] == [1]
    assert json.loads(json.dumps(report)) == report


def test_flips_are_the_items_whose_score_changed(finished_run: Path) -> None:
    run = flywheel.open_run(finished_run)
    scores = [
        {row["item"]: row["score"] for row in run.query(sql).to_pylist()}
        for sql in (f"SELECT * FROM outcomes WHERE suite = 'dev' AND generation = {n}" for n in (0, 2))
    ]
    dev = run.diff(0, 2).json()["outcomes"]["dev"]
    moved = {item for item in scores[0] if scores[0][item] != scores[1][item]}
    assert {entry["item"] for entry in dev["flipped"]} == moved
    assert dev["gained"] - dev["lost"] == sum(scores[1].values()) - sum(scores[0].values())
    assert dev["items"]["shared"] == len(scores[0])


def test_a_generation_does_not_differ_from_itself(finished_run: Path) -> None:
    run = flywheel.open_run(finished_run)
    report = run.diff(1, 1, other=run).json()
    assert not any(
        (report["settings"], report["config"], report["init"], report["grader"], report["environment"])
    )
    assert report["data"]["same"] is True
    assert all(not suite["flipped"] for suite in report["outcomes"].values())


def test_changes_name_dotted_keys() -> None:
    old, new = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}, "e": None}
    assert changes(old, new) == {"a.c": {"a": 2, "b": 4}, "d": {"a": 3}, "e": {"b": None}}


def test_changes_are_those_of_the_json() -> None:
    old = {"batches": 1, "flag": 1, "gone": None, "a.b": 1, "rates": [1, 2]}
    new = {"batches": 1.0, "flag": True, "a": {"b": 1}, "rates": [1.0, 2]}
    report = changes(old, new, "model.")
    assert {key: tuple(map(json.dumps, pair.values())) for key, pair in report.items()} == {
        "model.batches": ("1", "1.0"),
        "model.flag": ("1", "true"),
        "model.gone": ("null",),
        'model."a.b"': ("1",),
        "model.a.b": ("1",),
        "model.rates": ("[1, 2]", "[1.0, 2]"),
    }


def test_the_command_shows_how_values_of_other_types_differ(capsys: Any) -> None:
    report = {
        "batches": {"a": 1, "b": 1.0},
        "size": {"a": "1", "b": 1},
        "name": {"a": "x", "b": "y"},
        "more": {"b": None},
    }
    rich.console.Console(width=60).print(commands_diff._changes(report, ["A", "B"]))
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows[:2] == [["batches", "1", "1.0"], ["size", '"1"', "1"]]
    assert rows[2:] == [["name", "x", "y"], ["more", "absent", "null"]]


def test_items_of_another_seed_are_other_items_though_their_names_are_the_same(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {
        "recipe": "moons",
        "seed": 1,
        "log": "quiet",
        "generations": 0,
        "threads": 1,
        "settings.steps": 2,
    }
    other = flywheel.run({**config, "runs_dir": str(tmp_path)}, config_dir=CONFIG_DIR)
    report = flywheel.open_run(finished_run).diff(0, 0, other=other)
    for suite in ("dev", "gate", "sealed"):
        flips = report.outcomes[suite]
        items = flips.items
        assert items.shared == items.a == items.b == items.other_rows > 0
        assert (items.compared, flips.flipped, flips.gained, flips.lost) == (0, (), 0, 0)
    for section in commands_diff._sections(report, 10):
        rich.console.Console(width=100).print(section)
    assert f"{items.a} not compared: of the same name, but other items" in capsys.readouterr().out


def test_equal_items_of_two_runs_are_compared(finished_run: Path, run_copy: Path) -> None:
    run = flywheel.open_run(finished_run)
    across = run.diff(0, 2, other=flywheel.open_run(run_copy)).json()["outcomes"]
    assert across == run.diff(0, 2).json()["outcomes"]
    assert across["dev"]["items"]["compared"] == across["dev"]["items"]["shared"] > 0


def test_an_item_is_the_same_if_its_row_is_floats_included() -> None:
    rows = {"item": list("abcd"), "point": [[0.1, 0.2], [0.3, np.nan], [0.5, 0.6], [0.7, 0.8]]}
    moved = {
        "item": list("dcba"),
        "point": [[0.7, 0.8], [0.5, np.nextafter(0.6, 1)], [0.3, np.nan], [0.1, 9.0]],
    }
    assert _same_rows(pa.table(rows), pa.table(moved)) == {"b", "d"}
    assert _same_rows(pa.table(rows), pa.table({**rows, "label": [1] * 4})) == set()
    assert _same_rows(pa.table(rows), None) == set()


def test_duels_are_compared_against_the_same_opponent_only() -> None:
    """In duels a better generation loses items against a better opponent."""

    def outcomes(score: list[float], opponent: list[str | None]) -> pa.Table:
        named = {"item": list("abc"), "opponent": pa.array(opponent, pa.string())}
        return pa.table({**named, "score": score})

    report = _flips(outcomes([1, 1, 0], ["x", "x", "x"]), outcomes([0, 0, 1], ["y", "x", "x"]), None).json()
    assert (report["items"]["other_opponents"], report["items"]["compared"]) == (1, 2)
    assert (report["gained"], report["lost"]) == (1, 1)
    assert [entry["item"] for entry in report["flipped"]] == ["b", "c"]
    alone = _flips(outcomes([1, 1, 0], [None] * 3), outcomes([1, 0, 1 / 3], [None] * 3), None).json()
    assert (alone["items"]["compared"], alone["gained"], alone["lost"]) == (3, 1, 1)


def test_the_last_bits_of_a_score_are_no_flip() -> None:
    one = pa.table({"item": ["a"], "opponent": pa.array([None], pa.string()), "score": [0.3]})
    other = one.set_column(2, "score", pa.array([0.1 + 0.2]))
    assert _flips(one, other, None).flipped == ()
