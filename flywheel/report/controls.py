"""Controls of the run's recipe, if ``controls`` was run beside it: what the parts of the loop are worth.

They are ordinary runs under ``RUNS_DIR/controls/BUDGET/RECIPE/ARM-seedN``. Those count whose loop has this
run's configuration, but for what controls set of each run themselves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flywheel.config.identity import differences
from flywheel.lineage.status import read_state
from flywheel.metrics.intervals import t_interval
from flywheel.records import Interval
from flywheel.storage.state import RunState, RunStateName

FOLDER, LOOP = "controls", "loop"
_THEIRS = (
    "seed",
    "budget",
    "review",
    "tracker",
    "error_budget",
    "refit",
    "generations",
    "patience",
    "trainer",
)
_MOST_RUNS = 200
Sealed = Mapping[str, Mapping[str, Interval]]


@dataclass(frozen=True, slots=True)
class ControlRow:
    """An arm beside the loop, on the first sealed metric, over the seeds that both have."""

    arm: str
    """What is off, e.g. ``no-tuning``; ``loop``: nothing."""
    seeds: int
    mean: float
    loop: float
    """The loop's mean over the same seeds."""
    difference: Interval
    """loop - arm, Student's 95% interval over seeds; of one seed it is infinite."""
    flops_ratio: float | None
    """Training FLOPs, arm / loop."""


@dataclass(frozen=True, slots=True)
class ControlTable:
    """One experiment: all arms at equal training compute."""

    budget: str
    suite: str
    metric: str
    unit: str | None
    rows: tuple[ControlRow, ...]


@dataclass(frozen=True, slots=True)
class _ArmRun:
    sealed: Sealed
    flops: float


def control_tables(directory: Path, state: RunState) -> tuple[ControlTable, ...]:
    """The experiments with this run's recipe and configuration; none where there are none."""
    recipe = state.created.recipe if state.created else ""
    folders = directory.resolve().parent.parent.glob(f"{FOLDER}/*/")
    tables = (_table(folder / recipe, state) for folder in sorted(folders) if recipe)
    return tuple(table for table in tables if table)


def _table(folder: Path, state: RunState) -> ControlTable | None:
    runs: dict[str, dict[int, _ArmRun]] = {}
    for path in sorted(folder.glob("*-seed*"))[:_MOST_RUNS]:
        name = re.fullmatch(r"(.+)-seed(\d+)", path.name)
        if name is None or not (path / "ledger.jsonl").exists():
            continue
        theirs = read_state(path)
        if name[1] == LOOP and not _is_like(theirs, state):
            return None
        champion, is_over = theirs.champion, theirs.name(is_running=False) is RunStateName.FINISHED
        look = theirs.sealed.get(champion.number) if champion and is_over else None
        if look:
            run = _ArmRun(look.facts.metrics, theirs.spent.flops)
            runs.setdefault(name[1], {})[int(name[2])] = run
    loop = runs.pop(LOOP, {})
    if not loop or not runs:
        return None
    sealed = next(iter(loop.values())).sealed
    suite = next(iter(sealed))
    metric = next(iter(sealed[suite]))
    rows = (_row(arm, loop, ours, suite, metric) for arm, ours in runs.items())
    budget, unit = folder.parent.name.rpartition("-")[0], sealed[suite][metric].unit
    return ControlTable(budget, suite, metric, unit, tuple(row for row in rows if row))


def _is_like(theirs: RunState, ours: RunState) -> bool:
    """Whether a loop of controls is this run but for its seed and what controls set."""
    configs = [_comparable(state.created.config if state.created else {}) for state in (theirs, ours)]
    return not differences(*configs)


def _comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in _THEIRS}


def _row(
    arm: str, loop: Mapping[int, _ArmRun], runs: Mapping[int, _ArmRun], suite: str, metric: str
) -> ControlRow | None:
    seeds = [seed for seed in runs if seed in loop and metric in runs[seed].sealed.get(suite, {})]
    if not seeds:
        return None
    pairs = [
        (float(loop[s].sealed[suite][metric].value), float(runs[s].sealed[suite][metric].value))
        for s in seeds
    ]
    ours, theirs = (np.array(side) for side in zip(*pairs, strict=True))
    ratios = [runs[s].flops / loop[s].flops for s in seeds if loop[s].flops]
    return ControlRow(
        arm=arm,
        seeds=len(seeds),
        mean=float(theirs.mean()),
        loop=float(ours.mean()),
        difference=t_interval(ours - theirs, 0.0),
        flops_ratio=float(np.mean(ratios)) if ratios else None,
    )
