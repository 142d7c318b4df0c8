"""A task whose tables have a column of many a type, and whose floats can be moved from outside.

``TYPED_SHIFT`` is ``TABLE:NUMBER``, e.g. ``seed:100``: so much is added to each point, times its size. It is
no part of a run's identity, as a data file that somebody changed is none.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from flywheel.records import Suite
from tests.support.probe_parts import Task


def more(kind: str, n: int) -> pa.Array:
    """``n`` values, most of them different, of a type that Parquet does not give back as it is."""
    numbers = pa.array([k % 7 for k in range(n)], pa.int64())
    words = [f"word {k % 7}" for k in range(n)]
    return {
        "timestamp": lambda: numbers.cast(pa.timestamp("s")),
        "time": lambda: numbers.cast(pa.int32()).cast(pa.time32("s")),
        "date": lambda: pa.array([86_400_000 * (k % 7) for k in range(n)], pa.int64()).cast(pa.date64()),
        "list": lambda: pa.array([[k % 7, k % 2] for k in range(n)]),
        "category": lambda: pa.array(words).dictionary_encode(),
        "view": lambda: pa.array(words, pa.string_view()),
        "records": lambda: pa.array([{"when": k % 7, "who": [words[k]]} for k in range(n)]),
    }[kind]()


def shifted(table: pa.Table, what: str) -> pa.Table:
    name, _, by = os.environ.get("TYPED_SHIFT", "").partition(":")
    if name != what:
        return table
    flat = table["point"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    points = pa.FixedSizeListArray.from_arrays(pa.array((flat * (1 + float(by))).astype(np.float32)), 2)
    return table.set_column(table.column_names.index("point"), "point", points)


@dataclass(kw_only=True)
class Typed(Task):
    """Moons with a column ``more`` everywhere. Its scores follow from the types that are seen, too."""

    kind: str = "list"

    def seed(self) -> pa.Table:
        return shifted(self._with_more(super().seed()), "seed")

    def prompts(self, *arguments: Any) -> pa.Table:
        return shifted(self._with_more(super().prompts(*arguments)), "prompts")

    def suites(self) -> list[Suite]:
        return [replace(s, items=shifted(self._with_more(s.items), s.name)) for s in super().suites()]

    def generate(self, model: Any, prompts: pa.Table, settings: Any, keys: Any) -> Any:
        return self._with_more(super().generate(model, prompts, settings, keys))

    def evaluate(self, model: Any, opponent: Any, items: pa.Table, keys: Any) -> np.ndarray:
        scores = super().evaluate(model, opponent, items, keys)
        return scores * (1 + hash_of(str(items["more"].type))) / 2

    def _with_more(self, table: pa.Table) -> pa.Table:
        return table.append_column("more", more(self.kind, len(table)))


def hash_of(text: str) -> float:
    """A number in [0, 1) that follows from the text alone."""
    return sum((k + 1) * byte for k, byte in enumerate(text.encode())) % 97 / 97
