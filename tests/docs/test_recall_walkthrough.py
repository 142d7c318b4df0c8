"""docs/recall.md does what it says: its commands, in its order, on a copy of its recipe."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow.compute as pc
import pytest

import flywheel
from flywheel.storage.store import Store
from tests.support.harness import Ended, shared_fork_server
from tests.support.loop_runs import quick_folder

ROOT = Path(__file__).resolve().parents[2]

PAGE = (ROOT / "docs" / "recall.md").read_text()
COMMANDS = [
    line for block in re.findall(r"^```\n(.*?)^```", PAGE, re.M | re.S) for line in block.splitlines() if line
]


Said = list[tuple[str, str]]
"""The commands in their order, and what each of them said."""


@pytest.fixture(scope="module")
def walked() -> Iterator[tuple[Path, Said]]:
    """The folder of runs once all commands were run, and what they said."""
    said: Said = []
    with quick_folder() as folder:
        here = Path(shutil.copytree(ROOT / "docs" / "recall", folder / "recall"))
        for line in COMMANDS[1:]:
            words = shlex.split(line)
            if words[:3] == ["python", "-m", "flywheel"]:
                ended = shared_fork_server().run(words[3:], here, env={"COLUMNS": "200"})
            else:
                done = subprocess.run(words, cwd=here, capture_output=True, text=True, check=False)
                ended = Ended(done.returncode, done.stdout, done.stderr)
            assert ended.code == 0, f"{line}\n{ended.out}{ended.err}"
            said.append((line, ended.out))
        yield here / "runs" / "handwriting", said


@pytest.fixture(scope="module")
def said(walked: tuple[Path, Said]) -> Said:
    return walked[1]


@pytest.fixture(scope="module")
def flawed(walked: tuple[Path, Said]) -> flywheel.Run:
    return flywheel.open_run(walked[0] / "flawed")


def answer(said: Said, beginning: str) -> list[str]:
    """What the commands that begin so said."""
    return [out for line, out in said if line.startswith(f"python -m flywheel {beginning}")]


def fours_read(run: flywheel.Run) -> list[float]:
    """Share of the 4s of ``everyday`` that each generation reads right."""
    store = Store(run.path)
    suites = run.generations()[0].record
    items = store.table(suites.output("seed", "suite_everyday"))
    fours = items["item"].filter(pc.equal(items["label"], 4))
    tables = [store.table(g.record.output("evaluate", "outcomes")) for g in run.generations()]
    everyday = [t.filter(pc.equal(t["suite"], "everyday")) for t in tables]
    return [pc.mean(t.filter(pc.is_in(t["item"], fours))["score"]).as_py() for t in everyday]


def test_the_page_begins_in_its_folder() -> None:
    assert COMMANDS[0] == "cd docs/recall"
    assert os.path.isdir(ROOT / "docs" / "recall")


def test_the_flaw_is_found_from_one_wrong_item(said: Said) -> None:
    before, after = answer(said, "trace flawed --item")
    assert "worse since generation 2" in before
    assert "produced_by    generation 1, made in 2" in before
    assert "graded_by      Judge" in before
    rows = re.findall(r"generation (\d) \w+( recalled)?: (\d)", after)
    assert [score for _, _, score in rows] == ["1", "1", "0", "0", "1", "1"]
    assert [number for number, recalled, _ in rows if recalled] == ["2", "3"]


def test_a_dry_run_says_what_the_recall_then_does(said: Said) -> None:
    dry, real = answer(said, "recall flawed")
    assert "would recall generation 2" in dry
    assert dry.splitlines()[1:-1] == real.splitlines()[1:-1]
    assert "champion     generation 3 -> generation 1" in real
    shown = PAGE.split("would recall generation 2\n")[1].split("\n\n")[0]
    assert [line.strip() for line in shown.splitlines()] == [line.strip() for line in dry.splitlines()[1:-1]]


def test_the_table_shows_the_flags(said: Said) -> None:
    (table,) = answer(said, "status flawed")
    assert table.count("promoted recalled") == 2
    assert "*1 promoted" in table


def test_the_confusion_is_gone_after_going_on(flawed: flywheel.Run) -> None:
    shares = fours_read(flawed)
    assert min(shares[0], shares[1]) > 0.6
    assert max(shares[2], shares[3]) < 0.2
    assert min(shares[4], shares[5]) > 0.6
    assert flawed.champion().number in (1, 4, 5)
    assert [g.record.recalled for g in flawed.generations()] == [False, False, True, True, False, False]


def test_the_ledger_tells_that_the_code_changed(said: Said, flawed: flywheel.Run) -> None:
    """The page lies in no checkout of its own once it is copied."""
    first = answer(said, "--config-dir conf recipe=handwriting name=flawed")
    assert ["code changed" in out for out in first] == [False, True]
    assert "code changed before generation 4: handwriting" in first[1]
    versions = [g.record.grade.facts.version for g in flawed.generations()[1:]]
    assert len(set(versions[:3])) == len(set(versions[3:])) == 1
    assert versions[0] != versions[3]
    (difference,) = answer(said, "diff flawed 1 4")
    assert difference.splitlines()[:2] == ["--- a/handwriting", "+++ b/handwriting"]
    assert "+        if samples" in difference
    assert PAGE.split("--code\n")[1].split("    @@ ")[1].split("\n")[0] in difference


def test_a_fork_with_the_grader_mended_is_free_of_it_too(flawed: flywheel.Run) -> None:
    mended = flywheel.open_run(flawed.path.with_name("mended"))
    assert min(fours_read(mended)) > 0.6
    origin = mended.status().forked_from
    assert (origin.run, origin.generation) == ("handwriting/flawed", 1)
    assert mended.generation(0).weights == flawed.generation(1).weights == origin.weights
