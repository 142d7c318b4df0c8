"""``samples`` and ``evaluate``: what a generation made, and how good one is on items of one's own."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from pyarrow import parquet

import flywheel
from tests.support.harness import MOONS_CONF, PROBE

ITEMS = [
    {"point": [0.0, 1.0], "label": 0},
    {"point": [1.0, -0.5], "label": 1},
    {"point": [2.0, 0.4], "label": 0},
]


def rows(done):
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def test_samples_with_scores_and_the_rule_that_decided(cli, finished):
    made = rows(cli("samples", "run", "--json", "--limit", "1000"))
    assert len(made) > 20
    for row in made:
        assert row["origin"] == "generated"
        assert row["made_in"] == 1
        assert row["confidence"] == row["probability"]
        assert row["reason"]
        assert row["count"] == 1 or not row["keep"]
    kept = rows(cli("samples", "run", "1", "--kept", "--json", "--limit", "1000"))
    dropped = rows(cli("samples", "run", "1", "--dropped", "--json", "--limit", "1000"))
    assert all(row["keep"] for row in kept)
    assert not any(row["keep"] for row in dropped)
    assert len(kept) + len(dropped) == len(made)


def test_rows_that_nobody_decided_on_are_neither_kept_nor_dropped_but_counted(cli):
    done = cli(*PROBE, "log=quiet", "generations=1", "name=run", env={"PROBE_FAULT": "grade:raise"})
    assert done.code == 1
    made = len(rows(cli("samples", "run", "1", "--json")))
    for which in ("--kept", "--dropped"):
        done = cli("samples", "run", "1", which, "--json")
        assert (done.code, done.out, done.err) == (0, "", f"{made} of {made} were not decided on\n")
        table = cli("samples", "run", "1", which).out.replace("\n", " ")
        assert "0 of 0 such samples" in table
        assert f"{made} of {made} were not decided on" in table
    assert "not decided on" not in cli("samples", "run", "0", "--kept").out


def test_the_human_samples_are_those_of_generation_0(cli, finished):
    assert {row["origin"] for row in rows(cli("samples", "run", "0", "--json"))} == {"human"}


def test_samples_as_a_table_from_all_over_the_batch(cli, finished):
    done = cli("samples", "run", "--limit", "5")
    assert done.code == 0
    assert "confidence" in done.out
    assert "5 of " in done.out.replace("\n", " ")


def test_a_generation_that_there_is_not_is_refused(cli, finished):
    done = cli("samples", "run", "7")
    assert done.code == 2
    assert "0 to 1, champion or last; got 7" in done.err


def written(folder, kind):
    path = folder / f"items.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    else:
        parquet.write_table(
            pa.Table.from_pylist([{"item": f"i{k}", **item} for k, item in enumerate(ITEMS)]), path
        )
    return path


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_evaluate_scores_any_generation_on_own_items(cli, finished, folder, kind):
    before = (finished / "ledger.jsonl").read_bytes()
    path = written(folder, kind)
    options = ("--items", str(path), "--config-dir", MOONS_CONF)
    scored = rows(cli("evaluate", "run", *options, "--json"))
    assert [row["item"] for row in scored] == (["0", "1", "2"] if kind == "jsonl" else ["i0", "i1", "i2"])
    assert {row["score"] for row in scored} <= {0.0, 1.0}
    first = cli("evaluate", "run", "--generation", "0", *options)
    assert first.code == 0, first.err
    assert "generation 0 of" in first.out
    assert "3 items" in first.out
    assert (finished / "ledger.jsonl").read_bytes() == before


def test_items_that_cannot_be_used_are_refused_with_what_suites_have(cli, finished, folder):
    (folder / "items.jsonl").write_text('{"piont": [0, 1]}\n')
    done = cli("evaluate", "run", "--items", "items.jsonl", "--config-dir", MOONS_CONF)
    assert done.code == 2
    assert "columns that these lack: point, label" in done.err
    for name, words in (("items.txt", ".csv, .jsonl or .parquet"), ("gone.csv", "must be readable")):
        done = cli("evaluate", "run", "--items", name, "--config-dir", MOONS_CONF)
        assert done.code == 2
        assert words in done.err


def test_evaluate_builds_only_classes_that_known_recipes_name(cli, finished, folder):
    strangers = {"XDG_STATE_HOME": str(folder / "nobody")}
    done = cli("evaluate", "run", "--items", str(written(folder, "jsonl")), env=strangers)
    assert done.code == 2
    assert "Only classes that a recipe on the search path names are built" in done.err


def test_whoever_started_the_run_need_not_name_its_folder_again(cli, finished, folder):
    items = str(written(folder, "jsonl"))
    assert cli("evaluate", "run", "--items", items).code == 0
    assert cli("reproduce", "run", "0").code == 0
    code = "import flywheel, sys; flywheel.open_run(sys.argv[1]).champion().load()"
    (folder / "loads_it.py").write_text(code)
    assert cli(str(finished), module="loads_it").code == 0


def test_where_none_is_such_that_is_said(cli, finished):
    done = cli("samples", "run", "0", "--dropped")
    assert done.code == 0, done.err
    assert "0 of 0 such samples" in done.out
    assert cli("samples", "run", "0", "--dropped", "--json").out == ""
    assert cli("samples", "run", "--limit", "0").code == 2


def test_json_is_all_of_them_and_what_was_dropped_was_never_drawn(cli, finished):
    made = rows(cli("samples", "run", "1", "--json"))
    assert len(made) == len(flywheel.open_run(finished).samples(1))
    assert {row["count"] for row in made if not row["keep"]} <= {0}


def test_items_that_lack_a_column_are_refused_in_a_sentence(cli, finished, folder):
    (folder / "bad.csv").write_text("a,b\n1,2\n")
    done = cli("evaluate", "run", "--items", "bad.csv", "--config-dir", MOONS_CONF)
    assert done.code == 2
    assert "columns that these lack" in done.err
    assert "Traceback" not in done.err
