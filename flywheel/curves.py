"""Training curves: what a fit logged by step, thinned while it runs, and read back for a whole run.

A curve is a table of ``step`` (int64, optimiser steps of the fit so far), ``name`` and ``value`` (float64,
null where it was not finite). It is an artifact of the stage ``train``; those of trials have a column
``trial``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:  # pyarrow: what only asks how many steps there were goes without it
    import pyarrow as pa

    from flywheel.storage.state import RunState
    from flywheel.storage.store import Store

T = TypeVar("T")
Row = tuple[int, str, float | None]
"""Step, name and value; None: it was not finite."""
LIMIT = 400
"""Points of one name that a curve keeps at most: the file stays small however long the fit."""


@dataclass(slots=True)
class _Thinned:
    """Every k-th value that was offered; k doubles whenever there are too many."""

    points: list[tuple[int, Any]] = field(default_factory=list)
    last: tuple[int, Any] | None = None
    every: int = 1
    offered: int = 0

    def add(self, step: int, value: Any) -> bool:
        """Offer a value; whether it is kept for now."""
        is_kept = self.offered % self.every == 0
        self.offered += 1
        self.last = (step, value)
        if is_kept:
            self.points.append(self.last)
            if len(self.points) > LIMIT:
                self.points = self.points[::2]
                self.every *= 2
        return is_kept

    def all(self) -> list[tuple[int, Any]]:
        """What is kept, and the last value in any case."""
        ends = [self.last] if self.last is not None and self.last not in self.points[-1:] else []
        return [*self.points, *ends]


class Curve:
    """What one fit logs, by name. It depends on steps alone, never on a clock: done again, it is the same."""

    def __init__(self) -> None:
        self._names: dict[str, _Thinned] = {}
        self._by: dict[str, str] = {}

    def add(self, step: int, values: Mapping[str, Any], by: str) -> dict[str, Any]:
        """Offer what was logged at a step, and ``by`` whom; what is kept for now.

        Who logs a name first has it: a module's own ``loss`` is left out where there is one of every step.
        A value may be a tensor on the model's device: it is read when the curve is, so that no step waits.
        """
        own = {name: value for name, value in values.items() if self._by.setdefault(name, by) == by}
        return {k: v for k, v in own.items() if self._names.setdefault(k, _Thinned()).add(step, v)}

    def rows(self) -> list[Row]:
        """By step and then by name."""
        points = ((step, name, float(v)) for name, kept in self._names.items() for step, v in kept.all())
        rows = ((step, name, value if math.isfinite(value) else None) for step, name, value in points)
        return sorted(rows, key=lambda row: row[:2])

    def table(self) -> pa.Table:
        """The curve as a table, see above."""
        return as_table(self.rows())


def as_table(rows: Iterable[Row]) -> pa.Table:
    """Rows of a curve as a table."""
    import pyarrow as pa

    steps, names, values = zip(*rows, strict=True) if (rows := list(rows)) else ((), (), ())
    columns = {"step": (steps, pa.int64()), "name": (names, pa.string()), "value": (values, pa.float64())}
    return pa.table({name: pa.array(column, kind) for name, (column, kind) in columns.items()})


def thinned(points: Sequence[T], most: int) -> list[T]:
    """At most some ``most`` of the points: every k-th, and the last one."""
    every = max(1, -(-len(points) // most))
    return [point for k, point in enumerate(points) if k % every == 0 or k == len(points) - 1]


def curves_of_trials(rows: Mapping[int, Iterable[Row]]) -> pa.Table:
    """Curves by number of the trial as one table, with a column ``trial``."""
    import pyarrow as pa

    tables = {number: as_table(curve) for number, curve in sorted(rows.items())}
    trials = [number for number, table in tables.items() for _ in range(len(table))]
    return pa.concat_tables(tables.values()).add_column(0, "trial", pa.array(trials, pa.int64()))


def steps_before(number: int, state: RunState) -> int:
    """Optimiser steps of all recorded fits of the generations before this one.

    A step of a fit and this number make one axis that increases over the whole run. Trials are not on it.
    """
    return sum(g.train.facts.steps for g in state.generations if g.number < number and g.train)


def run_curve(store: Store, state: RunState, numbers: Iterable[int] | None = None) -> pa.Table:
    """The curves of all generations, or of some.

    Columns: ``generation``, ``total_step``, ``step``, ``name``, ``value``. ``total_step`` increases over the
    whole run: see ``steps_before``. A generation without a fit has no rows.
    """
    import pyarrow as pa

    wanted = None if numbers is None else set(numbers)
    before, tables = 0, [_placed(as_table(()), 0, 0)]
    for generation in state.generations:
        artifact = generation.output("train", "curve")
        if artifact and (wanted is None or generation.number in wanted):
            tables.append(_placed(store.table(artifact), generation.number, before))
        before += generation.train.facts.steps if generation.train else 0
    return pa.concat_tables(tables)


def _placed(curve: pa.Table, generation: int, before: int) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    numbers = pa.repeat(pa.scalar(generation, pa.int64()), len(curve))
    columns = {"generation": numbers, "total_step": pc.add(curve["step"], pa.scalar(before, pa.int64()))}
    return pa.table(columns | {name: curve[name] for name in ("step", "name", "value")})
