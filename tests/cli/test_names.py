"""Which run a name means, where it is the name of several."""

import shutil
from pathlib import Path

import pytest

from flywheel.cli.commands import run
from flywheel.errors import RunError


@pytest.fixture
def runs(finished_run: Path, tmp_path: Path) -> Path:
    """Two runs of one name."""
    for recipe in ("moons", "suns"):
        shutil.copytree(finished_run, tmp_path / recipe / "same")
    return tmp_path


CHANGES = [
    ["recall", "same", "--generation", "1", "--why", "x"],
    ["recall", "same", "--generation", "1", "--why", "x", "--yes"],
    ["rollback", "same", "0", "--why", "x"],
    ["prune", "same", "--last", "0", "--yes"],
    ["stop", "same"],
    ["fork", "same@0"],
]


@pytest.mark.parametrize("words", CHANGES, ids=lambda words: "-".join(words[::3]))
def test_a_command_that_changes_a_run_refuses_a_name_of_several(runs: Path, words: list[str]) -> None:
    before = {path: path.read_bytes() for path in runs.glob("*/*/ledger.jsonl")}
    with pytest.raises(RunError, match="the name of 2") as refused:
        run(words[0], [*words[1:], "--runs-dir", str(runs)])
    assert all(str(path.parent) in str(refused.value) for path in before)
    assert {path: path.read_bytes() for path in runs.glob("*/*/ledger.jsonl")} == before


READS = [
    ["status", "same"],
    ["show", "same", "0"],
    ["prune", "same", "--last", "0"],
    ["verify", "same"],
]


@pytest.mark.parametrize("words", READS, ids=lambda words: words[0])
def test_a_command_that_reads_takes_the_newest_and_says_which(
    runs: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words[0], [*words[1:], "--runs-dir", str(runs)]) == 0
    said = capsys.readouterr().err
    assert "'same' is the name of 2 runs; this is about the newest" in said
    assert any(str(path.parent) in said for path in runs.glob("*/*/ledger.jsonl"))
