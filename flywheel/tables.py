"""Arrow tables at the seams: their columns, sample ids, and the checks that stop bad data early."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
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


def with_provenance(payload: pa.Table, **provenance: Any) -> pa.Table:
    """Payload rows as samples: provenance columns first, the id hashed from all but the floats.

    ``provenance`` gives a value for each provenance column but ``id``; a column of that name in the
    payload wins over it. ``group`` falls back to ``prompt``.
    """
    columns: dict[str, Any] = {}
    for spec in PROVENANCE:
        if spec.name == "id":
            continue
        if spec.name in payload.column_names:
            columns[spec.name] = payload[spec.name].cast(spec.type)
        elif spec.name == "group" and "group" not in provenance:
            columns["group"] = columns["prompt"]
        else:
            columns[spec.name] = constant(provenance[spec.name], spec.type, len(payload))
    for name in payload.column_names:
        columns.setdefault(name, payload[name])
    table = pa.table(columns)
    return table.add_column(0, "id", sample_ids(table))


def sample_ids(table: pa.Table) -> pa.Array:
    """Content hash of each row, 128 bits in hex, over its columns in name order.

    The origin is part of the content, so that a human row and an equal generated one stay apart.
    Floats are left out: they differ between CPU types.
    """
    texts = [
        pc.fill_null(table[name].cast(pa.string()), "\0")
        for name in sorted(table.column_names)
        if _is_exact(table.schema.field(name).type)
    ]
    joined = pc.binary_join_element_wise(*texts, "\x1f")
    return pa.array([hashlib.blake2b(s.encode(), digest_size=16).hexdigest() for s in joined.to_pylist()])


def _is_exact(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_boolean(kind)


def digest(*columns: pa.ChunkedArray | pa.Array) -> str:
    """SHA-256 over rows of string and integer columns, in order: the identity of a corpus or suite."""
    joined = pc.binary_join_element_wise(*(column.cast(pa.string()) for column in columns), "\x1f")
    return hashlib.sha256("\n".join(joined.to_pylist()).encode()).hexdigest()


def require(table: pa.Table, what: str, unique: str) -> pa.Table:
    """The table, if it has rows, a unique key column, and only finite numbers; DataError if not."""
    if unique not in table.column_names:
        raise DataError(f"{what} must have a column {unique!r}; they have {table.column_names}.")
    if len(table) == 0:
        raise DataError(f"{what} must have at least one row; they have none.")
    if pc.count_distinct(table[unique]).as_py() != len(table):
        raise DataError(f"{what} must have unique values of {unique!r}; some occur twice.")
    return require_finite(table, what)


def require_finite(table: pa.Table, what: str) -> pa.Table:
    """The table, if every float in it (also in lists) is finite; DataError naming the column if not."""
    for name in table.column_names:
        values = table[name].combine_chunks()
        while pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type):
            values = pc.list_flatten(values)
        if pa.types.is_floating(values.type):
            bad = len(values) - (pc.sum(pc.is_finite(values)).as_py() or 0)
            if bad:
                raise DataError(
                    f"{what} must have finite numbers; {bad} values of column {name!r} are NaN, "
                    "infinite or null. Drop or impute those rows in the recipe's task."
                )
    return table
