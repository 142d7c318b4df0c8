"""A run whose data were mended after a crash goes on without another name, and loses nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import flywheel
from flywheel.errors import ExitCode, IdentityError
from flywheel.testing import CONFIG_DIR
from flywheel.testing.moons.task import Moons


class Changing(Moons):
    """Human samples and crashes as the environment says."""

    def seed(self) -> pa.Table:
        rows = super().seed()
        return rows.slice(int(os.environ.get("SKIPPED", "0")))

    def data(self, corpus: pa.Table, settings: Any) -> Any:
        if os.environ.get("CRASH"):
            raise ValueError("a broken row")
        return super().data(corpus, settings)


def run(folder: Path, **overrides: Any) -> flywheel.Run:
    config = {"recipe": "moons", "generations": 0, "log": "quiet", "threads": 1, "runs_dir": str(folder)}
    task = {"task._target_": f"{__name__}.Changing"}
    return flywheel.run({**config, **task, **overrides}, config_dir=CONFIG_DIR)


def test_where_no_generation_ended_well_the_run_begins_anew_and_keeps_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for tries, skipped in enumerate(("0", "1", "2")):
        monkeypatch.setenv("SKIPPED", skipped)
        monkeypatch.setenv("CRASH", "yes")
        assert run(tmp_path).exit_code is ExitCode.FAILED
        assert len(list(tmp_path.glob("moons/*"))) == tries + 1
    assert "the run begins anew" in capsys.readouterr().out
    monkeypatch.delenv("CRASH")
    made = run(tmp_path)
    assert made.exit_code is ExitCode.FINISHED
    assert [g["status"] for g in made.status().json()["generations"]] == ["failed", "promoted"]
    kept = [path for path in tmp_path.glob("moons/*") if path != made.path]
    assert len(kept) == 2
    assert all(flywheel.open_run(path).verify().first_bad is None for path in kept)


def test_where_one_ended_well_a_name_that_works_is_suggested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = run(tmp_path)
    monkeypatch.setenv("SKIPPED", "1")
    name = f"{made.path.name}-2"
    with pytest.raises(IdentityError, match=f"Give name={name} to start a new run"):
        run(tmp_path, generations=1)
    assert run(tmp_path, name=name).exit_code is ExitCode.FINISHED
    monkeypatch.setenv("SKIPPED", "2")
    with pytest.raises(IdentityError, match=f"Give name={made.path.name}-3 to"):
        run(tmp_path, generations=1)
