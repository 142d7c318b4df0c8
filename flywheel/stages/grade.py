"""Grade: score what the champion made, whole groups at a time, on all ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from flywheel import ranks
from flywheel.config.components import Components
from flywheel.config.fingerprint import fingerprint
from flywheel.errors import DataError, StageFailed
from flywheel.keys import Keys
from flywheel.records import Settings, Unit
from flywheel.runtime.context import Context, StageOutput
from flywheel.runtime.meter import tokens_of
from flywheel.runtime.weights import load_model, without_gradients
from flywheel.runtime.work import to_bytes
from flywheel.storage.events import GradeFacts
from flywheel.storage.state import Generation
from flywheel.storage.store import Store
from flywheel.tables import RESERVED, as_table, constant, require_finite, require_same_rows
from flywheel.tables.types import is_known, matched, stored

FAILURE = "unit_failure"
"""Column that says why a row has no scores, where some have none."""
_LOADED = b"loaded_parent"


def grade(ctx: Context, *, samples: str, parent: Generation) -> StageOutput:
    """A table of scores: the sample's id and the grader's columns, row for row.

    Facts: the grader's name and version, and the weights that it loaded, if it did.
    """
    grader, config = ctx.components.build("grader", ctx.settings), ctx.components.resolved
    table = ctx.store.table(samples)
    order, boundaries, groups = blocks(table["group"], config["chunk_size"])
    table = table.take(order)
    names = ctx.key("group").each(name or "" for name in groups.dictionary.to_pylist())
    keys = names[groups.indices.to_numpy()[order]]
    load_parent = Parent(ctx.components, ctx.store, str(parent.weights), parent.settings)
    work = GradeGroups(grader, table, keys, load_parent, config["trainer"])
    parts: list[tuple[Unit, pa.Table | str]] = []
    loaded: list[str | None] = []

    def take(unit: Unit, rows: pa.Table | None, failure: Exception | None) -> None:
        parts.append((unit, str(failure) if rows is None else rows.replace_schema_metadata(None)))
        loaded.extend([parent.weights] if rows is not None and rows.schema.metadata else [])

    named = {"samples": samples, "parent": parent.weights}
    counts = tokens_of(grader)
    units = ctx.work.do(boundaries, work, take, inputs=named, part=grader, counts=counts)
    if ranks.rank() != 0:
        return StageOutput()
    if len(units.reasons) and units.reasons.total() == units.count:
        raise StageFailed("grade", f"no sample has a score{units.why_failed}")
    scores = _joined(parts).add_column(0, "id", table["id"]).take(np.argsort(order, kind="stable"))
    facts = GradeFacts(
        grader=type(grader).__name__,
        version=fingerprint(ctx.components, "grader", ctx.settings),
        loaded_parent=loaded[0] if loaded else None,
        units=units.facts,
    )
    return StageOutput({"scores": scores}, facts, units.seconds)


def blocks(groups: pa.ChunkedArray, size: int) -> tuple[np.ndarray, list[int], pa.DictionaryArray]:
    """How to cut rows into units of whole groups: the order of rows, the boundaries in it, and the groups.

    Groups come in the order of their first rows; a unit ends with the group that brings it to ``size`` rows.
    """
    encoded = groups.combine_chunks().dictionary_encode("encode")
    codes = encoded.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    boundaries = [0]
    for end in np.cumsum(np.bincount(codes)).tolist():
        if end - boundaries[-1] >= size:
            boundaries.append(end)
    return order, [*boundaries, len(codes)] if boundaries[-1] < len(codes) else boundaries, encoded


@dataclass(slots=True)
class Parent:
    """Loads the parent's model, once for all units of a rank."""

    components: Components
    store: Store
    weights: str
    settings: Settings
    model: Any = None

    def __call__(self) -> Any:
        """The model, in evaluation mode."""
        import torch

        if self.model is None:
            with torch.inference_mode(False):  # its parameters are then no inference tensors
                self.model = load_model(self.components, self.store, self.weights, self.settings)
        return self.model


@dataclass(frozen=True, slots=True)
class GradeGroups:
    """The work of a unit: the grader's columns for some whole groups."""

    grader: Any
    samples: pa.Table
    keys: Keys
    load_parent: Callable[[], Any]
    trainer: Mapping[str, Any]
    """The configured section; see ``without_gradients``."""

    def __call__(self, unit: Unit) -> bytes:
        """The columns. Raises DataError or ValueError if they are not the unit's, row for row."""
        rows = slice(unit.start, unit.stop)
        samples, keys = self.samples[rows], self.keys[rows]
        has_loaded = False

        def load_parent() -> Any:
            nonlocal has_loaded
            has_loaded = True
            return self.load_parent()

        keys.seed_globals()
        with without_gradients(self.trainer):
            scores = stored(as_table(self.grader.grade(samples, load_parent, keys)), "Scores")
        checked = require_finite(_checked(scores, samples), "Scores")
        return to_bytes(checked.replace_schema_metadata({_LOADED: b"yes"} if has_loaded else None))


def _checked(scores: pa.Table, samples: pa.Table) -> pa.Table:
    if len(scores) != len(samples):
        raise ValueError(f"a grader must score every sample: {len(samples)} samples, {len(scores)} scores")
    if "id" in scores.column_names:
        require_same_rows(scores["id"], samples["id"], "grade()")
        scores = scores.drop_columns("id")
    names = (*samples.column_names, *RESERVED, FAILURE)
    clashes = [name for name in scores.column_names if name in names]
    if clashes:
        raise DataError(
            f"A grader's columns must have names of their own; samples or decisions have {clashes} already."
        )
    return scores


def _joined(parts: Sequence[tuple[Unit, pa.Table | str]]) -> pa.Table:
    """The columns of all units; null, with the reason beside, in those that failed."""
    scored = [rows for _, rows in parts if not isinstance(rows, str)]
    types = {field.name: field.type for rows in reversed(scored) for field in rows.schema}
    types |= {f.name: f.type for rows in reversed(scored) for f in rows.schema if is_known(f.type)}
    has_failures = len(scored) < len(parts)
    tables = []
    for unit, rows in parts:
        count, reason = unit.stop - unit.start, rows if isinstance(rows, str) else None
        if isinstance(rows, str):
            scores = pa.table({name: pa.nulls(count, types[name]) for name in scored[0].column_names})
        elif sorted(rows.column_names) != sorted(scored[0].column_names):
            raise DataError(
                f"Every unit must have the same scores; unit {unit.number} has {rows.column_names}, those "
                f"before it {scored[0].column_names}."
            )
        else:
            scores = matched(rows.select(scored[0].column_names), types, f"unit {unit.number}")
        if has_failures:
            scores = scores.append_column(FAILURE, constant(reason, pa.string(), count))
        tables.append(scores)
    return pa.concat_tables(tables)
