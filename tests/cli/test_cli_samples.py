"""``samples`` and ``evaluate``: what a generation made, and how good one is on items of one's own."""

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


@pytest.fixture
def rows(answer):
    """The rows that a command answers with --json."""
    return lambda *words: [json.loads(line) for line in answer(*words, "--json").splitlines()]


def test_samples_with_scores_and_the_rule_that_decided(rows, finished):
    samples = rows("samples", "run", "--limit", "1000")
    assert samples == rows("samples", "run", "1"), "JSON is all of them"
    assert len(samples) == len(flywheel.open_run(finished).samples(1)) > 20
    for row in samples:
        assert row["origin"] == "generated"
        assert row["made_in"] == 1
        assert row["confidence"] == row["probability"]
        assert row["reason"]
        assert row["count"] == 1 or not row["keep"]
        assert row["keep"] or not row["count"], "what was dropped was never drawn"
    kept, dropped = rows("samples", "run", "1", "--kept"), rows("samples", "run", "1", "--dropped")
    assert all(row["keep"] for row in kept)
    assert not any(row["keep"] for row in dropped)
    assert len(kept) + len(dropped) == len(samples)


def test_rows_that_nobody_decided_on_are_neither_kept_nor_dropped_but_counted(cli, rows):
    done = cli(*PROBE, "log=quiet", "generations=1", "name=run", env={"PROBE_FAULT": "grade:raise"})
    assert done.code == 1
    count = len(rows("samples", "run", "1"))
    for which in ("--kept", "--dropped"):
        done = cli("samples", "run", "1", which, "--json")
        assert (done.code, done.out, done.err) == (0, "", f"{count} of {count} were not decided on\n")
        table = cli("samples", "run", "1", which).out.replace("\n", " ")
        assert "0 of 0 such samples" in table
        assert f"{count} of {count} were not decided on" in table
    assert "not decided on" not in cli("samples", "run", "0", "--kept").out


def test_the_human_samples_are_those_of_generation_0(rows, finished):
    assert {row["origin"] for row in rows("samples", "run", "0")} == {"human"}


def test_samples_as_a_table_from_all_over_the_batch(answer, refusal, finished):
    text = answer("samples", "run", "--limit", "5")
    assert "confidence" in text
    assert "5 of " in text.replace("\n", " ")
    assert "0 to 1, champion, last or final; got 7" in refusal("samples", "run", "7")


def test_samples_as_the_recipe_shows_them(answer, rows, finished):
    text = answer("samples", "run", "1", "--show", "--limit", "2")
    first = rows("samples", "run", "1")[0]
    (x, y), label = first["point"], first["label"]
    assert f"{first['id']}  {'kept' if first['keep'] else 'dropped'}: {first['reason']}\n" in text
    assert f"\n({x:.2f}, {y:.2f}) in moon {label}\n" in text
    assert text.count("in moon") == 2


def test_samples_are_shown_by_their_columns_where_the_recipe_must_not_be_built(cli, finished, folder):
    home = folder / "another home"  # nobody here started the run with a folder of recipes
    done = cli("samples", "run", "1", "--show", "--limit", "1", env={"XDG_STATE_HOME": str(home)})
    assert (
        "Shown by their columns, not by the recipe: Only classes that a recipe on the search path" in done.err
    )
    assert "\nprompt: unlabelled-0\npoint: [" in done.out


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
def test_evaluate_scores_any_generation_on_own_items(answer, rows, finished, folder, kind):
    before = (finished / "ledger.jsonl").read_bytes()
    path = written(folder, kind)
    options = ("--items", str(path), "--config-dir", MOONS_CONF)
    scored = rows("evaluate", "run", *options)
    assert [row["item"] for row in scored] == (["0", "1", "2"] if kind == "jsonl" else ["i0", "i1", "i2"])
    assert {row["score"] for row in scored} <= {0.0, 1.0}
    first = answer("evaluate", "run", "--generation", "0", *options)
    assert "generation 0 of" in first
    assert "3 items" in first
    assert (finished / "ledger.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("items.jsonl", "columns that these lack: point, label"),
        ("items.csv", "columns that these lack: point, label"),
        ("items.txt", ".csv, .jsonl or .parquet"),
        ("gone.csv", "must be readable"),
    ],
)
def test_items_that_cannot_be_used_are_refused_with_what_suites_have(refusal, finished, folder, name, rule):
    (folder / "items.jsonl").write_text('{"piont": [0, 1]}\n')
    (folder / "items.csv").write_text("a,b\n1,2\n")
    assert rule in refusal("evaluate", "run", "--items", name, "--config-dir", MOONS_CONF)


def test_evaluate_builds_only_classes_that_known_recipes_name(refusal, finished, folder):
    strangers = {"XDG_STATE_HOME": str(folder / "nobody")}
    reason = refusal("evaluate", "run", "--items", str(written(folder, "jsonl")), env=strangers)
    assert "Only classes that a recipe on the search path names are built" in reason


def test_whoever_started_the_run_need_not_name_its_folder_again(answer, finished, folder):
    answer("evaluate", "run", "--items", str(written(folder, "jsonl")))
    answer("reproduce", "run", "0")
    code = "import flywheel, sys; flywheel.open_run(sys.argv[1]).champion().load()"
    (folder / "loads_it.py").write_text(code)
    answer(str(finished), module="loads_it")


def test_where_none_is_such_that_is_said(answer, refusal, rows, finished):
    assert "0 of 0 such samples" in answer("samples", "run", "0", "--dropped")
    assert rows("samples", "run", "0", "--dropped") == []
    assert "must be 1 or more" in refusal("samples", "run", "--limit", "0")
