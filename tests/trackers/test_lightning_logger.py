"""Loggers of Lightning as trackers: what they have is what the ledger has, by one step."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from flywheel.curves import run_curve
from flywheel.storage.store import Store
from tests.support.loop_runs import run_moons
from tests.support.wandb_files import mirror

LOGGERS = "lightning.pytorch.loggers"
LOGS = {"model._target_": "tests.support.probe_parts.Logs", "trainer.log_every_n_steps": 10}


def logger(kind: str, **arguments: Any) -> dict[str, Any]:
    return {f"+tracker.own.{key}": v for key, v in {"_target_": f"{LOGGERS}.{kind}", **arguments}.items()}


def points(rows: list[dict[str, str]], name: str) -> list[tuple[int, float]]:
    """Step and value of one metric."""
    return [(int(row["step"]), float(row[name])) for row in rows if row.get(name)]


def test_a_resumed_run_has_the_curve_and_the_metrics_of_every_generation(tmp_path: Path) -> None:
    own = logger("CSVLogger", save_dir=str(tmp_path / "logs"))
    run_moons(tmp_path / "runs", generations=0, **LOGS, **own, name="run")
    run = run_moons(tmp_path / "runs", generations=2, **LOGS, **own, name="run")
    curve = [
        r for r in run_curve(Store(run.path), run.generation(0).state).to_pylist() if r["name"] == "loss"
    ]
    for version, generations in ((0, {0}), (1, {0, 1, 2})):
        folder = tmp_path / "logs" / "lightning_logs" / f"version_{version}"
        with (folder / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        losses = [(r["total_step"], r["value"]) for r in curve if r["generation"] in generations]
        assert sorted(points(rows, "train/loss")) == losses
        status = run.status().json()["generations"]
        steps = [sum(g["cost"]["steps"] for g in status[: number + 1]) for number in generations]
        values = [status[number]["metrics"]["gate"]["accuracy"]["value"] for number in generations]
        assert points(rows, "evaluation/gate/accuracy") == list(zip(steps, values, strict=True))
        assert not [key for key in rows[0] if key.startswith(("generate/", "evaluate/"))], "by other steps"
    hyperparameters = yaml.safe_load((folder / "hparams.yaml").read_text())
    assert hyperparameters["settings"]["lr"] == 0.01
    assert hyperparameters["run"] == "moons/run"


def test_tensorboard_has_the_loss_by_the_step_of_the_run(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    own = logger("TensorBoardLogger", save_dir=str(tmp_path / "logs"), name="", version="run")
    run = run_moons(tmp_path / "runs", generations=1, **LOGS, **own)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(tmp_path / "logs" / "run"), size_guidance={"scalars": 0})
        events.Reload()
    curve = run_curve(Store(run.path), run.generation(0).state).to_pylist()
    losses = [(row["total_step"], row["value"]) for row in curve if row["name"] == "loss"]
    seen = [(point.step, point.value) for point in events.Scalars("train/loss")]
    assert sorted(seen) == [(step, pytest.approx(value, rel=1e-6)) for step, value in losses]


def test_wandb_by_lightning_has_the_loss_and_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    (tmp_path / "logs").mkdir()
    own = logger("WandbLogger", save_dir=str(tmp_path / "logs"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = run_moons(tmp_path / "runs", generations=1, **LOGS, **own)
    curve = run_curve(Store(run.path), run.generation(0).state).to_pylist()
    losses = [(row["total_step"], row["value"]) for row in curve if row["name"] == "loss"]
    seen = mirror(tmp_path / "logs").series("trainer/global_step", "train/loss")
    assert sorted(seen) == losses
