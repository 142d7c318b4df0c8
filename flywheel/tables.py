"""Arrow tables at the seams: their columns, sample ids, and the checks that stop bad data early."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

import numpy as np
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

_SLICE = 1 << 16
"""Rows worked on at a time where all of them would take too much memory."""


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

    The origin is part of the content, so that a human row and an equal generated one stay apart. Texts
    are made column by column; only the hash is taken row by row, on slices of Arrow's own buffer.
    """
    texts = _row_texts(table)
    marked = pc.binary_join_element_wise(texts, _occurrence(texts), "\x1e")
    digests = bytearray()
    for chunk in marked.chunks:
        data, ends = _bytes_and_offsets(chunk)
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


def _bytes_and_offsets(texts: pa.Array) -> tuple[memoryview, list[int]]:
    """The bytes of an array of strings, and where in them each string ends, from the first one's start."""
    _, offsets, data = texts.buffers()
    if not len(texts):
        return memoryview(b""), [0]
    ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return memoryview(data or b""), ends.tolist()


def row_texts(table: pa.Table) -> list[str]:
    """Each row as one text, over its columns in name order, whatever the chunking.

    Floats are left out: they differ between CPU types.
    """
    texts: list[str] = _row_texts(table).to_pylist()
    return texts


def _row_texts(table: pa.Table) -> pa.ChunkedArray:
    names = [name for name in sorted(table.column_names) if not _has_floats(table.schema.field(name).type)]
    texts = [column_text(table[name]) for name in names]
    return pc.binary_join_element_wise(*texts, "\x1f")


def _has_floats(kind: pa.DataType) -> bool:
    if pa.types.is_floating(kind):
        return True
    return any(_has_floats(kind.field(i).type) for i in range(kind.num_fields))


def column_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as text in which the separator of columns does not occur; null is told from any text."""
    if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
        texts = [None if value is None else repr(value) for value in column.to_pylist()]
        column = pa.chunked_array([pa.array(texts, pa.string())])
    text = column.cast(pa.string())
    if not pa.types.is_integer(column.type):
        text = pc.replace_substring(pc.replace_substring(text, "\\", "\\\\"), "\x1f", "\\u")
    return pc.fill_null(text, "\\0")


def digest(rows: Iterable[str]) -> str:
    """SHA-256 over texts in order, lengths included: the identity of a corpus or suite."""
    total = hashlib.sha256()
    _update(total, pa.chunked_array([list(rows)], pa.string()))
    return total.hexdigest()


def table_digest(table: pa.Table) -> str:
    """``digest`` of the texts of a table's rows; memory does not grow with their number."""
    total = hashlib.sha256()
    for start in range(0, len(table), _SLICE):
        _update(total, _row_texts(table.slice(start, _SLICE)))
    return total.hexdigest()


def _update(total: Any, texts: pa.ChunkedArray) -> None:
    lengths = pc.binary_length(texts).cast(pa.string())
    for chunk in pc.binary_join_element_wise(lengths, texts, ":").chunks:
        data, ends = _bytes_and_offsets(chunk)
        total.update(data[ends[0] : ends[-1]])


def require(table: pa.Table, what: str, unique: str, *, may_be_empty: bool = False) -> pa.Table:
    """The table, if it has rows, a unique key column, and only finite numbers; DataError if not."""
    if unique not in table.column_names:
        raise DataError(f"{what} must have a column {unique!r}; they have {table.column_names}.")
    if len(table) == 0 and not may_be_empty:
        raise DataError(f"{what} must have at least one row; they have none.")
    if table[unique].null_count:
        raise DataError(f"{what} must have a {unique!r} each; {table[unique].null_count} of them are null.")
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
    if not ids.cast(pa.string()).equals(expected.cast(pa.string())):
        raise DataError(f"{what} must answer row for row: its ids are not the samples', or in another order.")
