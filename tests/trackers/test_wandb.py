import subprocess
import time

import pytest
import wandb

import flywheel
from flywheel.testing import CONFIG_DIR


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    config = {
        "recipe": "moons",
        "generations": 1,
        "log": "quiet",
        "tracker": "wandb",
        "runs_dir": str(folder),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        yield flywheel.run({**config, "runs_dir": str(folder)}, config_dir=CONFIG_DIR)


def records(folder, seconds=60):
    """The records of an offline run's file, once W&B's own process has written the last one."""
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    end = time.monotonic() + seconds
    while True:
        found = list(parse(path.read_bytes()))
        if any(record.HasField("exit") for record in found):
            return found
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


def test_each_generation_is_a_step_with_metrics_and_verdict(run):
    history = [
        {item.key or item.nested_key[0]: item.value_json for item in record.history.item}
        for record in records(run.path)
        if record.HasField("history")
    ]
    assert [step["generation"] for step in history] == ["0", "1"]
    measured = run.status().json()["generations"][1]["metrics"]["gate"]["accuracy"]
    assert float(history[1]["gate/accuracy"]) == measured["value"]
    assert float(history[1]["gate/accuracy_low"]) == measured["low"]
    assert history[0]["status"] == '"promoted"'


def test_what_fits_log_has_rows_and_keys_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    config = {"recipe": "moons", "generations": 1, "log": "quiet", "runs_dir": str(tmp_path)}
    config |= {"tracker": ["wandb"], "model._target_": "tests.support.probe_parts.Logs"}
    logged = flywheel.run({**config, "trainer.log_every_n_steps": 20}, config_dir=CONFIG_DIR)
    rows = [
        {item.key or item.nested_key[0]: item.value_json for item in record.history.item}
        for record in records(logged.path)
        if record.HasField("history")
    ]
    assert [row["generation"] for row in rows if "gate/accuracy" in row] == ["0", "1"]
    fits = [row for row in rows if "fit/train/loss" in row]
    assert {row["fit/generation"] for row in fits} == {"0", "1"}
    assert fits[0]["fit/step"] == "19"
    assert not any("generation" in row for row in fits)


def test_the_run_lies_beside_the_ledger_and_is_finished(run):
    assert any(record.HasField("exit") for record in records(run.path))
    assert run.status().json()["state"] == "finished"


def test_a_run_that_the_user_has_open_is_the_users(tmp_path, monkeypatch):
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    mine = wandb.init(project="mine", dir=str(tmp_path / "mine"))
    try:
        for k in range(5):  # W&B's own step is now ahead of any generation
            wandb.log({"mine": k})
        config = {"recipe": "moons", "generations": 1, "log": "quiet", "tracker": "wandb"}
        beside = flywheel.run({**config, "runs_dir": str(tmp_path / "runs")}, config_dir=CONFIG_DIR)
        assert wandb.run is mine
        wandb.log({"mine": 5})
    finally:
        mine.finish()
    keys = [keys_of(record) for record in records(beside.path) if record.HasField("history")]
    assert ["gate/accuracy" in row for row in keys] == [True, True]
    own = [keys_of(record) for record in records(tmp_path / "mine") if record.HasField("history")]
    assert ["mine" in row for row in own] == [True] * 6
    assert not any("generation" in row for row in own)


def keys_of(record):
    return [item.key or item.nested_key[0] for item in record.history.item]


def test_no_source_and_no_credential_leaves_the_run(tmp_path, monkeypatch):
    """W&B on its own would take the uncommitted changes of the checkout that the process runs in."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
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
    config = {"recipe": "moons", "generations": 0, "log": "quiet", "tracker": "wandb"}
    config |= {"grader._target_": "own_grader.Own", "runs_dir": str(tmp_path / "runs")}
    given, init = {}, wandb.init
    monkeypatch.setattr(wandb, "init", lambda **options: given.update(options) or init(**options))
    run = flywheel.run(config, config_dir=CONFIG_DIR)
    records(run.path)
    assert (given["settings"].disable_git, given["settings"].disable_code) == (True, True)
    files = {path: path.read_bytes() for path in run.path.glob("wandb/**/*") if path.is_file()}
    assert files
    for content in (b"class Own", key.encode()):
        assert [path for path, data in files.items() if content in data] == []
    assert b"class Own" in b"".join(path.read_bytes() for path in run.path.glob("objects/*/*"))
    assert [p for p in run.path.rglob("*") if p.is_file() and key.encode() in p.read_bytes()] == []
