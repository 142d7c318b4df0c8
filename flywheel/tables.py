"""Arrow tables at the seams: their columns, sample ids, and the checks that stop bad data early."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flywheel.errors import DataError

PROVENANCE = pa.schema(
    [
        ("id", pa.string()),
        ("origin", pa.string()),
        ("source", pa.string()),
        ("generation", pa.int32()),
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


def as_table(batch: pa.Table | pa.RecordBatch | Mapping[str, Any]) -> pa.Table:
    """A table from whatever a recipe returns: a table, a record batch, or columns."""
    if isinstance(batch, pa.Table):
        return batch
    if isinstance(batch, pa.RecordBatch):
        return pa.Table.from_batches([batch])
    return pa.table(dict(batch))


def constant(value: Any, kind: pa.DataType, length: int) -> pa.Array:
    """An array of one value."""
    return pa.repeat(pa.scalar(value, kind), length)


def with_provenance(payload: pa.Table, *, own: tuple[str, ...], **provenance: Any) -> pa.Table:
    """Payload rows as samples: provenance columns first, then the payload.

    ``provenance`` gives a value for each provenance column; those named in ``own`` are the payload's to
    give, and ``group`` falls back to ``prompt``. Raises DataError if the payload claims any other.
    """
    if "prompt" not in payload.column_names:
        raise DataError(f"Samples must have a column 'prompt'; they have {payload.column_names}.")
    claimed = [name for name in payload.column_names if name in PROVENANCE.names and name not in own]
    if claimed:
        raise DataError(
            f"Where a sample comes from is recorded by the loop; its payload must not have {claimed}."
        )
    columns: dict[str, Any] = {}
    for spec in PROVENANCE:
        if spec.name in payload.column_names:
            columns[spec.name] = payload[spec.name].cast(spec.type)
        elif spec.name == "group":
            columns["group"] = columns["prompt"]
        elif spec.name != "id":
            columns[spec.name] = constant(provenance[spec.name], spec.type, len(payload))
    for name in payload.column_names:
        columns.setdefault(name, payload[name])
    table = pa.table(columns)
    return table.add_column(0, "id", sample_ids(table))


def sample_ids(table: pa.Table) -> pa.Array:
    """Content hash of each row, 128 bits in hex; equal rows of a batch are told apart by their order.

    The origin is part of the content, so that a human row and an equal generated one stay apart.
    """
    seen: Counter[str] = Counter()
    ids = []
    for text in row_texts(table):
        ids.append(hashlib.blake2b(f"{text}\x1e{seen[text]}".encode(), digest_size=16).hexdigest())
        seen[text] += 1
    return pa.array(ids, pa.string())


def row_texts(table: pa.Table) -> list[str]:
    """Each row as one text, over its columns in name order, whatever the chunking.

    Floats are left out: they differ between CPU types.
    """
    names = [name for name in sorted(table.column_names) if not _has_floats(table.schema.field(name).type)]
    texts = [_as_text(table[name]) for name in names]
    joined: list[str] = pc.binary_join_element_wise(*texts, "\x1f").to_pylist()
    return joined


def _has_floats(kind: pa.DataType) -> bool:
    if pa.types.is_floating(kind):
        return True
    return any(_has_floats(kind.field(i).type) for i in range(kind.num_fields))


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as text in which the separator of columns does not occur; null is told from any text."""
    if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
        texts = [None if value is None else repr(value) for value in column.to_pylist()]
        column = pa.chunked_array([pa.array(texts, pa.string())])
    text = pc.replace_substring(column.cast(pa.string()), "\\", "\\\\")
    return pc.fill_null(pc.replace_substring(text, "\x1f", "\\u"), "\\0")


def digest(rows: Iterable[str]) -> str:
    """SHA-256 over texts in order, lengths included: the identity of a corpus or suite."""
    total = hashlib.sha256()
    for row in rows:
        data = row.encode()
        total.update(b"%d:" % len(data) + data)
    return total.hexdigest()


def require(table: pa.Table, what: str, unique: str, *, may_be_empty: bool = False) -> pa.Table:
    """The table, if it has rows, a unique key column, and only finite numbers; DataError if not."""
    if unique not in table.column_names:
        raise DataError(f"{what} must have a column {unique!r}; they have {table.column_names}.")
    if len(table) == 0 and not may_be_empty:
        raise DataError(f"{what} must have at least one row; they have none.")
    if pc.count_distinct(table[unique]).as_py() != len(table):
        raise DataError(f"{what} must have unique values of {unique!r}; some occur twice.")
    return require_finite(table, what)


def require_finite(table: pa.Table, what: str) -> pa.Table:
    """The table, if every float in it (also inside lists) is finite; DataError naming the column if not."""
    for name in table.column_names:
        bad = sum(_not_finite(chunk) for chunk in table[name].chunks)
        if bad:
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
    if ids.to_pylist() != expected.to_pylist():
        raise DataError(f"{what} must answer row for row: its ids are not the samples', or in another order.")
