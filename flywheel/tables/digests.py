"""Rows as texts, digests over them, and how two tables that should be the same differ.

Floats differ in the last bits between CPU types. Ids leave them out; an identity has them to the bit, and
where it differs, tables are compared with a tolerance.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from flywheel.records import Sketch

_SLICE = 1 << 16
"""Rows worked on at a time where all of them would take too much memory."""
_NESTED_SLICE = 1 << 12
_RELATIVE, _OF_LARGEST = 1e-5, 1e-6
"""Floats are the same within so much of their size, or of the largest in their column."""


def row_texts(table: pa.Table) -> pa.ChunkedArray:
    """Each row as one text, over its columns in name order, whatever the chunking.

    Columns with floats are left out: they differ between CPU types.
    """
    names = [name for name in table.column_names if not has_floats(table.schema.field(name).type)]
    return joined_texts(table.select(names))


def joined_texts(table: pa.Table, *, floats: bool = True) -> pa.ChunkedArray:
    """Each row as one text, columns with floats too; see ``column_texts``."""
    if not table.column_names:
        return pa.chunked_array([pa.repeat(pa.scalar(""), len(table))])
    columns = (column_texts(table[name], floats=floats) for name in sorted(table.column_names))
    return pc.binary_join_element_wise(*columns, "\x1f")


def has_floats(kind: pa.DataType) -> bool:
    """Whether a type is one of floats or has one inside."""
    if types.is_floating(kind):
        return True
    return any(has_floats(kind.field(k).type) for k in range(kind.num_fields))


def column_texts(column: pa.ChunkedArray, *, floats: bool = True) -> pa.ChunkedArray:
    """A column as text in which the separator of columns does not occur; null is told from any text.

    Without ``floats`` each of them is ``false``, which leaves the rest, and where floats are.
    """
    if _is_cast(column.type):
        text = column.cast(pa.string())
    else:
        slices = (
            chunk.slice(start, _NESTED_SLICE)
            for chunk in column.chunks
            for start in range(0, len(chunk), _NESTED_SLICE)
        )
        text = pa.chunked_array([_texts(part, floats) for part in slices], pa.string())
    if not types.is_integer(column.type) and any(map(_has_marks, text.chunks)):
        text = pc.replace_substring(pc.replace_substring(text, "\\", "\\\\"), "\x1f", "\\u")
    return pc.fill_null(text, "\\0")


def _has_marks(texts: pa.Array) -> bool:
    """Whether a backslash or a separator is in any of these texts, as two of their bytes in UTF-8."""
    _, offsets, data = texts.buffers()
    if not len(texts) or not data:
        return False
    ends = np.frombuffer(offsets, np.int32)
    own = np.frombuffer(data, np.uint8)[ends[texts.offset] : ends[texts.offset + len(texts)]]
    return bool((own == ord("\\")).any() or (own == 0x1F).any())


def _is_cast(kind: pa.DataType) -> bool:
    """Whether Arrow's own cast gives a type's texts."""
    own = types.is_nested(kind) or types.is_floating(kind) or isinstance(kind, pa.BaseExtensionType)
    own = own or types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    return not (own or types.is_timestamp(kind))


def _texts(values: pa.Array, floats: bool) -> pa.Array:
    """Values as texts: bytes in hex, floats as the integers of their bits, times in UTC; null stays null."""
    kind = values.type
    if isinstance(kind, pa.BaseExtensionType):
        return _texts(values.storage, floats)
    if types.is_struct(kind):
        return _struct_texts(values, floats)
    if types.is_nested(kind):
        return _list_texts(values, floats)
    if types.is_floating(kind):
        bits = values.view(f"int{kind.bit_width}").cast(pa.string())
        return bits if floats else pc.if_else(values.is_valid(), "false", bits)
    if types.is_timestamp(kind):  # the zone need not be known here
        return values.cast(pa.timestamp(kind.unit)).cast(pa.string())
    return values.cast(pa.string()) if _is_cast(kind) else _hex(values.cast(pa.binary()))


def _struct_texts(values: pa.StructArray, floats: bool) -> pa.Array:
    parts = {field.name: part for field, part in zip(values.type, values.flatten(), strict=True)}
    texts = (_counted(_texts(parts[name], floats)) for name in sorted(parts))
    return _null_where(values, pc.binary_join_element_wise(*texts, ""))


def _list_texts(values: pa.Array, floats: bool) -> pa.Array:
    if types.is_fixed_size_list(values.type):
        values = values.cast(pa.list_(values.type.value_type))
    offsets = values.offsets
    first, last = (offsets[k].as_py() for k in (0, -1))
    elements = _counted(_texts(values.values.slice(first, last - first), floats))
    array = pa.LargeListArray if types.is_large_list(values.type) else pa.ListArray
    starts = pc.subtract(offsets, pa.scalar(first, offsets.type))
    return _null_where(values, pc.binary_join(array.from_arrays(starts, elements), ""))


def _null_where(values: pa.Array, texts: pa.Array) -> pa.Array:
    return pc.if_else(values.is_valid(), texts, pa.scalar(None, pa.string()))


def _counted(texts: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Each text with its length in bytes and a colon before it, null as ``-``: so they can be joined."""
    lengths = pc.binary_length(texts).cast(pa.string())
    return pc.fill_null(pc.binary_join_element_wise(lengths, texts, ":"), "-")


def _hex(values: pa.BinaryArray) -> pa.Array:
    data, ends = bytes_and_offsets(values)
    offsets = (np.asarray(ends, np.int64) - ends[0]) * 2
    text = pa.py_buffer(data[ends[0] : ends[-1]].hex().encode())
    texts = pa.StringArray.from_buffers(len(values), pa.py_buffer(offsets.astype(np.int32)), text)
    return _null_where(values, texts)


def bytes_and_offsets(texts: pa.Array) -> tuple[memoryview, list[int]]:
    """The bytes of an array of strings, and where in them each string ends, from the first one's start."""
    _, offsets, data = texts.buffers()
    if not len(texts):
        return memoryview(b""), [0]
    ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return memoryview(data or b""), ends.tolist()


def table_digest(table: pa.Table, *, floats: bool = True) -> str:
    """SHA-256 over the texts of a table's rows, ``floats`` included to the bit: its identity.

    Memory does not grow with the number of rows.
    """
    total = hashlib.sha256()
    for start in range(0, len(table), _SLICE):
        for chunk in _counted(joined_texts(table.slice(start, _SLICE), floats=floats)).chunks:
            data, ends = bytes_and_offsets(chunk)
            total.update(data[ends[0] : ends[-1]])
    return total.hexdigest()


def columns_of(table: pa.Table) -> dict[str, str]:
    """The names and types of the columns: what a digest of the rows does not say."""
    return {field.name: str(field.type) for field in table.schema}


def difference(old: pa.Table, new: pa.Table) -> str | None:
    """What differs between two tables, in words; None if nothing does but the last bits of floats."""
    if len(old) != len(new):
        return f"{len(old)} rows there, {len(new)} now"
    kinds = [columns_of(old), columns_of(new)]
    for name in [name for name in {**kinds[0], **kinds[1]} if kinds[0].get(name) != kinds[1].get(name)]:
        return f"column {name!r}: {kinds[0].get(name, 'absent')} there, {kinds[1].get(name, 'absent')} now"
    for name in sorted(old.column_names, key=lambda name: name == "id"):  # an id only follows from the rest
        rows = _differing(old[name], new[name])
        if len(rows):
            return f"column {name!r} differs in {len(rows)} of {len(old)} rows, first in row {rows[0]}"
    return None


def _differing(old: pa.ChunkedArray, new: pa.ChunkedArray) -> np.ndarray:
    """Numbers of the rows in which two columns of one type differ."""
    if old.equals(new):
        return np.empty(0, int)
    texts = (column_texts(side, floats=False).to_numpy() for side in (old, new))
    rows = np.flatnonzero(np.not_equal(*texts))
    if len(rows) or not has_floats(old.type):
        return rows
    (where, a), (_, b) = _floats(old), _floats(new)
    size = np.maximum(np.abs(a), np.abs(b))
    off = np.abs(a - b) > _RELATIVE * size + _OF_LARGEST * size.max(initial=0)
    return np.unique(where[off])


def _floats(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """All floats of a column as float64, and the number of the row that each is in."""
    rows, values, first = [np.empty(0, np.int64)], [np.empty(0)], 0
    for chunk in column.chunks:
        for where, part in _float_leaves(chunk, np.arange(first, first + len(chunk))):
            rows.append(where)
            values.append(part)
        first += len(chunk)
    return np.concatenate(rows), np.concatenate(values)


def _float_leaves(values: pa.Array, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    kind = values.type
    if types.is_floating(kind):
        is_there = values.is_valid().to_numpy(zero_copy_only=False)
        yield rows[is_there], values.drop_null().to_numpy(zero_copy_only=False).astype(float)
    elif types.is_struct(kind):
        for part in values.flatten():
            yield from _float_leaves(part, rows)
    elif types.is_nested(kind):
        lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False)
        yield from _float_leaves(values.flatten(), np.repeat(rows, lengths))


def sketch(table: pa.Table) -> Sketch:
    """By what a table is known again: how many rows, its columns, all but its floats, and those.

    ``rest`` is the digest of the rows without floats; ``floats`` has, for each column with floats, their
    Euclidean norm and the sum of their products with fixed numbers in [-1, 1), which a change of any moves.
    """
    kinds = columns_of(table)
    named = [name for name in kinds if has_floats(table.schema.field(name).type)]
    floats = {name: _projection(_floats(table[name])[1]) for name in named}
    return Sketch(len(table), kinds, table_digest(table, floats=False), floats)


def _projection(values: np.ndarray) -> tuple[float, float]:
    place = np.arange(len(values), dtype=np.uint64) * np.uint64(2654435761) % np.uint64(2**32)  # Knuth's hash
    weights = place.astype(float) / 2**31 - 1
    return math.sqrt(float(values @ values)), float(values @ weights)


def sketch_difference(old: Sketch, new: Sketch) -> str | None:
    """What differs between two sketches, in words; None if nothing does but the last bits of floats."""
    if old.rows != new.rows:
        return f"{old.rows} rows there, {new.rows} now"
    if old.columns != new.columns:
        return "other columns or types"
    if old.rest != new.rest:
        return "other values"
    for name, (norm, along) in old.floats.items():
        now = new.floats[name]
        if max(abs(now[0] - norm), abs(now[1] - along)) > _RELATIVE * max(norm, now[0]):
            return f"other floats in column {name!r}"
    return None
