"""Two ranks under torchrun make what one makes, up to the fit, and stop together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import flywheel
from tests.support.harness import PROBE, events, kinds, only_run, wait_until
from tests.support.ranks import ended, torchrun

WORDS = (*PROBE, "name=run", "generations=1", "genesis=fresh", "chunk_size=16", "log=plain")


def outputs(run: Path) -> dict[tuple[int, str], dict[str, str]]:
    return {(e["generation"], e["stage"]): e["outputs"] for e in events(run) if e["event"] == "stage"}


def test_two_ranks_make_the_same_samples_as_one_and_stop_together(folder):
    """Up to a fit that takes minutes, and in which they are stopped."""
    with torchrun((*WORDS, "settings.steps=100000"), folder) as process:
        wait_until(lambda: any(folder.glob("runs/*/*/ledger.jsonl")), "run", 60)
        run = only_run(folder)
        wait_until(lambda: kinds(run)[-1:] == ["tune"], "fit", 60)
        (run / "stop").touch()
        done = ended(process, 40)
    assert kinds(run)[-1] == "run_stopped", done.err
    assert json.dumps(flywheel.open_run(run).status().state) == '"stopped"'
    assert "exitcode  : 3" in done.err, "torchrun tells what its ranks answered"
    assert done.out.count("generation 1, turn 1 of 1") == 1, "one rank speaks"
    session = next(e for e in events(run) if e["event"] == "session_started")
    assert session["world_size"] == 2
    assert flywheel.open_run(run).verify().first_bad is None
    one = folder / "one"
    alone = [*PROBE[2:], "name=run", "generations=1", "genesis=fresh", "chunk_size=16", "log=quiet"]
    flywheel.run([*alone, f"runs_dir={one}"], config_dir=PROBE[1])
    ours, theirs = outputs(one / "probe" / "run"), outputs(run)
    compared = {(0, "seed"), (0, "adopt"), (0, "evaluate"), (1, "generate"), (1, "grade"), (1, "curate")}
    assert compared | {(1, "tune")} == theirs.keys()
    for stage in compared:
        assert theirs[stage] == ours[stage], stage


@pytest.mark.slow
@pytest.mark.parametrize("words", [("generations=x",), ("trainer.devices=2", "name=../x")])
def test_a_refusal_is_said_once_and_by_all_ranks(folder, words):
    with torchrun((*WORDS, *words), folder) as process:
        done = ended(process, 60)
    assert done.code != 0
    assert "exitcode  : 2" in done.err
    assert not (folder / "runs").exists()
