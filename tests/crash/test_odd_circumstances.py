"""A clock that jumps back, runs that are read-only, workers that die, a ledger that is gone."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

import flywheel
from flywheel.errors import RunError
from tests.support.harness import events, only_run, shared_fork_server
from tests.support.loop_runs import TURN, run_probe, unsealed


def test_a_clock_that_jumps_back_changes_nothing(folder, calm_run, monkeypatch):
    run_probe(folder, generations=0)
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    run = run_probe(folder, generations=1)
    assert run.status().state == "finished"
    assert events(run.path)[-1]["time"] < events(run.path)[0]["time"]
    assert unsealed(run.path) == unsealed(calm_run)
    assert run.verify().first_bad is None
    assert all(e["cost"]["seconds"] >= 0 for e in events(run.path) if "cost" in e)


def test_a_run_that_may_not_be_written_is_refused_and_can_be_read(folder, calm_run):
    if os.geteuid() != 0:
        pytest.skip("becoming powerless needs root")
    run = folder / "runs" / "probe" / "run"
    shutil.copytree(calm_run, run)
    for path in (run, *run.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = (run / "ledger.jsonl").read_bytes()
    done = shared_fork_server().run([*TURN, "generations=2"], folder, powerless=True)
    assert done.code == 2, done
    assert "denied" in done.err
    assert "Traceback" not in done.err
    assert (run / "ledger.jsonl").read_bytes() == before
    assert shared_fork_server().run(["verify", str(run)], folder, powerless=True).code == 0
    for path in (run, *run.rglob("*")):
        path.chmod(0o755)


def test_a_worker_that_is_killed_fails_the_generation_and_the_command_goes_on(folder):
    run_probe(folder / "runs", generations=0)
    done = shared_fork_server().run(TURN, folder, env={"PROBE_FAULT": "data:worker"})
    assert done.code == 1, done
    run = only_run(folder)
    (failed,) = [event for event in events(run) if event.get("status") == "failed"]
    assert "worker" in failed["reason"]
    assert shared_fork_server().run(TURN, folder).code == 0
    assert flywheel.open_run(run).verify().first_bad is None


@pytest.mark.parametrize("lost", [["ledger.jsonl"], ["HEAD"], ["ledger.jsonl", "HEAD"]])
def test_a_resume_that_cannot_be_is_an_error_and_no_fresh_start(folder, calm_run, lost):
    run = folder / "probe" / "run"
    shutil.copytree(calm_run, run)
    for name in lost:
        (run / name).unlink()
    before = contents(run)
    with pytest.raises(RunError, match="Restore it from a copy"):
        run_probe(folder, generations=2)
    assert contents(run) == before


def contents(run: Path) -> dict[str, bytes]:
    return {
        str(p): p.read_bytes() for p in run.rglob("*") if p.is_file() and p.name not in ("lock", ".reserve")
    }


def test_verify_takes_a_head_that_was_kept(folder, calm_run):
    head = (calm_run / "HEAD").read_text().strip()
    verify = ["verify", str(calm_run), "--head"]
    assert shared_fork_server().run([*verify, head], folder).code == 0
    other = shared_fork_server().run([*verify, "0" * 63 + "1"], folder)
    assert other.code == 1
    assert "cut off or rewritten" in other.out
    assert shared_fork_server().run([*verify, head[:12]], folder).code == 2
