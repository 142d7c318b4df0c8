"""Training curves of a run, thinned for a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flywheel.curves import run_curve, thinned
from flywheel.lineage.record import Record
from flywheel.storage.state import Generation

MOST_POINTS = 1200
"""Of one name."""
_MOST_NAMES = 6
_FIRST = ("loss", "lr")


@dataclass(frozen=True, slots=True)
class TrainingCurve:
    """What the fits logged by one name, over the whole run."""

    name: str
    generations: tuple[int, ...]
    steps: tuple[int, ...]
    """One increasing step over all fits."""
    values: tuple[float, ...]


def training_curves(record: Record, chosen: Sequence[Generation]) -> tuple[TrainingCurve, ...]:
    """The loss and the learning rate, then what the module logged; of these generations."""
    table = run_curve(record.store, record.state, [g.number for g in chosen])
    by_name: dict[str, list[tuple[int, int, float]]] = {}
    columns = (table[name].to_pylist() for name in ("name", "generation", "total_step", "value"))
    for name, generation, step, value in zip(*columns, strict=True):
        if value is not None:
            by_name.setdefault(name, []).append((generation, step, value))
    names = sorted(by_name, key=lambda name: (name not in _FIRST, name))[:_MOST_NAMES]
    return tuple(_curve(name, by_name[name]) for name in names)


def _curve(name: str, rows: list[tuple[int, int, float]]) -> TrainingCurve:
    return TrainingCurve(name, *zip(*thinned(rows, MOST_POINTS), strict=True))
