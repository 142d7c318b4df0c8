"""Modules as Lightning's users write them: what is judged is what was trained, or it is refused at once."""

from __future__ import annotations

import copy
import re
from typing import Any

import lightning
import numpy as np
import pytest
import torch
import torchmetrics
from torch import nn
from torch.nn.utils import prune

from flywheel.errors import ConfigError
from flywheel.testing.moons.model import Classifier
from tests.support.loop_runs import run_moons


class Masked(Classifier):
    """Has buffers that are infinite by design."""

    def __init__(self, width: int, lr: float) -> None:
        super().__init__(width, lr)
        self.register_buffer("mask", torch.full((4, 4), float("-inf")).triu(1))
        self.register_buffer("lowest", torch.tensor(float("inf")))
        self.register_buffer("scale8", torch.ones(4).to(torch.float8_e4m3fn))
        self.head.register_buffer("phase", torch.ones(3, dtype=torch.complex64))


class Breaks(Masked):
    """Something becomes NaN in the fit: ``broken`` names what."""

    broken = "mask"

    def on_train_end(self) -> None:
        with torch.no_grad():
            self.get_buffer(self.broken)[0] = float("nan")


class BreaksComplex(Breaks):
    broken = "head.phase"


class Infinite(Classifier):
    """A parameter is infinite from the start: no fit makes anything of it."""

    def __init__(self, width: int, lr: float) -> None:
        super().__init__(width, lr)
        self.limit = nn.Parameter(torch.full((2,), float("inf")), requires_grad=False)


class Late(lightning.LightningModule):
    """Makes its layers in ``configure_model``, as Lightning's documentation does for large ones."""

    def __init__(self, width: int, lr: float) -> None:
        super().__init__()
        self.width, self.lr, self.net = width, lr, None

    def configure_model(self) -> None:
        if self.net is None:
            self.net = nn.Sequential(nn.Linear(2, self.width), nn.ReLU(), nn.Linear(self.width, 2))

    def forward(self, points: torch.Tensor) -> Any:
        return self.net(points)

    training_step, configure_optimizers = Classifier.training_step, Classifier.configure_optimizers


class Lazy(Late):
    def configure_model(self) -> None:
        if self.net is None:
            self.net = nn.Sequential(nn.LazyLinear(self.width), nn.ReLU(), nn.LazyLinear(2))


class Again(Late):
    """Forgets that its layers may be there."""

    def configure_model(self) -> None:
        self.net = nn.Linear(2, 2)


class InSetup(Late):
    def configure_model(self) -> None: ...

    def setup(self, stage: str) -> None:
        Late.configure_model(self)


class PartlyInSetup(Classifier):
    def setup(self, stage: str) -> None:
        self.head = nn.Linear(self.head.in_features, 2)


class NeedsTrainer(Late):
    def configure_model(self) -> None:
        self.net = nn.Linear(2, self.trainer.max_steps)


class InFitStart(Classifier):
    """Keeps an average of its weights from the start of the fit on, as a submodule."""

    def on_fit_start(self) -> None:
        self.average = copy.deepcopy(self.head)


class InStep(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if batch_idx == 0:
            self.register_buffer("mean", batch[0].mean(0))
        return super().training_step(batch, batch_idx)


class InOptimizers(Classifier):
    def configure_optimizers(self) -> Any:
        self.scale = nn.Parameter(torch.ones(1))
        return super().configure_optimizers()


class Drops(Classifier):
    """Has a layer for training only, which it removes."""

    def __init__(self, width: int, lr: float) -> None:
        super().__init__(width, lr)
        self.projection = nn.Linear(2, 2)

    def on_train_end(self) -> None:
        del self.projection


class Grows(Classifier):
    def __init__(self, width: int, lr: float) -> None:
        super().__init__(width, lr)
        self.register_buffer("bank", torch.zeros(0, 2))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.bank = torch.cat([self.bank, batch[0]])
        return super().training_step(batch, batch_idx)


class Prunes(Classifier):
    def on_train_end(self) -> None:
        prune.l1_unstructured(self.head, "weight", amount=0.5)


class State(nn.Module):
    """State outside tensors, of all kinds that a checkpoint may have."""

    def __init__(self) -> None:
        super().__init__()
        self.state: Any = {"best": float("inf"), "size": (2, 3), 0: None, "mean": np.zeros(2)}

    def get_extra_state(self) -> Any:
        return self.state

    def set_extra_state(self, state: Any) -> None:
        self.state = state


class Odd(Late):
    """Layers, ties, buffers and state of many kinds at once, all of which can be kept."""

    def __init__(self, width: int, lr: float) -> None:
        super().__init__(width, lr)
        net = nn.Sequential(nn.LazyLinear(width), nn.LazyBatchNorm1d(), nn.ReLU(), nn.Linear(width, 2))
        nn.utils.parametrizations.weight_norm(net[3])
        self.net, self.state = net, State()
        self.again, self.average = net[3], copy.deepcopy(net[3])
        self.accuracy = torchmetrics.MeanMetric()
        self.accuracy.persistent(True)
        self.register_buffer("lowest", torch.full((2,), float("inf")))
        self.register_buffer("absent", None)
        self.register_buffer("view", self.lowest[:1])
        self.register_buffer("scratch", torch.full((2,), float("nan")), persistent=False)
        for kind in ("float8_e5m2", "bfloat16", "uint16", "bool", "complex64"):
            self.register_buffer(f"of_{kind}", torch.ones(2).to(getattr(torch, kind)))

    def configure_model(self) -> None: ...

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.lowest.copy_(torch.minimum(self.lowest, batch[0].min(0).values))
        self.accuracy.update(1.0)
        loss = super().training_step(batch, batch_idx)
        self.state.state |= {"best": min(self.state.state["best"], loss.item()), "mean": np.ones(2)}
        return loss


class Shifted(Classifier):
    """What it learns besides weights goes into a checkpoint by Lightning's hooks."""

    shift: Any = 0.0

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        return super().forward(points + self.shift)

    def on_fit_start(self) -> None:
        self.shift = 1.0

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["shift"] = self.shift

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.shift = checkpoint["shift"]


class KeepsObject(Shifted):
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["shift"] = {self.shift}


@pytest.fixture
def train(tmp_path):
    """Runs genesis, or more, with a model."""

    def run(model, generations=0, **overrides):
        path = f"{model.__module__}.{model.__qualname__}"
        return run_moons(tmp_path, model___target_=path, generations=generations, **overrides)

    return run


def test_buffers_that_are_infinite_by_design_are_no_failure(train):
    run = train(Masked)
    assert run.exit_code == 0
    assert run.champion().load().lowest == float("inf")


MADE_ANEW = "setup, configure_model or configure_optimizers made"
NOT_TAKEN = "the weights of a fit must load.*"


@pytest.mark.parametrize(
    ("model", "steps", "reason"),
    [
        (Breaks, 4, "weights are not finite after 4 steps: mask"),
        (BreaksComplex, 4, "weights are not finite after 4 steps: head.phase"),
        (Infinite, 4, "weights are not finite after 4 steps: limit"),
        (Again, 0, MADE_ANEW),
        (PartlyInSetup, 0, MADE_ANEW),
        (InOptimizers, 0, "scale.*in __init__"),
        (InFitStart, 0, "average.*in __init__"),
        (InStep, 0, "mean.*in __init__"),
        (Drops, 4, NOT_TAKEN + "missing: projection"),
        (Prunes, 4, NOT_TAKEN + "missing: head.weight; not in the model: head.weight_mask"),
        (Grows, 4, NOT_TAKEN + "of another shape: bank"),
    ],
)
def test_what_cannot_be_judged_as_trained_fails_as_soon_as_it_shows(train, model, steps, reason, monkeypatch):
    """What is not finite; layers that a fit makes anew, or later; weights that a new module does not take."""
    done: list[int] = []
    monkeypatch.setattr(model, "on_train_batch_end", lambda *_: done.append(1), raising=False)
    run = train(model, settings__steps=4)
    assert run.exit_code == 1
    assert re.match(f"train: .*{reason}", run.status().reason), run.status().reason
    assert len(done) == steps


@pytest.mark.parametrize(("model", "genesis"), [(Late, "train"), (Late, "fresh"), (Lazy, "train")])
def test_layers_made_late_are_there_when_weights_are_loaded(train, model, genesis):
    run = train(model, 1, init="parent", genesis=genesis)
    assert run.exit_code == 0
    assert run.champion().load().net[0].weight.shape == (64, 2)


@pytest.mark.parametrize(
    ("model", "genesis", "words"),
    [
        (NeedsTrainer, "train", "configure_model must work without a trainer.* not attached"),
        (InSetup, "train", "has no parameters. Layers made in setup"),
        (Lazy, "fresh", "has none before a first batch"),
        (KeepsObject, "train", r"checkpoint\.shift is a set"),
    ],
)
def test_what_cannot_be_loaded_again_is_refused_before_training(train, model, genesis, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        train(model, genesis=genesis)
    assert not list(tmp_path.rglob("ledger.jsonl"))


def test_layers_ties_buffers_and_state_of_many_kinds_are_judged_as_trained(train):
    run = train(Odd, settings__steps=4)
    assert run.exit_code == 0, run.status().reason
    model = run.champion().load()
    assert model.again.parametrizations is model.net[3].parametrizations
    assert model.lowest.isfinite().all()
    assert model.state.state["size"] == (2, 3)
    assert model.state.state["best"] < 1
    assert model.state.state["mean"].tolist() == [1, 1]
    assert model.accuracy.mean_value == model.accuracy.weight > 0


def test_a_model_is_judged_with_the_state_it_was_trained_to(train):
    champion = train(Shifted).champion()
    model, items = champion.load(), champion.task().suites()[1].items
    assert model.shift == 1.0
    points = torch.tensor(items["point"].to_pylist())
    right = (model(points).argmax(1).numpy() == items["label"].to_numpy()).mean()
    assert champion.metrics["gate"]["accuracy"].value == pytest.approx(right)
