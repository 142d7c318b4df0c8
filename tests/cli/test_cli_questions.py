"""``show``, ``diff``, ``query``, ``bundle``, ``sign`` and ``verify-bundle``, as a user calls them."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

import flywheel


def lines_of(text):
    return [json.loads(line) for line in text.splitlines()]


def test_show(cli, finished):
    run = flywheel.open_run(finished)
    done = cli("show", "run", "1")
    assert done.code == 0, done.err
    for part in (
        "generation 1 of",
        "made from",
        "generation 0",
        "settings",
        "95% interval",
        "commit",
        "seed",
    ):
        assert part in done.out
    assert json.loads(cli("show", "run", "1", "--json").out) == {
        **run.show(1).json(),
        "run": "runs/moons/run",
    }
    champion = run.status().json()["champion"]["generation"]
    assert json.loads(cli("show", "--json").out)["generation"] == champion
    assert cli("show", "run", "7").code == 2


@pytest.mark.parametrize("words", [("show", "run", "1"), ("diff", "run", "0", "1")], ids=" ".join)
@pytest.mark.parametrize("columns", [40, 80, 200])
def test_it_fits_the_terminal(cli, finished, words, columns):
    done = cli(*words, env={"COLUMNS": str(columns)})
    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines())) <= columns
    assert "…" not in re.sub(r", …|… \d+ more", "", done.out), "nothing is cut for want of room"


def test_diff(cli, finished):
    done = cli("diff", "run", "0", "1")
    assert done.code == 0, done.err
    assert "10 rows shared, of 10 and" in done.out
    assert "outcomes on gate" in done.out
    report = json.loads(cli("diff", "run", "0", "moons/run@1", "--json").out)
    assert report["b"]["generation"] == 1
    refused = cli("diff", "run", "0", "x")
    assert (refused.code, refused.out) == (2, "")
    assert "Expected a generation: its number, champion or last; got 'x'" in refused.err


@pytest.mark.parametrize("which", ["champion", "last"])
def test_a_generation_is_named_as_champion_or_last(cli, finished, which):
    run = flywheel.open_run(finished)
    number = run.champion().number if which == "champion" else run.generations()[-1].number
    for words in (["show", "run"], ["diff", "run", "0"], ["trace", "run", "--generation"]):
        assert cli(*words, which, "--json").out == cli(*words, str(number), "--json").out


def test_query(cli, finished):
    pytest.importorskip("duckdb")
    done = cli("query", "run", "SELECT generation, status FROM generations ORDER BY 1", "--json")
    assert [row["generation"] for row in lines_of(done.out)] == [0, 1]
    done = cli("query", "run", "SELECT id FROM samples", "--limit", "3")
    assert "3 of 210 rows; --limit 210 prints all" in done.out
    wide = cli("query", "run", "SELECT * FROM samples LIMIT 1")
    assert wide.out.startswith("row 1\nid "), "what does not fit is told row by row"
    refused = cli("query", "run", "DROP VIEW samples")
    assert (refused.code, refused.out) == (2, "")
    assert "Expected one SELECT, as a run is only read, got DROP" in refused.err
    wrong = cli("query", "run", "SELECT nothing FROM outcomes")
    assert wrong.code == 2
    assert "outcomes: generation, stage, suite, item" in wrong.err
    assert "Traceback" not in wrong.err


def test_hand_over(cli, finished, folder):
    pytest.importorskip("model_signing")
    for words in ("ecparam -name prime256v1 -genkey -noout -out k.pem", "ec -in k.pem -pubout -out k.pub"):
        subprocess.run(["openssl", *words.split()], cwd=folder, check=True, capture_output=True)
    done = cli("bundle", "run", "1", "--out", "out")
    assert done.code == 0, done.err
    assert flywheel.open_run(finished).status().head in done.out
    assert cli("bundle", "run", "1", "--out", "out").code == 2
    assert "not signed" in cli("verify-bundle", "out").out
    assert cli("sign", "out", "--key", "k.pem").code == 0
    done = cli("verify-bundle", "out", "--key", "k.pub", "--run", "run")
    assert done.code == 0, done.out
    assert "the signature is of this key" in done.out
    (folder / "out" / "README.md").write_text("lies")
    done = cli("verify-bundle", "out", "--key", "k.pub")
    assert (done.code, done.out.count("\n")) == (1, 1)
    assert done.out.startswith("out/README.md: it has 4 bytes")
    report = json.loads(cli("verify-bundle", "out", "--json").out)
    assert (report["ok"], report["signature"]) == (False, "not checked")
    assert [entry["file"] for entry in report["problems"]] == ["README.md"]
