"""Several runs beside each other: final figures with what they cost, and their curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flywheel.errors import ConfigError
from flywheel.lineage.record import Record
from flywheel.lineage.status import metrics
from flywheel.lineage.text import estimate_text
from flywheel.records import Interval
from flywheel.report.figures import Curve, curves
from flywheel.report.headline import duration_text, ended_turns, headline, state_of
from flywheel.storage.events import Spent
from flywheel.storage.reader import reread_when_pruned
from flywheel.storage.state import RunState

_MOST_FIGURES = 6


@dataclass(frozen=True)
class ComparedRun:
    """One of the runs."""

    name: str
    """RECIPE/NAME, with its folder where two are called so."""
    state: str
    sentence: str
    champion: int | None
    turns: int
    """That have ended."""
    promoted: int
    curves: tuple[Curve, ...]
    final: dict[tuple[str, str], Interval]
    """Suite and metric -> the champion's estimate."""
    seconds_by: tuple[float, ...]
    """Wall time of the run by the end of each generation."""
    spent: Spent
    head: str

    def curve(self, suite: str, metric: str) -> Curve | None:
        """One of its curves."""
        return next((c for c in self.curves if (c.suite, c.metric) == (suite, metric)), None)


@dataclass(frozen=True)
class Comparison:
    """Several runs."""

    runs: tuple[ComparedRun, ...]
    figures: tuple[tuple[str, str], ...]
    """Suites and metrics that at least two of them have, those of gate suites first; else all."""

    @property
    def table(self) -> list[tuple[str, list[str]]]:
        """What each row says, and its cells, a run each: the state, the champion's figures, the cost."""
        rows: dict[str, Callable[[ComparedRun], object]] = {
            "state": lambda run: run.state,
            "generation in force": lambda run: "-" if run.champion is None else run.champion,
            "turns": lambda run: run.turns,
            "turns promoted": lambda run: run.promoted,
        }
        rows |= {
            f"{suite}: {metric}": partial(_figure, key=(suite, metric)) for suite, metric in self.figures
        }
        rows |= {
            "wall time": lambda run: duration_text(run.spent.seconds),
            "device hours": lambda run: f"{run.spent.device_hours:.3g}",
            "FLOPs": lambda run: f"{run.spent.flops:.3g}",
        }
        if any(run.spent.money for run in self.runs):
            rows["money"] = lambda run: f"{run.spent.money:.3g}" if run.spent.money else "-"
        return [(title, [str(cell(run)) for run in self.runs]) for title, cell in rows.items()]


def _figure(run: ComparedRun, key: tuple[str, str]) -> str:
    estimate = run.final.get(key)
    return estimate_text(estimate) if estimate else "-"


def comparison(directories: Sequence[Path]) -> Comparison:
    """What is to be said of several runs. Raises ConfigError for one alone, DamagedError."""
    places = list(dict.fromkeys(path.resolve() for path in directories))
    if len(places) < 2:
        raise ConfigError(f"Expected two or more runs to compare, got {len(places)}. Name others.")
    names = [f"{path.parent.name}/{path.name}" for path in places]
    names = [str(path) if names.count(name) > 1 else name for name, path in zip(names, places, strict=True)]
    runs = tuple(_compared(path, name) for path, name in zip(places, names, strict=True))
    keys = [(curve.suite, curve.metric) for run in runs for curve in run.curves]
    shared = [key for key in dict.fromkeys(keys) if keys.count(key) > 1]
    return Comparison(runs, tuple(shared or dict.fromkeys(keys))[:_MOST_FIGURES])


@reread_when_pruned
def _compared(directory: Path, name: str) -> ComparedRun:
    record = Record.read(directory)
    state = record.state
    measured = metrics(state.champion, state) if state.champion else {}
    return ComparedRun(
        name=name,
        state=str(state_of(directory, state)),
        sentence=headline(record).sentence,
        champion=state.champion.number if state.champion else None,
        turns=len(ended_turns(state)),
        promoted=state.turns_in_force,
        curves=curves(state),
        final={(suite, metric): one for suite, of in measured.items() for metric, one in of.items()},
        seconds_by=tuple(_seconds(state)),
        spent=state.spent,
        head=record.head,
    )


def _seconds(state: RunState) -> list[float]:
    seconds, total = [], 0.0
    for generation in state.generations:
        total += generation.seconds
        seconds.append(total)
    return seconds
