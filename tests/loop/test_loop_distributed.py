"""Two ranks under torchrun make what one makes, up to the fit, and stop together."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from harness import PROBE, environment, events, kinds, only_run, wait_until

import flywheel

WORDS = (*PROBE, "name=run", "generations=1", "genesis=fresh", "chunk_size=16", "log=plain")


def torchrun(folder: Path, *more: str) -> subprocess.Popen[str]:
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m", "flywheel"]
    return subprocess.Popen(
        [sys.executable, *launcher, *WORDS, *more],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outputs(run: Path) -> dict[tuple[int, str], dict[str, str]]:
    return {(e["generation"], e["stage"]): e["outputs"] for e in events(run) if e["event"] == "stage"}


def test_two_ranks_make_the_same_samples_as_one(folder):
    many, one = folder / "many", folder / "one"
    many.mkdir()
    process = torchrun(many)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    run = only_run(many)
    alone = [*PROBE[2:], "name=run", "generations=1", "genesis=fresh", "chunk_size=16", "log=quiet"]
    flywheel.run([*alone, f"runs_dir={one}"], config_dir=PROBE[1])
    ours, theirs = outputs(one / "probe" / "run"), outputs(run)
    assert ours.keys() == theirs.keys()
    for stage in ((0, "seed"), (0, "adopt"), (0, "evaluate"), (1, "generate"), (1, "grade"), (1, "curate")):
        assert theirs[stage] == ours[stage], stage
    session = next(e for e in events(run) if e["event"] == "session_started")
    assert session["world_size"] == 2
    assert kinds(run)[-1] == "run_finished"
    assert out.count("generation 1, turn 1 of 1") == 1, "one rank speaks"
    assert flywheel.open_run(run).verify().first_bad is None
    # one process may go on with what two began
    more = flywheel.run([*alone, "generations=2", f"runs_dir={many / 'runs'}"], config_dir=PROBE[1])
    assert more.exit_code == 0


def test_stop_is_obeyed_by_all_ranks(folder):
    process = torchrun(folder, "settings.steps=100000")
    try:
        wait_until(lambda: any(folder.glob("runs/*/*/ledger.jsonl")), "run", 60)
        run = only_run(folder)
        wait_until(lambda: "tune" in kinds(run) and kinds(run)[-1] == "tune", "fit", 60)
        (run / "stop").touch()
        _, err = process.communicate(timeout=40)
    finally:
        process.kill()
    assert kinds(run)[-1] == "run_stopped", err
    assert json.dumps(flywheel.open_run(run).status()["state"]) == '"stopped"'
    assert "exitcode  : 3" in err, "torchrun tells what its ranks answered"


@pytest.mark.slow
@pytest.mark.parametrize("words", [("generations=x",), ("trainer.devices=2", "name=../x")])
def test_a_refusal_is_said_once_and_by_all_ranks(folder, words):
    process = torchrun(folder, *words)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "exitcode  : 2" in err
    assert not (folder / "runs").exists()
