"""What generations reached on each suite, and by how much the champion is ahead of the first one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from flywheel.curves import thinned
from flywheel.lineage.status import difference, metrics
from flywheel.lineage.text import estimate_text
from flywheel.metrics.intervals import mean_interval
from flywheel.records import Interval, Role
from flywheel.storage.state import Generation, RunState, Status
from flywheel.storage.store import Store

_ROUNDING = 1e-6
MOST_POINTS = 600
"""Of one curve; of longer runs what became champion, and of the others every so many."""
_ORDER = (Role.GATE, Role.SEALED, Role.GUARD, Role.DEV)
"""The suites that say most come first."""


@dataclass(frozen=True, slots=True)
class Point:
    """A generation's estimate."""

    generation: int
    status: str
    estimate: Interval
    note: str
    """``in force``, ``recalled`` and so on; empty: nothing is to be said."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One metric of one suite over generations."""

    suite: str
    metric: str
    role: str
    """``gate``, ``sealed``, ``guard`` or ``dev``; empty: not known."""
    unit: str | None
    """``level``; None: a share."""
    points: tuple[Point, ...]
    in_force: tuple[tuple[int, Interval], ...]
    """The champions up to the one in force, and the last generation that was made, to draw a step line."""

    @property
    def title(self) -> str:
        """E.g. ``gate: accuracy``."""
        return f"{self.suite}: {self.metric}"


@dataclass(frozen=True, slots=True)
class Gain:
    """What the champion reaches beside the first champion, on one suite."""

    suite: str
    metric: str
    role: str
    first: int
    """The first champion."""
    champion: int
    before: Interval
    after: Interval
    difference: Interval
    """after - before."""
    is_paired: bool
    """Whether its interval is of the items' own differences; else it is as if of different items: wider."""

    @property
    def text(self) -> str:
        """E.g. ``+80.5 points [75.9, 84.1]``."""
        return difference_text(self.difference)

    @property
    def before_text(self) -> str:
        """E.g. ``18.9% [15.6, 22.7]``."""
        return estimate_text(self.before)

    @property
    def after_text(self) -> str:
        """Likewise."""
        return estimate_text(self.after)


def difference_text(interval: Interval) -> str:
    """``+2.3 points [+0.9, +3.7]`` of shares, ``+54 levels [+51, +55]`` of levels."""
    if interval.unit is None:
        value, low, high = (f"{100 * n:+.1f}" for n in (interval.value, interval.low, interval.high))
        return f"{value} points [{low}, {high}]"
    value, low, high = (f"{round(n, 1):+g}" for n in (interval.value, interval.low, interval.high))
    return f"{value} {interval.unit}s [{low}, {high}]"


def note_of(generation: Generation, state: RunState) -> str:
    """What is to be said of a generation beside its status."""
    notes = {
        "in force": generation is state.champion,
        "frontier": generation in state.ahead[-1:],
        "recalled": generation.recalled,
        "suspect": generation.suspect,
        "given up": generation.abandoned,
    }
    return ", ".join(name for name, holds in notes.items() if holds)


def curves(state: RunState) -> tuple[Curve, ...]:
    """Every metric of every suite, gate suites first."""
    by_name: dict[tuple[str, str], list[Point]] = {}
    for generation in state.generations:
        for suite, by_metric in metrics(generation, state).items():
            for metric, estimate in by_metric.items():
                point = Point(generation.number, str(generation.status), estimate, note_of(generation, state))
                by_name.setdefault((suite, metric), []).append(point)
    made = (_curve(state, *name, points) for name, points in by_name.items())
    return tuple(sorted(made, key=lambda curve: _rank(curve.role)))


def _rank(role: str) -> int:
    return _ORDER.index(Role(role)) if role in list(_ORDER) else len(_ORDER)


def _gain_rank(role: str) -> int:
    return -1 if role == Role.SEALED else _rank(role)


def _curve(state: RunState, suite: str, metric: str, points: list[Point]) -> Curve:
    last = state.champion.number if state.champion else -1
    line = [
        (p.generation, p.estimate)
        for p in points
        if p.status == Status.PROMOTED and "recalled" not in p.note and p.generation <= last
    ]
    if line:
        line.append((state.generations[-1].number, line[-1][1]))
    role, unit = state.roles.get(suite, ""), points[-1].estimate.unit
    return Curve(suite, metric, role, unit, tuple(_thinned(points)), tuple(thinned(line, MOST_POINTS)))


def _thinned(points: list[Point]) -> list[Point]:
    step = -(-len(points) // MOST_POINTS)
    kept = [p for k, p in enumerate(points) if k % step == 0 or p is points[-1] or p.note]
    return kept[-2 * MOST_POINTS :]


def gains(state: RunState, store: Store) -> Iterator[Gain]:
    """Of each metric that both the first champion and the one in force have; sealed suites first.

    What was selected by a gate's items looks better on them than it is; sealed items selected nothing, and so
    are compared one by one. Of other suites there are only the estimates that were shown.
    """
    first, champion = state.first_champion, state.champion
    if first is None or champion is None or first is champion:
        return
    before, after = metrics(first, state), metrics(champion, state)
    for suite in sorted(after, key=lambda name: _gain_rank(state.roles.get(name, ""))):
        for metric, ours in after[suite].items():
            theirs = before.get(suite, {}).get(metric)
            if theirs is not None and theirs.unit == ours.unit:
                names = (suite, metric, state.roles.get(suite, ""))
                numbers = (first.number, champion.number)
                paired = (
                    _paired(state, store, names, numbers, (theirs, ours)) if names[2] == Role.SEALED else None
                )
                by = paired or difference(ours, theirs)
                yield Gain(*names, *numbers, theirs, ours, by, paired is not None)


def _paired(
    state: RunState,
    store: Store,
    names: tuple[str, str, str],
    numbers: tuple[int, int],
    estimates: tuple[Interval, Interval],
) -> Interval | None:
    """The mean of the items' differences; None where the metric is no mean, or the items are not the same.

    Scores are in [0, 1], so (difference + 1) / 2 is, and has the interval that a mean score has.
    """
    done = [state.sealed.get(number) for number in numbers]
    if any(event is None for event in done):
        return None
    before, after = (_scores(store, str(event.outputs["outcomes"]), names[0]) for event in done if event)
    if not before["item"].equals(after["item"]):
        return None
    scores = [table["score"].to_numpy() for table in (before, after)]
    if any(abs(float(s.mean()) - e.value) > _ROUNDING for s, e in zip(scores, estimates, strict=True)):
        return None
    half = mean_interval((scores[1] - scores[0] + 1) / 2, before["cluster"].to_numpy(zero_copy_only=False))
    value, low, high = (round(2 * bound - 1, 9) for bound in (half.value, half.low, half.high))
    return Interval(value, low, high)


def _scores(store: Store, outcomes: str, suite: str) -> pa.Table:
    table = store.table(outcomes)
    return table.filter(pc.equal(table["suite"], suite)).sort_by("item")


def main_curve(made: Sequence[Curve]) -> Curve | None:
    """The one that is shown first."""
    return made[0] if made else None
