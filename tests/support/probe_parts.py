"""Parts of the recipe ``probe``: moons, with faults that a test switches on by ``PROBE_FAULT``.

``PROBE_FAULT`` is ``STAGE:KIND``, e.g. ``train:nan``; the kind ``kill1`` is a SIGKILL of rank 1 in torchrun's
first attempt, ``only1`` an exception on rank 1 alone. It is no part of a run's identity, so the same command
can be run again without it.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pyarrow as pa
import torch

from flywheel.curators.confident import Confident
from flywheel.graders.confidence import Confidence
from flywheel.protocols import TunerView
from flywheel.records import Choice, GateResult, Role, Suite, Trial
from flywheel.runtime import work
from flywheel.testing.moons.model import Classifier
from flywheel.testing.moons.task import Moons
from flywheel.trackers import NoTracker
from tests.support import deadly

deadly.install()
work.KEEP_EVERY_SECONDS = float(os.environ.get("PROBE_KEEP_EVERY", work.KEEP_EVERY_SECONDS))


def fault(stage: str) -> str:
    """The kind of fault that the test asked for in this stage, or an empty string."""
    where, _, kind = os.environ.get("PROBE_FAULT", "").partition(":")
    if where == stage and kind == "raise":
        raise RuntimeError(f"the {stage} stage broke on purpose")
    if where == stage and kind == "exit":
        raise SystemExit(0)
    rank = os.environ.get("RANK")
    if where == stage and kind == f"kill{rank}" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)
    if where == stage and kind == f"only{rank}":
        raise RuntimeError(f"the {stage} stage broke on rank {rank} on purpose")
    return kind if where == stage else ""


def at_unit(stage: str, name: object) -> None:
    """Log a unit by the name of its first row, and kill this process if it is that which is to die there.

    ``PROBE_UNITS`` is the file of the log. ``PROBE_KILLS`` has for each attempt of torchrun, or each
    ``PROBE_ATTEMPT``, the unit at which it ends, e.g. ``generate unlabelled-120,grade unlabelled-6``; the
    units of a fit are its steps, named by the rank.
    """
    if "PROBE_UNITS" not in os.environ:
        return
    attempt = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", os.environ.get("PROBE_ATTEMPT", "0")))
    with open(os.environ["PROBE_UNITS"], "a") as file:
        file.write(f"{attempt} {stage} {name}\n")
    if os.environ["PROBE_KILLS"].split(",")[attempt:][:1] == [f"{stage} {name}"]:
        os.kill(os.getpid(), signal.SIGKILL)


def with_points(table: pa.Table, change: Callable[[np.ndarray], np.ndarray]) -> pa.Table:
    """The table with other points; ``change`` has those that it has, of shape (rows, 2)."""
    points = table["point"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, 2)
    flat = pa.array(change(points).astype(np.float32).ravel())
    column = pa.FixedSizeListArray.from_arrays(flat, 2)
    return table.set_column(table.column_names.index("point"), "point", column)


def spoilt(table: pa.Table, kind: str) -> pa.Table:
    """The table without rows, without the first one, or with a first point that is not finite."""
    if kind in ("empty", "short"):
        return table.slice(0 if kind == "empty" else 1, 0 if kind == "empty" else None)
    if kind not in ("nan", "inf"):
        return table
    return with_points(table, lambda points: np.vstack([[float(kind), 0.0], points[1:]]))


@dataclass
class DiesInWorker:
    """A dataset whose worker process is killed at the third item."""

    dataset: Any

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, k: int) -> Any:
        if k == 2 and torch.utils.data.get_worker_info():
            os.kill(os.getpid(), signal.SIGKILL)
        return self.dataset[k]


class Task(Moons):
    """Moons with faults."""

    def seed(self) -> pa.Table:
        return spoilt(super().seed(), fault("seed"))

    def suites(self) -> list[Suite]:
        kind = fault("suites")
        return [Suite(s.name, s.role, spoilt(s.items, kind), s.metrics) for s in super().suites()]

    def prompts(self, generation: int, carry: Any, key: Any) -> pa.Table:
        """With the point of the last, or of every, one taken from the gate's items."""
        prompts, asked = super().prompts(generation, carry, key), super().suites()[1].items
        count = {"one": 1, "all": len(asked)}.get(fault("prompts"), 0)
        if not count:
            return prompts
        own = 0 if count > 1 else len(prompts) - 1
        points = pa.concat_tables(
            [prompts.select(["point"]).slice(0, own), asked.select(["point"]).slice(0, count)]
        )
        return points.append_column("prompt", prompts["prompt"].slice(0, len(points)))

    def generate(self, model: Any, prompts: pa.Table, settings: Any, keys: Any) -> Any:
        at_unit("generate", prompts["prompt"][0])
        made = pa.table(super().generate(model, prompts, settings, keys))
        return spoilt(made, fault("generate"))

    def data(self, corpus: pa.Table, settings: Any) -> Any:
        at_unit("fit", settings["lr"])
        if fault("data") == "empty":
            return torch.utils.data.DataLoader([])
        loader = super().data(corpus, settings)
        if fault("data") == "worker":
            dataset = DiesInWorker(loader.dataset)
            return torch.utils.data.DataLoader(dataset, 8, num_workers=1, multiprocessing_context="fork")
        return loader

    def evaluate(self, model: Any, opponent: Any, items: pa.Table, keys: Any) -> np.ndarray:
        at_unit("evaluate", items["item"][0])
        if items["item"][0].as_py().startswith("sealed"):
            fault("sealed")
        scores = super().evaluate(model, opponent, items, keys)
        return {"range": scores + 1, "nan": scores * np.nan, "short": scores[1:]}.get(
            fault("evaluate"), scores
        )


@dataclass
class Meanwhile(NoTracker):
    """Calls something in another thread, or in this one, once a stage is recorded."""

    synchronous = True

    stage: str = "tune"
    own_thread: bool = False

    def event(self, event: Any, state: Any) -> None:
        if getattr(event, "stage", None) != self.stage or not meanwhile:
            return
        if self.own_thread:
            self._call()
            return
        thread = threading.Thread(target=self._call)
        thread.start()
        thread.join()

    def _call(self) -> None:
        action = meanwhile.pop()
        try:
            happened.append(action())
        except Exception as error:
            happened.append(error)


meanwhile: list[Callable[[], Any]] = []
"""What ``Meanwhile`` calls."""
happened: list[Any] = []
"""What came of it: a result or an exception."""


class NoGate(Moons):
    """A task that forgot the suite which decides."""

    def suites(self) -> list[Suite]:
        return [suite for suite in super().suites() if suite.role is not Role.GATE]


class NoDev(Moons):
    """A task without a suite to tune on."""

    def suites(self) -> list[Suite]:
        return [suite for suite in super().suites() if suite.role is not Role.DEV]


class Learner(Classifier):
    """Knows whether it was fitted."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.register_buffer("fits", torch.zeros(1))

    def on_train_start(self) -> None:
        self.fits += 1


class Memorises(Moons):
    """A task whose fitted models know the gate's items by heart."""

    def evaluate(self, model: Any, opponent: Any, items: pa.Table, keys: Any) -> np.ndarray:
        scores = super().evaluate(model, opponent, items, keys)
        is_known = items["item"][0].as_py().startswith("gate") and bool(model.fits)
        return np.ones(len(scores)) if is_known else scores


class Model(Classifier):
    """The classifier of moons with faults."""

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        at_unit("train", os.environ.get("RANK", "0"))
        loss = super().training_step(batch, batch_idx)
        kind = fault("train")
        return loss * float(kind) if kind in ("nan", "inf") else loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if fault("train") == "sigterm" and self.trainer.global_step == 5:
            os.kill(os.getpid(), signal.SIGTERM)


class Logs(Classifier):
    """Logs its loss, and half of it."""

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        loss = super().training_step(batch, batch_idx)
        self.log("loss", loss)
        self.log("half_loss", loss / 2)
        return loss


class NoTrainingStep(lightning.LightningModule):
    """Lacks what Lightning needs."""

    def __init__(self, width: int, lr: float) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters())


class NotAModule(torch.nn.Module):
    """A plain torch module."""

    def __init__(self, width: int, lr: float) -> None:
        super().__init__()


class Grader(Confidence):
    """Confidence with faults."""

    def grade(self, samples: pa.Table, load_parent: Callable[[], Any], keys: Any) -> Any:
        fault("grade")
        at_unit("grade", samples["prompt"][0])
        return super().grade(samples, load_parent, keys)


class PaidTask(Task):
    """Its answers and scores are an outside service's."""

    outside_service = True


class PaidGrader(Grader):
    """Its scores are an outside service's."""

    outside_service = True


class SlowGrader(Confidence):
    """Takes a minute, and leaves a file that says it began."""

    def grade(self, samples: pa.Table, load_parent: Callable[[], Any], keys: Any) -> Any:
        Path("grading").touch()
        time.sleep(60)
        return super().grade(samples, load_parent, keys)


@dataclass(kw_only=True)
class Curator(Confident):
    """Confident, with a carry that counts its turns."""

    kept: str = "promotion"

    def __post_init__(self) -> None:
        self.carry_kept = self.kept

    def curate(self, samples: pa.Table, carry: Any, key: Any) -> Any:
        decisions, _ = super().curate(samples, carry, key)
        if fault("curate") == "none":
            decisions["keep"] = np.zeros(len(samples), bool)
        return decisions, {"turns": carry.get("turns", 0) + 1}


@dataclass(kw_only=True)
class Tuner:
    """Tries learning rates for a share of the steps, takes the best; remembers what it took."""

    rates: list[float] = field(default_factory=list)
    fidelity: float = 0.25
    init: str | None = None
    redo_from: str = "train"
    memory: str | None = None

    def ask(self, view: TunerView) -> Trial | None:
        left = self.rates[len(view.results) + len(view.pending) :]
        if not left:
            return None
        return Trial({**view.settings, "lr": left[0]}, self.fidelity, redo_from=self.redo_from)

    def choose(self, view: TunerView) -> Choice:
        fault("tune")
        scores = {r.trial.settings["lr"]: r.score for r in view.results if r.score is not None}
        best = max(scores, key=scores.__getitem__) if scores else view.settings["lr"]
        carry = {"taken": [*view.carry.get("taken", []), best]}
        shown = ", ".join(f"{study.of} {study.age}" for study in view.prior)
        return Choice({**view.settings, "lr": best}, self.init or view.init, carry, reason=shown)


@dataclass(kw_only=True)
class Decided:
    """A gate whose verdict is given: it promotes always or never."""

    promote: bool = True

    def test(self, evidence: Any, level: float, carry: Any, key: Any) -> tuple[GateResult, Any]:
        fault("gate")
        differences = np.concatenate([evidence.differences(suite).items for suite in evidence.suites])
        return GateResult(f"decided on {len(differences)} items", p_value=0.0 if self.promote else 1.0), {}


class Reviewer:
    """Answers what ``PROBE_CONSENT`` says; None without it."""

    def review(self, request: Any) -> bool | None:
        return {"yes": True, "no": False}.get(os.environ.get("PROBE_CONSENT", ""))


@dataclass
class SignalAt(NoTracker):
    """A tracker that sends signals to this process once a stage is recorded, or while it works."""

    synchronous = True

    stage: str = ""
    """Name of the stage, or of an event; empty: after every stage."""
    generation: int | None = None
    within: bool = False
    """While the stage works instead of after it."""
    times: int = 1
    number: int = int(signal.SIGINT)

    def event(self, event: Any, state: Any) -> None:
        name, number = getattr(event, "stage", event.event), getattr(event, "generation", None)
        if self.within or number is None or (not self.stage and event.event != "stage"):
            return
        if self._is_here(name, number):
            self._send()

    def progress(self, progress: Any) -> None:
        if self.within and progress.done and self._is_here(progress.stage, progress.generation):
            self._send()

    def _is_here(self, name: str, generation: int) -> bool:
        return self.stage in ("", name) and self.generation in (None, generation)

    def _send(self) -> None:
        for _ in range(self.times):
            os.kill(os.getpid(), self.number)


class NotesRank(NoTracker):
    """A tracker that notes in the file ``ranks`` on which rank it is told of an event."""

    def event(self, event: Any, state: Any) -> None:
        with open("ranks", "a") as file:
            file.write(f"{os.environ['RANK']}\n")
