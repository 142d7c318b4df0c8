import json
import subprocess
import time

import pytest
import wandb

from tests.support.loop_runs import run_moons


@pytest.fixture(scope="module", autouse=True)
def offline():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        yield


@pytest.fixture(scope="module")
def run(offline, tmp_path_factory):
    return run_moons(tmp_path_factory.mktemp("runs"), generations=1, tracker="wandb")


def records(folder, seconds=60):
    """The records of an offline run's file, once W&B's own process has written the last one."""
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    end = time.monotonic() + seconds
    while True:
        written = list(parse(path.read_bytes()))
        if any(record.HasField("exit") for record in written):
            return written
        assert time.monotonic() < end, "W&B never wrote the end of the run"
        time.sleep(0.05)


def parse(data):
    """A header, then LevelDB log blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    position, whole = 7, b""
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        length, kind = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
        part = data[position + 7 : position + 7 + length]
        if len(part) < length:  # cut off: still being written
            return
        whole += part
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def history(folder):
    """The rows that were logged, by key."""
    return [
        {item.key or item.nested_key[0]: item.value_json for item in record.history.item}
        for record in records(folder)
        if record.HasField("history")
    ]


def generations(folder):
    """The rows of generations: those of fits have other keys."""
    return [row for row in history(folder) if "generation" in row]


def test_each_generation_is_a_step_with_metrics_and_verdict(run):
    rows = generations(run.path)
    assert [row["generation"] for row in rows] == ["0", "1"]
    measured = run.status().json()["generations"][1]["metrics"]["gate"]["accuracy"]
    assert float(rows[1]["gate/accuracy"]) == measured["value"]
    assert float(rows[1]["gate/accuracy_low"]) == measured["low"]
    assert rows[0]["status"] == '"promoted"'


def test_what_fits_log_has_rows_and_keys_of_its_own(tmp_path):
    logs = {"model._target_": "tests.support.probe_parts.Logs", "trainer.log_every_n_steps": 20}
    rows = history(run_moons(tmp_path, generations=1, tracker=["wandb"], **logs).path)
    assert [row["generation"] for row in rows if "gate/accuracy" in row] == ["0", "1"]
    fits = [row for row in rows if "fit/train/loss" in row]
    assert {row["fit/generation"] for row in fits} == {"0", "1"}
    assert [row["fit/step"] for row in fits[:2]] == ["1", "2"]
    assert not any("generation" in row for row in fits)


def test_the_run_lies_beside_the_ledger_and_is_finished(run):
    assert any(record.HasField("exit") for record in records(run.path))
    assert run.status().json()["state"] == "finished"


def test_a_run_that_the_user_has_open_is_the_users(tmp_path):
    mine = wandb.init(project="mine", dir=str(tmp_path / "mine"))
    try:
        for k in range(5):  # W&B's own step is now ahead of any generation
            wandb.log({"mine": k})
        beside = run_moons(tmp_path / "runs", generations=1, tracker="wandb")
        assert wandb.run is mine
        wandb.log({"mine": 5})
    finally:
        mine.finish()
    assert ["gate/accuracy" in row for row in generations(beside.path)] == [True, True]
    own = history(tmp_path / "mine")
    assert ["mine" in row for row in own] == [True] * 6
    assert not any("generation" in row for row in own)


def test_no_source_and_no_credential_leaves_the_run(tmp_path, monkeypatch):
    """W&B on its own would take the uncommitted changes of the checkout that the process runs in."""
    key = "a-key-of-forty-characters-as-it-must-be-x"
    monkeypatch.setenv("WANDB_API_KEY", key)
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    git = ["git", "-C", str(checkout), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    part = checkout / "own_grader.py"
    lines = ("from flywheel.graders.confidence import Confidence", "class Own(Confidence):", "    pass")
    part.write_text("\n".join(lines))
    subprocess.run([*git, "add", "."], check=True)
    monkeypatch.chdir(checkout)
    monkeypatch.syspath_prepend(str(checkout))
    given, init = {}, wandb.init
    monkeypatch.setattr(wandb, "init", lambda **options: given.update(options) or init(**options))
    own = {"grader._target_": "own_grader.Own"}
    run = run_moons(tmp_path / "runs", generations=0, tracker="wandb", **own)
    records(run.path)
    assert (given["settings"].disable_git, given["settings"].disable_code) == (True, True)
    files = {path: path.read_bytes() for path in run.path.glob("wandb/**/*") if path.is_file()}
    assert files
    for content in (b"class Own", key.encode()):
        assert [path for path, data in files.items() if content in data] == []
    assert b"class Own" in b"".join(path.read_bytes() for path in run.path.glob("objects/*/*"))
    assert [p for p in run.path.rglob("*") if p.is_file() and key.encode() in p.read_bytes()] == []


def test_a_frontier_has_rows_of_screenings_and_rows_of_looks(tmp_path):
    frontier = {"promotion": "frontier", "promotion.patience": 1, "promotion.harm": 0.07}
    run = run_moons(tmp_path, generations=5, tracker="wandb", **frontier)
    rows = history(run.path)
    turns = [row for row in rows if "generation" in row]
    assert [row["generation"] for row in turns] == ["0", "1", "2", "3", "4", "5"]
    state = run.generation(0).state
    dev = [g.screen.facts.metrics["dev"]["accuracy"].value for g in state.generations[1:]]
    assert [float(row["dev/accuracy"]) for row in turns[1:]] == dev
    assert [json.loads(row["status"]) for row in turns[1:4]] == ["advanced", "rejected", "advanced"]
    assert not any("gate/accuracy" in row for row in turns[1:])
    looks = [row for row in rows if "look/number" in row]
    assert [(row["look/number"], row["look/generation"]) for row in looks] == [
        ("1", "1"),
        ("2", "3"),
        ("3", "5"),
    ]
    assert [json.loads(row["look/status"]) for row in looks] == ["promoted", "advanced", "advanced"]
    assert all("look/gate/accuracy" in row for row in looks)
    assert summary(run.path)["frontier"] == 5
    assert summary(run.path)["promotion"].startswith("promotion=frontier: ")


def test_greedy_is_said_to_be_no_test(tmp_path):
    run = run_moons(tmp_path, generations=1, tracker="wandb", promotion="greedy")
    assert summary(run.path)["promotion"].startswith("promotion=greedy: no test")
    rows = generations(run.path)
    assert json.loads(rows[1]["reason"]).startswith("no test, promotion=greedy")
    assert "dev/accuracy" in rows[1]


def summary(folder):
    """What was said of the whole run, by key."""
    updates = [item for record in records(folder) for item in record.summary.update]
    return {item.key or item.nested_key[0]: json.loads(item.value_json) for item in updates}
