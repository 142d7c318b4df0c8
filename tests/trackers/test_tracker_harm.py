"""Real processes whose trackers do what harm they can: the run is as it is without them, and ends in time."""

import time
from pathlib import Path

import pytest

from tests.support.harness import MOONS, artifacts, command, environment

HARM = "tests.support.harmful_trackers"
TRACKERS = {
    "sleeps": "{_target_: %s.Sleeps}",
    "sleeps_too": "{_target_: %s.Sleeps}",
    "lingers": "{_target_: %s.Lingers}",
    "unreachable": "{_target_: %s.Unreachable}",
    "kills_wandb": "{_target_: %s.KillsWandb}",
    "full_disk": "{_target_: %s.FullDisk}",
    "own_process": "{_target_: %s.OwnProcess}",
    "open_raises": "{_target_: %s.Raises, at: open, kind: SystemExit}",
    "event_raises": "{_target_: %s.Raises, at: event, kind: KeyboardInterrupt}",
    "metrics_raises": "{_target_: %s.Raises, at: metrics}",
    "close_raises": "{_target_: %s.Raises, at: close, kind: Refuses}",
}

UNHARMED = ("lingers", "kills_wandb")


@pytest.mark.parametrize(
    ("patience", "limit"), [("9", 6), pytest.param("1", 15, marks=pytest.mark.slow)], ids=["quick", "real"]
)
def test_no_tracker_harms_a_run_or_delays_its_end(
    finished_run: Path, tmp_path: Path, patience: str, limit: float
) -> None:
    trackers = [f"+tracker.{name}={node % HARM}" for name, node in TRACKERS.items()]
    arguments = [
        *MOONS,
        "generations=2",
        "log=quiet",
        "name=run",
        "runs_dir=runs",
        "tracker=wandb",
        *trackers,
    ]
    env = environment(TRACKER_PATIENCE=patience, WANDB_MODE="offline", WANDB_SILENT="true")
    ended = command(arguments, tmp_path, env=env)
    run = tmp_path / "runs" / "moons" / "run"
    delay = time.time() - (run / "HEAD").stat().st_mtime
    assert ended.code == 0, ended.err
    assert artifacts(run) == artifacts(finished_run)
    assert delay < limit, "from the last event to the end of the process, which has threads of 60 s left"
    for name in ("wandb", *TRACKERS):
        said = [line for line in ended.err.splitlines() if line.startswith(f"tracker.{name} ")]
        assert sum("the run goes on without it" in line for line in said) == (name not in UNHARMED), said
    assert ended.err.count("Traceback") <= 1, "W&B's own hook says at exit that its process is gone"
    assert "\x1b" not in ended.err
