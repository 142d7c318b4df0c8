"""A task whose tables have columns of many types, and whose floats can be moved from outside.

``TYPED_SHIFT`` is ``TABLE:NUMBER``, e.g. ``seed:100``: so much is added to each point, times its size. It is
no part of a run's identity, as a data file that somebody changed is none.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec.structs import replace

from flywheel.records import Suite
from tests.support.probe_parts import Task, with_points

SCALE = 97


def columns_of(rows: int) -> dict[str, pa.Array]:
    """Columns of types that Parquet does not give back as they are; most values of each are different."""
    numbers = pa.array([k % 7 for k in range(rows)], pa.int64())
    words = [f"word {k % 7}" for k in range(rows)]
    return {
        "timestamp": numbers.cast(pa.timestamp("s")),
        "time": numbers.cast(pa.int32()).cast(pa.time32("s")),
        "date": pa.array([86_400_000 * (k % 7) for k in range(rows)], pa.int64()).cast(pa.date64()),
        "list": pa.array([[k % 7, k % 2] for k in range(rows)]),
        "category": pa.array(words).dictionary_encode(),
        "view": pa.array(words, pa.string_view()),
        "records": pa.array([{"when": k % 7, "who": [words[k]]} for k in range(rows)]),
    }


def with_columns(table: pa.Table) -> pa.Table:
    for name, column in columns_of(len(table)).items():
        table = table.append_column(name, column)
    return table


def shifted(table: pa.Table, name: str) -> pa.Table:
    moved, _, by = os.environ.get("TYPED_SHIFT", "").partition(":")
    return with_points(table, lambda points: points * (1 + float(by))) if name == moved else table


class Typed(Task):
    """Moons with more columns everywhere. Its scores follow from types and last bits that are seen, too."""

    def seed(self) -> pa.Table:
        return shifted(with_columns(super().seed()), "seed")

    def prompts(self, *arguments: Any) -> pa.Table:
        return shifted(with_columns(super().prompts(*arguments)), "prompts")

    def suites(self) -> list[Suite]:
        return [replace(s, items=shifted(with_columns(s.items), s.name)) for s in super().suites()]

    def generate(self, model: Any, prompts: pa.Table, settings: Any, keys: Any) -> Any:
        return with_columns(super().generate(model, prompts, settings, keys))

    def evaluate(self, model: Any, opponent: Any, items: pa.Table, keys: Any) -> np.ndarray:
        types = "".join(str(items[name].type) for name in columns_of(0))
        points = "".join(map(str, items["point"].to_pylist()))
        seen = sum((k + 1) * byte for k, byte in enumerate((types + points).encode())) % SCALE / SCALE
        return super().evaluate(model, opponent, items, keys) * (1 + seen) / 2
