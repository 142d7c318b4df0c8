"""Arrow tables at the seams: their columns, sample ids, and the checks that stop bad data early."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flywheel.errors import DataError
from flywheel.tables.digests import bytes_and_offsets, row_texts

PROVENANCE = pa.schema(
    [
        ("id", pa.string()),
        ("origin", pa.string()),
        ("made_in", pa.int32()),
        ("made_by", pa.string()),
        ("source", pa.string()),
        ("prompt", pa.string()),
        ("group", pa.string()),
        ("key", pa.int64()),
    ]
)
DECISIONS = pa.schema(
    [
        ("id", pa.string()),
        ("keep", pa.bool_()),
        ("reason", pa.string()),
        ("weight", pa.float64()),
        ("count", pa.int32()),
    ]
)
OUTCOMES = pa.schema(
    [
        ("suite", pa.string()),
        ("item", pa.string()),
        ("cluster", pa.string()),
        ("subject", pa.string()),
        ("opponent", pa.string()),
        ("score", pa.float64()),
    ]
)

AUDITS = pa.schema(
    [("id", pa.string()), ("trusted", pa.float64()), ("kept", pa.bool_()), ("failure", pa.string())]
)
AUDITED = "audited"
"""Column in which curators find what the trusted grader said of a sample; null where it was not asked."""

RESERVED = frozenset(PROVENANCE.names) | frozenset(DECISIONS.names) | {AUDITED}
"""Column names that say what the loop and the curator say of a sample: no payload's or grader's to have."""


def as_table(batch: pa.Table | pa.RecordBatch | Mapping[str, Any]) -> pa.Table:
    """A table from whatever a recipe returns: a table, a record batch, or columns.

    Raises DataError, naming the column, for what cannot become one.
    """
    if isinstance(batch, pa.Table):
        return batch
    if isinstance(batch, pa.RecordBatch):
        return pa.Table.from_batches([batch])
    try:
        columns = {name: _as_column(values, name) for name, values in dict(batch).items()}
    except (TypeError, ValueError) as error:
        kind = type(batch).__name__
        raise DataError(
            f"Rows must come as an Arrow table, a record batch, or a mapping of columns; they are a {kind}. "
            "Of a list of dicts, pa.Table.from_pylist makes a table."
        ) from error
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"Columns must have one length; theirs are {lengths}.")
    return pa.table(columns)


def _as_column(values: Any, name: object) -> pa.Array | pa.ChunkedArray:
    if not isinstance(name, str):
        raise DataError(f"Columns must have texts as names; {name!r} is a {type(name).__name__}.")
    try:
        return values if isinstance(values, pa.ChunkedArray) else pa.array(values)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            "A column must be a list, a NumPy array of one dimension or an Arrow array, of values that Arrow "
            f"knows; {name!r} is none: {error}."
        ) from error


def constant(value: Any, kind: pa.DataType, length: int) -> pa.Array:
    """An array of one value."""
    return pa.repeat(pa.scalar(value, kind), length)


def with_provenance(payload: pa.Table, *, own: tuple[str, ...], **provenance: Any) -> pa.Table:
    """Payload rows as samples: provenance columns first, then the payload.

    ``provenance`` gives a value for each provenance column, null for one that it lacks; those named in
    ``own`` are the payload's to give, and ``group`` falls back to ``prompt``. Raises DataError if the
    payload claims any other.
    """
    require_own_columns(payload, own)
    columns: dict[str, Any] = {}
    for spec in PROVENANCE:
        if spec.name in payload.column_names:
            column = payload[spec.name]
            columns[spec.name] = as_text(column, spec.name) if spec.type == pa.string() else column
        elif spec.name == "group":
            columns["group"] = columns["prompt"]
        elif spec.name != "id":
            columns[spec.name] = constant(provenance.get(spec.name), spec.type, len(payload))
    for name in payload.column_names:
        columns.setdefault(name, payload[name])
    table = pa.table(columns)
    return table.add_column(0, "id", sample_ids(table))


def require_own_columns(payload: pa.Table, own: tuple[str, ...]) -> None:
    """Raise DataError if there are no prompts, or columns that are the loop's to give, but for ``own``."""
    if "prompt" not in payload.column_names:
        raise DataError(f"Samples must have a column 'prompt'; they have {payload.column_names}.")
    if claimed := [name for name in payload.column_names if name in RESERVED and name not in own]:
        raise DataError(
            "Where a sample comes from and what is decided on it is recorded by the loop; its payload must "
            f"not have {claimed}. Give these columns other names."
        )


def as_text(column: pa.ChunkedArray, name: str, what: str = "Samples") -> pa.ChunkedArray:
    """A column as text. Raises DataError, naming it, if it cannot be, or if a prompt is null."""
    try:
        text = column.cast(pa.string())
    except pa.ArrowException as error:
        raise DataError(f"{what} must have text in column {name!r}; it is {column.type}: {error}.") from error
    if name == "prompt" and text.null_count:
        raise DataError(f"Samples must have a prompt each; {text.null_count} of them are null.")
    return text


def sample_ids(table: pa.Table) -> pa.Array:
    """Content hash of each row, 128 bits in hex; equal rows of a batch are told apart by their order.

    The origin is part of the content, so that a human row and an equal generated one stay apart. Texts
    are made column by column; only the hash is taken row by row, on slices of Arrow's own buffer.
    """
    texts = row_texts(table)
    marked = pc.binary_join_element_wise(texts, _occurrence(texts), "\x1e")
    digests = bytearray()
    for chunk in marked.chunks:
        data, ends = bytes_and_offsets(chunk)
        first = ends[0]
        for last in ends[1:]:
            digests += blake2b(data[first:last], digest_size=16).digest()
            first = last
    offsets = np.arange(0, 32 * len(table) + 1, 32, dtype=np.int32)
    return pa.StringArray.from_buffers(
        len(table), pa.py_buffer(offsets), pa.py_buffer(digests.hex().encode())
    )


def _occurrence(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """For each text, how often it came before, as text."""
    if pc.count_distinct(texts).as_py() == len(texts):
        zeros = [constant("0", pa.string(), len(chunk)) for chunk in texts.chunks]
        return pa.chunked_array(zeros, pa.string())
    seen: Counter[str] = Counter()
    counts = []
    for text in texts.to_pylist():
        counts.append(str(seen[text]))
        seen[text] += 1
    return pa.chunked_array([pa.array(counts, pa.string())])


def counts_of(column: pa.ChunkedArray) -> dict[str, int]:
    """How often a column has each of its values, by its text, in the order of first appearance."""
    return {str(entry["values"]): entry["counts"] for entry in column.value_counts().to_pylist()}


def best_of_groups(scores: np.ndarray, *groups: np.ndarray) -> np.ndarray:
    """Which rows have the highest score of their group, the first among equals; bool, shape (rows,).

    Rows are of one group that agree in all of ``groups``. NaN is lower than any score.
    """
    order = np.lexsort((-scores, *groups))  # stable: the first among equals leads
    starts = np.ones(len(order), bool)
    starts[1:] = np.any(np.diff(np.stack([codes[order] for codes in groups])), axis=0)
    best = np.zeros(len(order), bool)
    best[order[starts]] = True
    return best


def require(table: pa.Table, what: str, unique: str, *, may_be_empty: bool = False) -> pa.Table:
    """The table, if it has rows, a unique key column, and only finite numbers; DataError if not."""
    if unique not in table.column_names:
        raise DataError(f"{what} must have a column {unique!r}; they have {table.column_names}.")
    if len(table) == 0 and not may_be_empty:
        raise DataError(f"{what} must have at least one row; they have none.")
    if table[unique].null_count:
        raise DataError(f"{what} must have a {unique!r} each; {table[unique].null_count} of them are null.")
    counts = as_text(table[unique], unique, what).value_counts()
    if len(counts) != len(table):
        twice = next(entry["values"] for entry in counts.to_pylist() if entry["counts"] > 1)
        raise DataError(f"{what} must have unique values of {unique!r}; {twice!r} occurs more than once.")
    return require_finite(table, what)


def require_finite(table: pa.Table, what: str) -> pa.Table:
    """The table, if every float in it (also inside lists) is finite; DataError naming the column if not."""
    for name in table.column_names:
        if bad := sum(map(_not_finite, table[name].chunks)):
            raise DataError(
                f"{what} must have finite numbers; {bad} values of column {name!r} are NaN, "
                "infinite or null. Drop or impute those rows in the recipe's task."
            )
    return table


def _not_finite(values: pa.Array) -> int:
    if pa.types.is_floating(values.type):
        return len(values) - (pc.sum(pc.is_finite(values)).as_py() or 0)
    if pa.types.is_struct(values.type):
        return sum(_not_finite(field) for field in values.flatten())
    if pa.types.is_nested(values.type) and hasattr(values, "flatten"):
        return _not_finite(values.flatten())
    return 0


def require_same_rows(ids: pa.ChunkedArray, expected: pa.ChunkedArray, what: str) -> None:
    """Raise DataError unless the ids are the expected ones in their order."""
    if not ids.cast(pa.string()).equals(expected.cast(pa.string())):
        raise DataError(f"{what} must answer row for row: its ids are not the samples', or in another order.")
