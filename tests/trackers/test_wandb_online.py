"""With a server on this machine: what W&B has already is not logged again, by whomever."""

import json
import re
import shutil
import signal
import subprocess
import sys

import pytest

import flywheel
from flywheel.storage import ledger
from tests.support.harness import MOONS, MOONS_CONF, environment, only_run, shared_fork_server
from tests.support.loop_runs import run_moons, signal_at
from tests.support.wandb_files import mirror
from tests.support.wandb_server import wandb_server

LOGS = {"model._target_": "tests.support.probe_parts.Logs", "trainer.log_every_n_steps": 10}
PATIENT = "tests.support.patient"
KEPT = "tracker.wandb.artifacts_kept"
QUIET = {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false", "WANDB_X_DISABLE_STATS": "true"}


@pytest.fixture
def server():
    with wandb_server() as server:
        yield server


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that had no tracker."""
    return run_moons(tmp_path_factory.mktemp("runs"), generations=2, **LOGS)


def command(server, folder, *words, code=0):
    """A command with a login at the server."""
    done = shared_fork_server().run(words, folder, env={**server.environment, **QUIET}, module=PATIENT)
    assert done.code == code, done.err
    return done


def plain(rows):
    """Rows without W&B's own keys, and tables."""
    return [{k: v for k, v in row.items() if k[0] != "_" and k[:6] != "tables"} for row in rows]


def test_sync_given_twice_adds_nothing_and_goes_on_where_it_was(server, run, tmp_path):
    """Cut off between a fit and the end of its generation, its steps are there once."""
    events, lines = ledger.read(run.path), (run.path / "ledger.jsonl").read_bytes().splitlines(True)
    fitted = next(e.seq + 1 for e in events if getattr(e, "stage", "") == "train" and e.generation == 1)
    path = tmp_path / "runs" / "moons" / run.path.name
    shutil.copytree(run.path, path)

    def sync(length):
        (path / "ledger.jsonl").write_bytes(b"".join(lines[:length]))
        (path / "HEAD").write_text(json.loads(lines[length - 1])["hash"] + "\n")
        words = ("sync", str(path), "--config-dir", MOONS_CONF, "--json")
        return json.loads(command(server, tmp_path, *words).out)["rows"]

    cuts = [fitted, len(lines), len(lines)]
    logged = [sync(length) for length in cuts]
    assert logged[-1] == 0
    assert min(logged[:2]) > 0
    (shown,) = server.runs.values()
    offline = ("sync", str(path), "--config-dir", MOONS_CONF, "--offline")
    command(server, tmp_path, *offline)
    assert sum(logged) == len(shown.rows)
    assert plain(shown.rows) == plain(mirror(path).rows)
    assert shown.summary["head"] == ledger.read_head(path)
    assert shown.config["recipe"] == "moons"


def test_a_run_that_is_killed_and_goes_on_is_there_once(server, tmp_path):
    words = (
        *MOONS,
        "log=quiet",
        "name=run",
        "generations=3",
        "tracker=wandb",
        "tracker.wandb.artifacts_kept=1",
    )
    deadly = signal_at(stage="train", generation=2, number=9)
    command(server, tmp_path, *words, *(f"{k}={v}" for k, v in deadly.items()), code=-signal.SIGKILL)
    done = command(server, tmp_path, *words)
    (shown,) = server.runs.values()
    said = [line for line in done.err.splitlines() if "tracker.wandb" in line]
    assert len(said) == 1, "where it is shown, and no complaint"
    assert re.fullmatch(r"tracker.wandb: http://127.0.0.1:\d+/me/flywheel/runs/[0-9a-f]{16}", said[0])
    path = only_run(tmp_path)
    command(server, tmp_path, "sync", str(path), "--config-dir", MOONS_CONF, "--offline")
    assert plain(shown.rows) == plain(mirror(path).rows)
    steps = [row["train/step"] for row in shown.rows if "train/step" in row]
    assert steps == sorted(set(steps))
    assert [row["_step"] for row in shown.rows] == list(range(len(shown.rows)))
    assert shown.is_finished
    models = [one for one in server.artifacts if one.type == "model"]
    assert any(one.is_used for one in models), "the edge from the parent"
    assert json.loads(models[-1].metadata)["generation"] == flywheel.open_run(path).champion().number
    assert sum(not one.is_deleted for one in models) <= 2, "what is under way is not counted yet"


def test_an_agent_of_a_sweep_shows_the_run_in_the_run_that_it_has_made(server, tmp_path):
    metric = {"name": "champion/gate/accuracy", "goal": "maximize"}
    words = [*MOONS, "log=quiet", "generations=1", "tracker=wandb"]
    swept = ["${env}", sys.executable, "-m", PATIENT, *words, "${args_no_hyphens}"]
    server.sweep = json.dumps({"method": "grid", "metric": metric, "command": swept})
    args = {"settings.lr": {"value": 0.02}}
    server.commands = [{"type": "run", "run_id": "swept", "program": "flywheel", "args": args}]
    env = {**environment(**server.environment, **QUIET), "WANDB_DIR": str(tmp_path)}
    agent = [sys.executable, "-m", "wandb", "agent", "--count", "1", "me/flywheel/abc"]
    done = subprocess.run(
        agent, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert list(server.runs) == ["swept"]
    shown = server.runs["swept"]
    assert shown.sweep == "abc"
    values = [row[metric["name"]] for row in shown.rows if metric["name"] in row]
    assert shown.summary[metric["name"]] == values[-1] == max(values)
    assert shown.config["settings"]["lr"] == 0.02
    path = only_run(tmp_path)
    command(server, tmp_path, "resume", str(path), "generations=2", "seal=reopen", "--config-dir", MOONS_CONF)
    assert list(server.runs) == ["swept"], "also when it goes on without the agent"
    assert [row["generation"] for row in shown.rows if "verdict/status" in row] == [0, 1, 2]


def test_no_login_and_no_connection_say_what_to_do(server, run, tmp_path):
    nobody = {**QUIET, "WANDB_API_KEY": "", "NETRC": str(tmp_path / "netrc")}
    done = shared_fork_server().run(["sync", str(run.path)], tmp_path, env=nobody)
    assert (done.code, done.err.startswith("Expected a W&B login, got none. Run `wandb login`")) == (2, True)
    lost = {**server.environment, **QUIET, "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_INIT_TIMEOUT": "3"}
    done = shared_fork_server().run(["sync", str(run.path)], tmp_path, env=lost)
    assert done.code == 2
    assert "W&B cannot be used: " in done.err
    assert "or add --offline" in done.err
    assert "Traceback" not in done.err


def test_a_login_makes_a_run_online_and_wandb_mode_wins_over_it(server, tmp_path):
    words = (*MOONS, "log=quiet", "name=run", "generations=0", "tracker=wandb")
    env = {**server.environment, **QUIET}
    del env["WANDB_MODE"]
    assert shared_fork_server().run(words, tmp_path, env=env, module=PATIENT).code == 0
    assert len(server.runs) == 1
    other = (*words, "name=other")
    assert (
        shared_fork_server().run(other, tmp_path, env={**env, "WANDB_MODE": "offline"}, module=PATIENT).code
        == 0
    )
    assert len(server.runs) == 1
    last = (*words, "name=last", "tracker.wandb.mode=online")
    assert (
        shared_fork_server().run(last, tmp_path, env={**env, "WANDB_MODE": "offline"}, module=PATIENT).code
        == 0
    )
    assert len(server.runs) == 2
