"""A recipe's own loggers and progress bar of Lightning, beside the run's."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.callbacks import Callback, ProgressBar

import flywheel
from tests.support.harness import PROBE, PROBE_CONF

LOGGERS = "lightning.pytorch.loggers"
OWN = (
    *("log=quiet", "name=run", "trainer.log_every_n_steps=10"),
    "model._target_=tests.support.probe_parts.Logs",
    *("tuner._target_=tests.support.probe_parts.Tuner", "+tuner.rates=[0.01,0.02]", "+tuner.fidelity=0.5"),
)


def run(folder: Path, *overrides: str) -> flywheel.Run:
    return flywheel.run([*PROBE[2:], *OWN, f"runs_dir={folder}", *overrides], config_dir=PROBE_CONF)


class Bar(ProgressBar):
    """Notes what Lightning's bars show beside the loss."""

    shown: list[dict[str, Any]] = []  # noqa: RUF012 - shared on purpose

    def disable(self) -> None:
        """Lightning calls it."""

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self.shown.append(self.get_metrics(trainer, module))


class Place(Callback):
    """Notes where a part of a recipe would put its files."""

    seen: set[str | None] = set()  # noqa: RUF012 - shared on purpose

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.seen.add(trainer.log_dir)


@pytest.fixture(autouse=True)
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    monkeypatch.setattr(Bar, "shown", [])
    return Bar.shown


def test_each_fit_has_a_folder_of_its_own_that_names_generation_and_trial(
    tmp_path: Path, shown: list[dict[str, Any]]
) -> None:
    logger = f"{{_target_: {LOGGERS}.CSVLogger, save_dir: {tmp_path}/logs, version: mine}}"
    bar = ("trainer.enable_progress_bar=true", f"trainer.callbacks=[{{_target_: {__name__}.Bar}}]")
    followed = run(tmp_path / "runs", "generations=1", f"trainer.logger={logger}", *bar)
    folders = {path.parent.name: path for path in tmp_path.glob("logs/lightning_logs/mine/run/*/metrics.csv")}
    assert sorted(folders) == [
        *("generation_0", "generation_0_trial_0", "generation_0_trial_1"),
        *("generation_1", "generation_1_trial_0", "generation_1_trial_1"),
    ]
    with folders["generation_1_trial_1"].open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["generation"], row["trial"]) for row in rows} == {("1", "1")}
    assert all(float(row["loss"]) for row in rows), "its own values are kept"
    numbers = [(values["generation"], values.get("trial")) for values in shown]
    assert numbers == [(g, trial) for g in "01" for trial in ("0", "1", None)]
    assert not any("v_num" in values for values in shown)
    alone = run(tmp_path / "alone", "generations=1")
    assert alone.champion().weights == followed.champion().weights


def test_tensorboard_has_a_folder_a_fit_too(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    logger = f"{{_target_: {LOGGERS}.TensorBoardLogger, save_dir: {tmp_path}/logs}}"
    run(tmp_path / "runs", "generations=0", f"trainer.logger={logger}")
    assert list(tmp_path.glob("logs/lightning_logs/run/generation_0/events.*"))


def test_without_a_logger_of_its_own_a_recipe_has_lightning_s_folder(tmp_path: Path) -> None:
    callback = f"trainer.callbacks=[{{_target_: {__name__}.Place}}]"
    run(tmp_path / "runs", "generations=0", callback, f"+trainer.default_root_dir={tmp_path}/own")
    assert Place.seen == {f"{tmp_path}/own"}
