"""Grade: score what the champion made, whole groups at a time."""

from __future__ import annotations

from flywheel.config.fingerprint import fingerprint
from flywheel.errors import DataError
from flywheel.runtime.context import Context, StageOutput
from flywheel.runtime.weights import without_gradients
from flywheel.storage.state import Generation
from flywheel.tables import RESERVED, as_table, require_finite, require_same_rows
from flywheel.tables.types import stored


def grade(ctx: Context, *, samples: str, parent: Generation) -> StageOutput:
    """A table of scores: the sample's id and the grader's columns, row for row.

    Facts: the grader's name and version, and the weights that it loaded, if it did.
    """
    import torch

    grader = ctx.components.build("grader", ctx.settings)
    table = ctx.store.table(samples)
    loaded: str | None = None

    def load_parent() -> object:
        nonlocal loaded
        loaded = parent.weights
        with torch.inference_mode(False):  # its parameters are no tensors of inference mode
            return ctx.load_model(str(parent.weights), parent.settings)

    with without_gradients(ctx.components.resolved["trainer"]):
        scores = stored(as_table(grader.grade(table, load_parent, ctx.key("grader"))), "Scores")
    if len(scores) != len(table):
        raise ValueError(f"a grader must score every sample: {len(table)} samples, {len(scores)} scores")
    if "id" in scores.column_names:
        require_same_rows(scores["id"], table["id"], "grade()")
        scores = scores.drop_columns("id")
    taken = [name for name in scores.column_names if name in table.column_names or name in RESERVED]
    if taken:
        raise DataError(
            f"A grader's columns must have names of their own; samples or decisions have {taken} already."
        )
    scores = require_finite(scores.add_column(0, "id", table["id"]), "Scores")
    version = fingerprint(ctx.components, "grader", ctx.settings)
    return StageOutput(
        {"scores": scores},
        {"grader": type(grader).__name__, "version": version, "loaded_parent": loaded},
    )
