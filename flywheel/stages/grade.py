"""Grade: score what the champion made, whole groups at a time."""

from __future__ import annotations

import pyarrow as pa

from flywheel.context import Context, Made
from flywheel.lineage.state import Generation
from flywheel.tables import as_table, require_finite


def grade(ctx: Context, *, samples: str, parent: Generation) -> Made:
    """A table of scores: the sample's id and the grader's columns, row for row."""
    grader = ctx.components.build("grader", ctx.settings)
    table = ctx.store.table(samples)

    def lend() -> object:
        return ctx.load_model(str(parent.weights), parent.settings)

    scores = as_table(grader.grade(table, lend))
    if len(scores) != len(table):
        raise ValueError(f"a grader must score every sample: {len(table)} samples, {len(scores)} scores")
    scores = require_finite(pa.table({"id": table["id"], **_columns(scores)}), "Scores")
    return Made({"scores": scores}, {"grader": type(grader).__name__})


def _columns(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    return {name: table[name] for name in table.column_names}
