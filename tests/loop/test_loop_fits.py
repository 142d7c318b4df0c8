"""What a fit says while it runs, and which of its weights are taken."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import lightning
import pyarrow as pa
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, IterableDataset

from flywheel.records import Progress
from flywheel.runtime import fit
from flywheel.testing.moons.model import Classifier
from flywheel.testing.moons.task import Moons
from flywheel.trackers import NoTracker
from tests.support.loop_runs import run_moons


class Two(Classifier):
    """Two optimisers by hand, as in Lightning's example GAN."""

    automatic_optimization = False

    def configure_optimizers(self) -> Any:
        return [torch.optim.Adam(part.parameters(), self.lr) for part in (self.features, self.head)]

    def training_step(self, batch: Any, batch_idx: int) -> None:
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            optimizer.step()


class Endless(IterableDataset):
    def __iter__(self) -> Any:
        while True:
            yield torch.zeros(2), torch.tensor(0)


class WithoutLength(Moons):
    def data(self, corpus: pa.Table, settings: Any) -> Any:
        return DataLoader(Endless(), 4)


class Validates(Classifier):
    """Gets worse by its own measure: the first epoch is the best one."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("worse", float(self.current_epoch))


class Splits(lightning.LightningDataModule):
    def __init__(self, loader: DataLoader) -> None:
        super().__init__()
        self.loader = loader

    def train_dataloader(self) -> DataLoader:
        return self.loader

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.loader.dataset, 4)


class WithValidation(Moons):
    def data(self, corpus: pa.Table, settings: Any) -> Any:
        return Splits(super().data(corpus, settings))


class Follows(NoTracker):
    synchronous = True
    seen: list[Progress] = []  # noqa: RUF012 - shared on purpose

    def progress(self, progress: Progress) -> None:
        if progress.stage == "train" and progress.done:
            self.seen.append(progress)


@pytest.fixture
def follow(monkeypatch):
    """Every progress that a fit reports."""
    monkeypatch.setattr(fit, "_REPORT_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(Follows, "seen", [])
    return Follows.seen


run = functools.partial(run_moons, generations=0, **{"+tracker._target_": f"{__name__}.Follows"})
TWO = {"model___target_": f"{__name__}.Two"}
WITHOUT_LENGTH = {"task___target_": f"{__name__}.WithoutLength"}
TIMED = {"trainer__max_steps": -1, "trainer__max_epochs": -1, "+trainer__max_time": "00:00:00:01"}


@pytest.mark.parametrize(
    ("overrides", "total"),
    [
        (TWO, 40),
        (TWO | {"trainer__max_steps": -1, "trainer__max_epochs": 3}, 3),
        ({"trainer__max_epochs": 2}, 2),
        (WITHOUT_LENGTH | {"trainer__max_epochs": 2}, 40),
        (WITHOUT_LENGTH | TIMED, None),
    ],
)
def test_progress_is_counted_by_what_ends_the_fit_and_has_no_total_where_time_does(
    overrides, total, follow, tmp_path
):
    assert run(tmp_path, **overrides).exit_code == 0
    assert {progress.total for progress in follow} == {total}
    done = [progress.done for progress in follow]
    assert done == sorted(done)
    assert total is None or done[-1] == total


BEST = {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint", "monitor": "worse"}
VALIDATED = {
    "model___target_": f"{__name__}.Validates",
    "task___target_": f"{__name__}.WithValidation",
    "trainer__enable_checkpointing": True,
    "trainer__max_steps": -1,
    "trainer__max_epochs": 3,
}


def test_the_best_checkpoint_is_taken_where_one_is_monitored(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    last = run(tmp_path / "last", **VALIDATED)
    best = run(tmp_path / "best", **VALIDATED, trainer__callbacks=[BEST])
    once = run(tmp_path / "once", **{**VALIDATED, "trainer__max_epochs": 1})
    steps = once.status().generations[0].cost.steps
    taken = best.champion().record.train.facts.best
    assert (taken.monitor, taken.value, taken.step) == ("worse", 0.0, steps)
    assert last.champion().record.train.facts.best is None
    assert best.champion().weights == once.champion().weights != last.champion().weights
    assert not list((tmp_path / "here").iterdir())
    assert not list(tmp_path.rglob("*.ckpt"))


def test_checkpoints_go_where_the_recipe_says(tmp_path):
    kept = {**BEST, "dirpath": str(tmp_path / "mine")}
    run(tmp_path / "runs", **VALIDATED, trainer__callbacks=[kept])
    assert list((tmp_path / "mine").glob("*.ckpt"))


def test_a_fit_that_fails_leaves_no_checkpoints(tmp_path, monkeypatch):
    monkeypatch.setattr(ModelCheckpoint, "on_train_end", lambda *_: 1 / 0)
    assert run(tmp_path, **VALIDATED, trainer__callbacks=[BEST]).exit_code == 1
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.filterwarnings("default")
def test_a_warning_of_lightning_is_said_once_and_not_at_each_fit(tmp_path, monkeypatch):
    shown: list[str] = []
    monkeypatch.setattr(fit, "_shown", set())
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: shown.append(str(message))
        run(tmp_path, model___target_=f"{__name__}.Validates", generations=2)
    assert sum("have no `val_dataloader`" in message for message in shown) == 1
