from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import rich.console

import flywheel
from flywheel.commands import diff as commands_diff
from flywheel.questions.difference import changes


def test_two_generations_of_a_run(finished_run: Path) -> None:
    run = flywheel.open_run(finished_run)
    found = run.diff(0, 1)
    assert (found["settings"], found["config"], found["environment"]) == ({}, {}, {})
    assert found["code"]["same"] is True
    assert found["grader"]["b"]["grader"] == "Confidence"
    rows = found["data"]["rows"]
    assert (rows["a"], rows["shared"]) == (10, 10)
    assert rows["b"] == run.show(1)["data"]["rows"]
    assert [batch["generation"] for batch in found["data"]["batches"]["shared"]] == [0]
    assert [batch["generation"] for batch in found["data"]["batches"]["only_b"]] == [1]
    assert json.loads(json.dumps(found)) == found


def test_flips_are_the_items_whose_score_changed(finished_run: Path) -> None:
    run = flywheel.open_run(finished_run)
    scores = [
        {row["item"]: row["score"] for row in run.query(sql).to_pylist()}
        for sql in (f"SELECT * FROM outcomes WHERE suite = 'dev' AND generation = {n}" for n in (0, 2))
    ]
    dev = run.diff(0, 2)["outcomes"]["dev"]
    moved = {item for item in scores[0] if scores[0][item] != scores[1][item]}
    assert {entry["item"] for entry in dev["flipped"]} == moved
    assert dev["gained"] - dev["lost"] == sum(scores[1].values()) - sum(scores[0].values())
    assert dev["items"]["shared"] == len(scores[0])


def test_a_generation_does_not_differ_from_itself(finished_run: Path) -> None:
    run = flywheel.open_run(finished_run)
    found = run.diff(1, 1, other=run)
    assert not any((found["settings"], found["config"], found["init"], found["grader"], found["environment"]))
    assert found["data"]["same"] is True
    assert all(not suite["flipped"] for suite in found["outcomes"].values())


def test_changes_name_dotted_keys() -> None:
    old, new = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}, "e": None}
    assert changes(old, new) == {"a.c": {"a": 2, "b": 4}, "d": {"a": 3}, "e": {"b": None}}


def test_changes_are_those_of_the_json() -> None:
    old = {"batches": 1, "flag": 1, "gone": None, "a.b": 1, "rates": [1, 2]}
    new = {"batches": 1.0, "flag": True, "a": {"b": 1}, "rates": [1.0, 2]}
    found = changes(old, new, "model.")
    assert {key: tuple(map(json.dumps, pair.values())) for key, pair in found.items()} == {
        "model.batches": ("1", "1.0"),
        "model.flag": ("1", "true"),
        "model.gone": ("null",),
        'model."a.b"': ("1",),
        "model.a.b": ("1",),
        "model.rates": ("[1, 2]", "[1.0, 2]"),
    }


def test_the_command_shows_how_values_of_other_types_differ(capsys: Any) -> None:
    found = {
        "batches": {"a": 1, "b": 1.0},
        "size": {"a": "1", "b": 1},
        "name": {"a": "x", "b": "y"},
        "more": {"b": None},
    }
    rich.console.Console(width=60).print(commands_diff._changes(found, ["A", "B"]))
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows[:2] == [["batches", "1", "1.0"], ["size", '"1"', "1"]]
    assert rows[2:] == [["name", "x", "y"], ["more", "absent", "null"]]
