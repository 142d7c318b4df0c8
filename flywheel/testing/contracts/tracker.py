"""The contract of a tracker: what a run may call, in any legal order, and what a tracker leaves alone."""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from msgspec.structs import replace

import flywheel
from flywheel.records import Progress, Step
from flywheel.storage import ledger
from flywheel.storage.events import Event, RunEnded
from flywheel.storage.state import RunState
from flywheel.testing.contracts.bench import ContractBroken, rule
from flywheel.testing.places import CONFIG_DIR
from flywheel.trackers.build import as_tracker

ODD = "\x1b[2J[red]Überraschung ☃ =1+1\n"
VALUES = {
    "loss": 0.5,
    "nan": float("nan"),
    "inf": float("-inf"),
    ODD: 1.0,
    "a/b*c.d": 2.0,
    "x" * 300: 3.0,
    "": 4.0,
}
_CALL_SECONDS = 60.0
_SHOWN = 3


def check_tracker(build: Callable[[], Any]) -> None:
    """Check a tracker on the sessions of a small run; ``build`` makes a new one for each.

    A run that is new, resumed, pruned, failed, or refused before its first event; odd names and values; each
    in a thread of its own, as in a run. Raises ContractBroken.
    """
    with tempfile.TemporaryDirectory(prefix="flywheel-contract-") as folder:
        whole, pruned = (
            Path(shutil.copytree(run, Path(folder, run.parent.parent.name))) for run in _small_runs()[1:]
        )
        new, resumed = _sessions(whole)
        failed = [*new[:-1], _failed(new[-1])]
        *before, last = _sessions(pruned)
        earlier = list(itertools.chain(*before))
        for name, directory, session in (
            ("a run that was refused", whole, _refused),
            ("a new run", whole, partial(_follow, before=[], session=new)),
            ("a run that failed", whole, partial(_follow, before=[], session=failed)),
            ("a run that was resumed", whole, partial(_follow, before=new, session=resumed)),
            ("a run that was pruned", pruned, partial(_follow, before=earlier, session=last)),
        ):
            _check_session(name, build, partial(session, directory=directory), directory)


@functools.cache
def _small_runs() -> tuple[Any, Path, Path]:
    """A folder that is there as long as the process, a run of two sessions, and one that was pruned, too."""
    folder = tempfile.TemporaryDirectory(prefix="flywheel-contract-")
    whole = Path(folder.name, "whole")
    for generations in (1, 2):
        run = _run(whole, generations)
    pruned = shutil.copytree(whole, Path(folder.name, "pruned"))
    flywheel.open_run(pruned / "moons" / "run", config_dir=CONFIG_DIR).prune(last=0, yes=True)
    return folder, run.path, _run(pruned, 3).path


def _run(folder: Path, generations: int) -> flywheel.Run:
    """A small run; it goes on if it is there."""
    words = ["recipe=moons", "debug=fast_dev_run", "log=quiet", "tracker=none", "name=run", "seal=reopen"]
    more = [f"generations={generations}", f"runs_dir={folder}"]
    return flywheel.run([*words, *more], config_dir=CONFIG_DIR)


def _sessions(directory: Path) -> list[list[Event]]:
    """The events of each session; what is recorded between two of them is in the one before."""
    sessions: list[list[Event]] = []
    for event in ledger.read(directory):
        if not sessions or (event.event == "session_started" and len(sessions[-1]) > 1):
            sessions.append([])
        sessions[-1].append(event)
    return sessions


def _failed(event: Event) -> RunEnded:
    assert isinstance(event, RunEnded), "a session ends"
    return replace(event, event="run_failed", reason=ODD)


def _check_session(
    name: str, build: Callable[[], Any], session: Callable[[Any], None], directory: Path
) -> None:
    tracker, failures = as_tracker("tracker", build()), []

    def work() -> None:
        try:
            session(tracker)
        except BaseException as error:
            failures.append(error)

    with _left_alone(name, directory):
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(_CALL_SECONDS)
    rule(
        not thread.is_alive(),
        f"A tracker must come to an end; with {name} it has not after {_CALL_SECONDS:g} s. A run that ends "
        "waits 9 s for all its trackers.",
    )
    for error in failures:
        if isinstance(error, ContractBroken):
            raise error
        text = f"A tracker must take every legal call; with {name} it raised {type(error).__name__}: {error}."
        raise ContractBroken(text) from error


def _refused(tracker: Any, directory: Path) -> None:
    tracker.open(directory)
    tracker.progress(Progress(0, "seed", 0, None))
    tracker.metrics(Step(0, "train", 1, 1), dict(VALUES))
    tracker.close()


def _follow(tracker: Any, directory: Path, before: Sequence[Event], session: Sequence[Event]) -> None:
    """A session as a run has it: only its own events, with the state after all."""
    state = RunState.replay(before)
    tracker.open(directory)
    for event in session:
        state.apply(event)
        shown, said = repr(state), event.json()
        tracker.event(event, state)
        rule(
            repr(state) == shown and event.json() == said,
            f"A tracker must not change what it is given; it changed {event.event} or its state. Copy it.",
        )
        for call, given in _between(event):
            copy = dict(given[-1]) if isinstance(given[-1], dict) else None
            call_of(tracker, call)(*given)
            rule(
                copy is None or list(map(repr, copy.items())) == list(map(repr, given[-1].items())),
                "A tracker must not change the values that it is given; copy them.",
            )
    tracker.close()


def _between(event: Event) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Progress and metrics after an event: of fits and trials, out of order, odd."""
    number = getattr(event, "generation", None) or 0
    yield "progress", (Progress(number, "train", 0, None),)
    yield "progress", (Progress(number, "tune", 3, 2, ODD),)
    for step in (2, 1, 2):
        yield "metrics", (Step(number, "train", step, 100 * number + step), dict(VALUES))
    yield "metrics", (Step(number, "tune", 1, 100 * number + 1, 0), {"loss": 1.0})
    yield "metrics", (Step(number, "train", 3, 100 * number + 3), {})


def call_of(tracker: Any, call: str) -> Callable[..., None]:
    """One of the five calls."""
    bound: Callable[..., None] = getattr(tracker, call)
    return bound


@contextmanager
def _left_alone(name: str, directory: Path) -> Iterator[None]:
    """Check that a session changes nothing that is the run's or the process's."""
    before, threads, files = _surroundings(directory), set(threading.enumerate()), set(directory.rglob("*"))
    yield
    changed = [what for what, value in _surroundings(directory).items() if before[what] != value]
    rule(
        not changed,
        f"A tracker must leave the run and the process alone; with {name} it changed {', '.join(changed)}. "
        "It may add files to the run's directory, and draw from a generator of its own.",
    )
    left = [t.name for t in set(threading.enumerate()) - threads if t.is_alive() and not t.daemon]
    rule(
        not left,
        f"A tracker's threads must end with close() or be daemons; with {name} {', '.join(left)} goes on and "
        "holds up the process.",
    )
    added = [path for path in set(directory.rglob("*")) - files if path.is_file()]
    pickles = [path.name for path in added if _is_pickle(path)]
    rule(
        not pickles,
        f"A tracker must write no pickle, as reading one runs code; it wrote {', '.join(pickles[:_SHOWN])}.",
    )


def _surroundings(directory: Path) -> Mapping[str, Any]:
    state = np.random.get_state()
    return {
        "the ledger": _digest(directory / "ledger.jsonl"),
        "HEAD": _digest(directory / "HEAD"),
        "artifacts": [_digest(path) for path in sorted(directory.glob("objects/*/*"))],
        "the working directory": os.getcwd(),
        "Python's random numbers": random.getstate(),
        "NumPy's random numbers": [part.tobytes() if hasattr(part, "tobytes") else part for part in state],
        "torch's random numbers": torch.get_rng_state().tolist(),
        "torch's number of threads": torch.get_num_threads(),
        "signal handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "standard output": (sys.stdout, sys.stderr),
    }


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_pickle(path: Path) -> bool:
    data = path.read_bytes()
    return len(data) > 2 and data[0] == 0x80 and data[1] <= 5 and data.endswith(b".")
