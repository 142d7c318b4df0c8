"""What the loop is worth, asked on the command line."""

import json

from tests.support.harness import MOONS_CONF

WORDS = (
    *(
        "controls",
        "--config-dir",
        MOONS_CONF,
        "recipe=moons",
        "settings.steps=2",
        "generations=1",
        "threads=1",
    ),
    *("--seeds", "1", "--arms", "no-grading"),
)


def test_a_table_says_what_a_part_contributes(cli, answer, folder):
    assert "| no-grading | - | - | - | - | - | 0 |" in answer(*WORDS, "--table"), "nothing is there yet"
    assert not (folder / "runs").exists()
    done = cli(*WORDS)
    assert done.code == 0, done.err
    assert [line.partition(":")[0] for line in done.err.splitlines()] == ["seed 0 loop", "seed 0 no-grading"]
    assert "| arm | loop | arm's | loop - arm [95%] | FLOPs, farthest | wall time | seeds |" in done.out
    assert "One seed says nothing of chance: with grading the champion differs by" in done.out
    again = cli(*WORDS)
    assert (again.out, again.err) == (done.out, "")
    assert answer(*WORDS, "--table") == done.out
    shown = json.loads(answer(*WORDS, "--table", "--json"))
    assert [run["arm"] for run in shown["runs"]] == ["loop", "no-grading"]
    assert (folder / shown["folder"] / "moons" / "loop-seed0" / "ledger.jsonl").is_file()


def test_what_cannot_be_is_refused(refusal, folder):
    assert "Did you mean no-tuning" in refusal(*WORDS[:-1], "no-tunin")
    assert "such as 90s" in refusal(*WORDS, "--budget", "90x")
    assert not (folder / "runs").exists()
