"""A grader at work: it scores samples whole groups at a time, in units, on all ranks."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from flywheel import ranks
from flywheel.config.credentials import without_secrets
from flywheel.errors import DataError
from flywheel.graders.failures import FAILURE, is_failure, with_reasons
from flywheel.keys import Keys
from flywheel.records import Json, Unit
from flywheel.runtime.context import Context
from flywheel.runtime.meter import tokens_of
from flywheel.runtime.weights import ModelLoader, without_gradients
from flywheel.runtime.work import REASON_LENGTH, REASONS, UnitsDone, to_bytes
from flywheel.storage.state import Generation
from flywheel.tables import RESERVED, constant, counts_of, require_finite
from flywheel.tables.types import is_known, matched, stored

_LOADED = b"loaded_parent"


@dataclass(frozen=True, slots=True)
class Graded:
    """What a grader made of samples, on rank 0; elsewhere there is none."""

    scores: pa.Table
    """``id`` and the grader's columns, row for row as the samples."""
    loaded_parent: str | None
    """Artifact of the weights that it loaded; None: none."""
    units: UnitsDone

    @property
    def failures(self) -> Failures:
        """Rows without a score."""
        return Failures.of(self.scores, FAILURE)


@dataclass(frozen=True, slots=True)
class Failures:
    """Rows that a grader could not score."""

    count: int
    reasons: dict[str, int]
    """The three most frequent reasons, and how often."""

    @classmethod
    def of(cls, scores: pa.Table, column: str) -> Failures:
        """Those that a column says a reason of; none if there is no such column."""
        if column not in scores.column_names:
            return cls(0, {})
        reasons = Counter(counts_of(scores[column].drop_null()))
        return cls(reasons.total(), dict(reasons.most_common(REASONS)))


def grade_in_units(
    ctx: Context, grader: Any, samples: pa.Table, parent: Generation, *, inputs: Json
) -> Graded | None:
    """Have a grader score all samples; all ranks must call it. None on ranks other than 0.

    ``parent``: the generation whose model ``load_parent()`` gives. ``inputs``: what the units depend on, see
    ``Work.do``. The grader is closed at the end.
    """
    config = ctx.components.resolved
    order, boundaries, groups = blocks(samples["group"], config["chunk_size"])
    rows = samples.take(order)
    names = ctx.key("group").each(name or "" for name in groups.dictionary.to_pylist())
    keys = names[groups.indices.to_numpy()[order]]
    load_parent = ModelLoader(ctx.components, ctx.store, str(parent.weights), parent.settings)
    work = GradeGroups(grader, rows, keys, load_parent, config["trainer"])
    parts: list[tuple[Unit, pa.Table | str]] = []
    loaded: list[str | None] = []

    def take(unit: Unit, scores: pa.Table | None, failure: Exception | None) -> None:
        parts.append((unit, str(failure) if scores is None else scores.replace_schema_metadata(None)))
        loaded.extend([parent.weights] if scores is not None and scores.schema.metadata else [])

    counts = tokens_of(grader)
    with closing(grader):
        units = ctx.work.do(boundaries, work, take, inputs=inputs, part=grader, counts=counts)
    if ranks.rank() != 0:
        return None
    scores = _joined(parts, is_composed=hasattr(grader, "graders"))
    scores = scores.add_column(0, "id", rows["id"]).take(np.argsort(order, kind="stable"))
    return Graded(scores, loaded[0] if loaded else None, units)


@contextlib.contextmanager
def closing(grader: Any) -> Iterator[Any]:
    """A grader, which is closed at the end if it can be, e.g. one with processes of its own."""
    try:
        yield grader
    finally:
        if hasattr(grader, "close"):
            grader.close()


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
            scores = checked(self.grader.grade(samples, load_parent, keys), samples)
        return to_bytes(scores.replace_schema_metadata({_LOADED: b"yes"} if has_loaded else None))


def checked(answer: Any, samples: pa.Table) -> pa.Table:
    """What a grader answered, as columns that can stand beside the samples.

    Raises DataError or ValueError if they cannot.
    """
    scores = stored(with_reasons(answer, samples), "Scores")
    clashes = [name for name in scores.column_names if name in (*samples.column_names, *RESERVED)]
    if clashes:
        raise DataError(
            f"A grader's columns must have names of their own; samples or decisions have {clashes} already."
        )
    _require_finite(scores)
    return _recordable(scores)


def _require_finite(scores: pa.Table) -> None:
    """Nulls are no failure of the check where some column may say why."""
    if any(map(is_failure, scores.column_names)):
        for position, field in enumerate(scores.schema):
            if pa.types.is_floating(field.type):
                scores = scores.set_column(position, field.name, scores[field.name].fill_null(0.0))
    require_finite(scores, "Scores")


def _recordable(scores: pa.Table) -> pa.Table:
    """The scores with reasons as they may be recorded: no secrets in them, and short."""
    for position, name in enumerate(scores.column_names):
        if is_failure(name):
            encoded = scores[name].combine_chunks().dictionary_encode()
            texts = [without_secrets(text)[:REASON_LENGTH] for text in encoded.dictionary.to_pylist()]
            reasons = pa.array(texts, pa.string()).take(encoded.indices)
            scores = scores.set_column(position, name, reasons)
    return scores


def _joined(parts: Sequence[tuple[Unit, pa.Table | str]], *, is_composed: bool) -> pa.Table:
    """The columns of all units; null, with the reason beside, in those that failed.

    A unit lacks a column of reasons if it has none, and in a composition also those of a part that it did
    not ask.
    """
    scored = [rows for _, rows in parts if not isinstance(rows, str)]
    if not scored:
        nothing = pa.schema([(FAILURE, pa.string())])
        scored = [nothing.empty_table()]
    types = {field.name: field.type for rows in reversed(scored) for field in rows.schema}
    types |= {f.name: f.type for rows in reversed(scored) for f in rows.schema if is_known(f.type)}
    names = list(dict.fromkeys(name for rows in scored for name in rows.column_names))
    if len(scored) < len(parts):
        types[FAILURE] = pa.string()
        names = list(dict.fromkeys([*names, FAILURE]))
    tables = []
    for unit, rows in parts:
        count, reason = unit.stop - unit.start, rows if isinstance(rows, str) else None
        if isinstance(rows, str):
            scores = pa.table({FAILURE: constant(reason, pa.string(), count)})
        else:
            if not is_composed:
                _require_columns(unit, rows, scored[0])
            known = {name: types[name] for name in rows.column_names}
            scores = matched(rows, known, f"unit {unit.number}")
        for name in names:
            if name not in scores.column_names:
                scores = scores.append_column(name, pa.nulls(count, types[name]))
        tables.append(scores.select(names))
    return pa.concat_tables(tables)


def _require_columns(unit: Unit, rows: pa.Table, first: pa.Table) -> None:
    own, others = (sorted(n for n in t.column_names if not is_failure(n)) for t in (rows, first))
    if own != others:
        raise DataError(
            f"Every unit must have the same scores; unit {unit.number} has {own}, those before it {others}."
        )
