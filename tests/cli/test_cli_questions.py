"""``show``, ``diff``, ``query``, ``bundle``, ``sign`` and ``verify-bundle``, as a user calls them."""

import json
import re
import subprocess

import pytest

import flywheel


def test_show(answer, json_answer, refusal, finished):
    run = flywheel.open_run(finished)
    text = answer("show", "run", "1")
    for part in (
        "generation 1 of",
        "made from",
        "generation 0",
        "settings",
        "95% interval",
        "commit",
        "seed",
    ):
        assert part in text
    assert json_answer("show", "run", "1") == {**run.show(1).json(), "run": "runs/moons/run"}
    assert json_answer("show")["generation"] == run.champion().number
    assert "champion, last or final; got 7" in refusal("show", "run", "7")


@pytest.mark.parametrize("words", [("show", "run", "1"), ("diff", "run", "0", "1")], ids=" ".join)
@pytest.mark.parametrize("columns", [40, 80, 200])
def test_it_fits_the_terminal(answer, finished, words, columns):
    text = answer(*words, env={"COLUMNS": str(columns)})
    assert max(map(len, text.splitlines())) <= columns
    assert "…" not in re.sub(r", …|… \d+ more", "", text), "nothing is cut for want of room"


def test_diff(answer, json_answer, refusal, finished):
    text = answer("diff", "run", "0", "1")
    assert "10 rows shared, of 10 and" in text
    assert "outcomes on gate" in text
    assert json_answer("diff", "run", "0", "moons/run@1")["b"]["generation"] == 1
    assert "number, champion, last or final; got 'x'" in refusal("diff", "run", "0", "x")


@pytest.mark.parametrize("which", ["champion", "last"])
def test_a_generation_is_named_as_champion_or_last(cli, finished, which):
    run = flywheel.open_run(finished)
    number = run.champion().number if which == "champion" else run.generations()[-1].number
    for words in (["show", "run"], ["diff", "run", "0"], ["trace", "run", "--generation"]):
        assert cli(*words, which, "--json").out == cli(*words, str(number), "--json").out


def test_query(answer, refusal, finished):
    pytest.importorskip("duckdb")
    lines = answer("query", "run", "SELECT generation FROM generations ORDER BY 1", "--json").splitlines()
    assert [json.loads(line) for line in lines] == [{"generation": 0}, {"generation": 1}]
    text = answer("query", "run", "SELECT id FROM samples", "--limit", "3")
    assert "3 of 210 rows; --limit 210 prints all" in text
    wide = answer("query", "run", "SELECT * FROM samples LIMIT 1")
    assert wide.startswith("row 1\nid "), "what does not fit is told row by row"
    rule = "Expected one SELECT, as a run is only read, got DROP"
    assert rule in refusal("query", "run", "DROP VIEW samples")
    columns = "outcomes: generation, stage, suite, item"
    assert columns in refusal("query", "run", "SELECT nothing FROM outcomes")


def test_hand_over(cli, answer, finished, folder):
    pytest.importorskip("model_signing")
    for words in ("ecparam -name prime256v1 -genkey -noout -out k.pem", "ec -in k.pem -pubout -out k.pub"):
        subprocess.run(["openssl", *words.split()], cwd=folder, check=True, capture_output=True)
    assert flywheel.open_run(finished).status().head in answer("bundle", "run", "1", "--out", "out")
    assert cli("bundle", "run", "1", "--out", "out").code == 2
    assert "not signed" in answer("verify-bundle", "out")
    answer("sign", "out", "--key", "k.pem")
    checked = answer("verify-bundle", "out", "--key", "k.pub", "--run", "run")
    assert "the signature is of this key" in checked
    (folder / "out" / "README.md").write_text("lies")
    done = cli("verify-bundle", "out", "--key", "k.pub")
    assert (done.code, done.out.count("\n")) == (1, 1)
    assert done.out.startswith("out/README.md: it has 4 bytes")
    report = json.loads(cli("verify-bundle", "out", "--json").out)
    assert (report["ok"], report["signature"]) == (False, "not checked")
    assert [entry["file"] for entry in report["problems"]] == ["README.md"]
