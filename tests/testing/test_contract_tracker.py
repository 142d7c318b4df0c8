"""Our trackers keep the contract; one that breaks a rule of it is told which."""

from __future__ import annotations

import io
import os
import pickle
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flywheel.testing import ContractBroken, check_tracker
from flywheel.trackers import NoTracker
from flywheel.trackers.console import plain_console
from flywheel.trackers.csv import Csv
from flywheel.trackers.terminal import JsonLines, LiveView, PlainLines, Turns
from flywheel.trackers.wandb import Wandb


def lightning_csv(folder: Path) -> Any:
    from lightning.pytorch.loggers import CSVLogger

    return CSVLogger(str(folder))


def offline_wandb(folder: Path) -> Any:
    os.environ["WANDB_SILENT"] = "true"
    return Wandb(mode="offline")


OURS: dict[str, Callable[[Path], Any]] = {
    "none": lambda folder: NoTracker(),
    "json": lambda folder: JsonLines(),
    "plain": lambda folder: PlainLines(Turns(2)),
    "live": lambda folder: LiveView(plain_console(file=io.StringIO(), force_terminal=True), Turns(2)),
    "csv": lambda folder: Csv(),
    "lightning": lightning_csv,
    "wandb": offline_wandb,
}


@pytest.mark.parametrize("name", OURS)
def test_ours_keep_the_contract(name: str, tmp_path: Path) -> None:
    check_tracker(lambda: OURS[name](tmp_path))


class Changes(NoTracker):
    def event(self, event: Any, state: Any) -> None:
        state.generations.clear()


class ChangesValues(NoTracker):
    def metrics(self, step: Any, values: Any) -> None:
        values.clear()


class NeedsFirstEvent(NoTracker):
    def event(self, event: Any, state: Any) -> None:
        self._file = io.StringIO()

    def close(self) -> None:
        self._file.close()


class NeedsAllEvents(NoTracker):
    def event(self, event: Any, state: Any) -> None:
        if event.event == "run_created":
            self._lines: list[int] = []
        self._lines.append(event.seq)


class Draws(NoTracker):
    def event(self, event: Any, state: Any) -> None:
        random.random()


class Pickles(NoTracker):
    def open(self, directory: Path) -> None:
        self._path = directory / "state.pkl"

    def event(self, event: Any, state: Any) -> None:
        self._path.write_bytes(pickle.dumps({"seq": event.seq}))


class Appends(NoTracker):
    def open(self, directory: Path) -> None:
        with (directory / "HEAD").open("a") as file:
            file.write(" ")


class LeavesThread(NoTracker):
    def open(self, directory: Path) -> None:
        threading.Thread(target=time.sleep, args=[1.0], name="uploader", daemon=False).start()


@pytest.mark.parametrize(
    ("tracker", "words"),
    [
        (Changes, "it changed generation_started or its state"),
        (ChangesValues, "must not change the values"),
        (NeedsFirstEvent, "with a run that was refused it raised AttributeError"),
        (NeedsAllEvents, "with a run that was resumed it raised AttributeError"),
        (Draws, "it changed Python's random numbers"),
        (Pickles, "it wrote state.pkl"),
        (Appends, "it changed HEAD"),
        (LeavesThread, "uploader goes on"),
    ],
)
def test_a_broken_rule_is_named(tracker: Callable[[], Any], words: str) -> None:
    with pytest.raises(ContractBroken, match=words):
        check_tracker(tracker)
