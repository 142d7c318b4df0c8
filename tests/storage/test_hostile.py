"""A run from a stranger: reading it executes nothing, leaves the run for no file, and stays within limits."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf

import flywheel
from flywheel.errors import DamagedError, FlywheelError, RunError
from flywheel.launch.recorded import recorded_config
from flywheel.lineage.status import read_state, status
from flywheel.storage import ledger, parquet
from flywheel.storage.ledger import Ledger
from flywheel.storage.store import Store
from flywheel.storage.verify import verify
from flywheel.testing import CONFIG_DIR
from tests.support.damage import reseal
from tests.support.events import event_of, lines_of


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def planted(run: Path, data: bytes, suffix: str) -> str:
    name = hashlib.sha256(data).hexdigest() + suffix
    path = run / "objects" / name[:2] / name[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return name


@pytest.mark.parametrize("suffix", [".safetensors", ".parquet", ".json"])
def test_a_pickle_by_another_name_is_refused_and_not_unpickled(tmp_path: Path, suffix: str) -> None:
    bomb = tmp_path / "bomb"
    name = planted(tmp_path, pickle.dumps(Bomb(bomb)), suffix)
    read = {".safetensors": Store.weights, ".parquet": Store.table, ".json": Store.json}[suffix]
    with pytest.raises(DamagedError, match=name):
        read(Store(tmp_path), name)
    assert not bomb.exists()


def test_an_extension_type_that_is_a_pickle_is_not_unpickled(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb"
    evil = {b"ARROW:extension:name": b"arrow.py_extension_type"}
    evil[b"ARROW:extension:metadata"] = pickle.dumps(Bomb(bomb))
    table = pa.table([pa.array(["a"])], schema=pa.schema([pa.field("id", pa.string(), metadata=evil)]))
    name = Store(tmp_path).put_table(table)
    Store(tmp_path).table(name)
    assert not bomb.exists()


def test_a_yaml_tag_in_a_configuration_stays_a_text(run_copy: Path) -> None:
    bomb = run_copy / "bomb"
    rewrite(run_copy, lambda config: config.update(name=f"!!python/object/apply:os.mkdir ['{bomb}']"))
    status(run_copy)
    trusted = {"flywheel.testing.moons.model.Classifier"}
    flywheel.open_run(run_copy, trusted=trusted).champion().load()
    assert not bomb.exists()


@pytest.mark.parametrize("target", ["os.mkdir", "subprocess.run", "builtins.eval"])
@pytest.mark.parametrize("deep", [False, True])
def test_a_class_that_no_recipe_names_is_not_built(run_copy: Path, target: str, deep: bool) -> None:
    bomb = {"_target_": target, "_args_": [str(run_copy / "bomb")]}
    rewrite(run_copy, lambda config: config["model"].update({"width": bomb} if deep else bomb))
    with pytest.raises(FlywheelError, match=target):
        flywheel.open_run(run_copy).champion().load()
    assert not (run_copy / "bomb").exists()


def rewrite(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the configuration wherever it is recorded, with hashes that are right."""
    events, config = lines_of(run), recorded_config(run, read_state(run).session)
    change(events[0]["config"])
    change(config)
    text = OmegaConf.to_yaml(OmegaConf.create(config))
    for event in events:
        if event["event"] == "session_started":
            event["outputs"]["config"] = Store(run).put(text.encode(), ".yaml")
    reseal(run, events)
    assert verify(run).ok


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "..", "/etc/passwd", "ab/../../../x.json", "a" * 64, f"{'a' * 62}/x.json"]
)
def test_a_name_that_is_a_path_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DamagedError, match="64 hex digits"):
        Store(tmp_path).get(name)
    book = Ledger(tmp_path)
    book.append(event_of("run_created"))
    book.append(event_of("generation_started"))
    book.append(event_of("stage", stage="seed", outputs={"samples": name}))
    book.close()
    assert "name of an artifact" in str(verify(tmp_path).first_bad)


@pytest.mark.parametrize("link", ["objects", "folder", "file"])
def test_a_link_out_of_the_run_is_not_followed(run_copy: Path, tmp_path: Path, link: str) -> None:
    name = next(n for e in lines_of(run_copy) for n in e.get("outputs", {}).values())
    path = Store(run_copy).path(name)
    moved = {"objects": run_copy / "objects", "folder": path.parent, "file": path}[link]
    moved.rename(tmp_path / "elsewhere")
    moved.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DamagedError, match="link"):
        Store(run_copy).get(name)
    assert "link" in str(verify(run_copy).first_bad)


def test_a_pipe_in_place_of_an_artifact_does_not_hang(tmp_path: Path) -> None:
    name = planted(tmp_path, b"{}", ".json")
    Store(tmp_path).path(name).unlink()
    os.mkfifo(Store(tmp_path).path(name))
    with pytest.raises(DamagedError, match="regular file"):
        Store(tmp_path).get(name)


def inflating(kind: str) -> pa.Table:
    if kind == "zeros":
        return pa.table({"x": pa.array([bytes(8 << 20)])})
    if kind == "nulls":
        return pa.table({"x": pa.nulls(4_000_000, pa.int64())})
    if kind == "one row":
        return pa.table({"x": pa.array([np.zeros(4_000_000, np.int64)])})
    word = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), ["a" * 4096])
    return pa.table({"x": word.cast(pa.string())})


@pytest.mark.parametrize("kind", ["zeros", "nulls", "one row", "repeated"])
def test_a_table_that_inflates_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(inflating(kind), sink, compression="zstd")
    data = sink.getvalue().to_pybytes()
    assert len(data) < 100_000
    name = planted(tmp_path, data, ".parquet")
    assert len(Store(tmp_path).table(name)) > 0
    monkeypatch.setenv("FLYWHEEL_TABLE_GIB", str(4 / 1024))
    before = pa.total_allocated_bytes()
    with pytest.raises(DamagedError, match=r"0\.00390625 GiB.*FLYWHEEL_TABLE_GIB"):
        Store(tmp_path).table(name)
    assert pa.total_allocated_bytes() - before < 16 << 20


def test_a_table_within_the_limit_is_read_whatever_its_footer_cannot_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pa.table({"x": [f"{k % 500:0100}" for k in range(20_000)], "y": range(20_000)})
    name = Store(tmp_path).put_table(table)
    monkeypatch.setenv("FLYWHEEL_TABLE_GIB", str(4 / 1024))
    assert Store(tmp_path).table(name).equals(table)
    assert parquet.limit_bytes() == 4 << 20


def test_a_line_that_is_too_long_is_refused_by_reader_and_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = Ledger(tmp_path)
    book.append(event_of("run_created", name="x" * 5000))
    monkeypatch.setattr(ledger, "MAX_LINE_BYTES", 4000)
    with pytest.raises(FlywheelError, match="4000 bytes"):
        book.append(event_of("session_started", machine="x" * 5000))
    book.close()
    assert "longer than the 4000 bytes" in str(verify(tmp_path).first_bad)
    with pytest.raises(DamagedError, match="4000"):
        status(tmp_path)


def test_json_that_is_nested_too_deeply_or_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    with pytest.raises(DamagedError, match="not JSON"):
        Store(tmp_path).json(planted(tmp_path, deep, ".json"))
    monkeypatch.setattr("flywheel.storage.store.MAX_JSON_BYTES", 10)
    with pytest.raises(DamagedError, match="at most 10 bytes"):
        Store(tmp_path).json(planted(tmp_path, b"[1,2,3,4,5,6]", ".json"))
    (tmp_path / "ledger.jsonl").write_bytes(b'{"a":' * 100_000 + b"\n{}\n")
    with pytest.raises(RunError, match="nested too deeply"):
        status(tmp_path)


@pytest.mark.parametrize("way", ["fork", "resume"])
def test_a_fork_or_resume_builds_no_class_that_only_the_run_names(
    run_copy: Path, tmp_path: Path, way: str
) -> None:
    bomb = {"_target_": "os.mkdir", "path": str(tmp_path / "bomb")}
    rewrite(run_copy, lambda config: config["model"].update(bomb))
    run = flywheel.open_run(run_copy, CONFIG_DIR)
    forks = {"runs_dir": str(tmp_path / "forks")}
    with pytest.raises(FlywheelError, match=r"os\.mkdir"):
        run.fork(1, forks) if way == "fork" else run.resume({"generations": 9})
    assert not (tmp_path / "bomb").exists()


def test_a_class_chosen_by_configured_settings_is_checked_as_well_as_by_recorded_ones(run_copy: Path) -> None:
    bomb = run_copy / "bomb"
    ours = lines_of(run_copy)[0]["config"]["task"]["_target_"]

    def change(config: dict[str, Any]) -> None:
        config["task"] = {"_target_": "${settings.t}", "name": str(bomb)}
        config["settings"]["t"] = "os.mkdir"

    rewrite(run_copy, change)
    events = lines_of(run_copy)
    for event in events:
        if event.get("stage") == "train":
            event["facts"]["settings"]["t"] = ours
    reseal(run_copy, events)
    with pytest.raises(FlywheelError, match=r"os\.mkdir"):
        flywheel.open_run(run_copy, CONFIG_DIR).generation(1).task()
    assert not bomb.exists()


def test_pruning_deletes_nothing_through_a_link(run_copy: Path, tmp_path: Path) -> None:
    shutil.rmtree(run_copy / "objects")
    (tmp_path / "documents" / "ab").mkdir(parents=True)
    mine = tmp_path / "documents" / "ab" / "thesis.txt"
    mine.write_text("mine")
    (run_copy / "objects").symlink_to(mine.parents[1])
    with contextlib.suppress(FlywheelError, OSError):
        flywheel.open_run(run_copy).prune(last=0, yes=True)
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_has_no_place_among_the_artifacts_is_found(run_copy: Path, kind: str) -> None:
    stray = run_copy / "objects" / "zz"
    stray.write_text("x") if kind == "file" else stray.symlink_to("/etc")
    assert "'zz' (named by no line)" in str(verify(run_copy).first_bad)
