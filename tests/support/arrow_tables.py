"""Hypothesis strategies: Arrow types, and tables of them, as a task may give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

_LEAVES = [
    *(pa.null(), pa.bool_(), pa.int8(), pa.uint8(), pa.int16(), pa.int32(), pa.int64(), pa.uint64()),
    *(pa.float16(), pa.float32(), pa.float64(), pa.decimal128(10, 2), pa.decimal256(50, 3)),
    *(pa.string(), pa.large_string(), pa.string_view()),
    *(pa.binary(), pa.large_binary(), pa.binary(3), pa.binary_view()),
    *(pa.date32(), pa.date64(), pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")),
    *(pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")),
    *(pa.timestamp("s", "Europe/Berlin"), pa.timestamp("ns", "+02:00"), pa.timestamp("ms", "No/Where")),
    *(pa.duration(unit) for unit in ("s", "ns")),
    *(pa.month_day_nano_interval(), pa.uuid(), pa.bool8(), pa.json_()),
    *(pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int32(), pa.int64(), ordered=True)),
    *(pa.dictionary(pa.int32(), pa.float64()), pa.dictionary(pa.int32(), pa.large_string())),
    pa.run_end_encoded(pa.int32(), pa.string()),
]


def _field(kind: pa.DataType, nullable: bool) -> pa.Field:
    return pa.field("x", kind, nullable or pa.types.is_null(kind))


def _nested(inner: st.SearchStrategy[pa.DataType]) -> st.SearchStrategy[pa.DataType]:
    fields = st.lists(st.tuples(st.sampled_from("abc"), inner), max_size=3, unique_by=lambda pair: pair[0])
    named = st.builds(
        lambda kind, null: pa.field("x", kind, null or pa.types.is_null(kind)), inner, st.booleans()
    )
    return st.one_of(
        st.builds(pa.list_, named),
        st.builds(pa.large_list, inner),
        st.builds(pa.list_, inner, st.integers(1, 3)),
        st.builds(pa.list_view, inner),
        st.builds(pa.large_list_view, inner),
        st.builds(pa.struct, fields),
        st.builds(lambda kind: pa.map_(pa.string(), kind), inner),
    )


KINDS = st.recursive(st.sampled_from(_LEAVES), _nested, max_leaves=4)
_TEXTS = st.text(st.characters(codec="utf-8"), max_size=4) | st.sampled_from(
    ["\x1f", "\\", "\\0", "1:a", "-"]
)


def values(draw: Any, kind: pa.DataType, count: int, *, nullable: bool) -> pa.Array:
    """``count`` values of a type; floats are finite and never null, as samples' are."""
    if isinstance(kind, pa.BaseExtensionType):
        storage = values(draw, kind.storage_type, count, nullable=nullable)
        return pa.ExtensionArray.from_storage(kind, storage)
    if pa.types.is_dictionary(kind):
        entries = values(draw, kind.value_type, 3, nullable=False)
        places = pa.array(_some(draw, st.integers(0, 2), count, nullable), kind.index_type)
        return pa.DictionaryArray.from_arrays(places, entries, ordered=kind.ordered)
    if pa.types.is_run_end_encoded(kind):
        ends = pa.array(range(1, count + 1), kind.run_end_type)
        return pa.RunEndEncodedArray.from_arrays(
            ends, values(draw, kind.value_type, count, nullable=nullable)
        )
    if pa.types.is_struct(kind):
        parts = [values(draw, field.type, count, nullable=nullable) for field in kind]
        if not parts:
            return pa.array([{}] * count, kind)
        return pa.StructArray.from_arrays(parts, fields=list(kind), mask=_mask(draw, count, nullable))
    if pa.types.is_nested(kind):
        return _lists(draw, kind, count, nullable=nullable)
    return _leaves(draw, kind, count, nullable=nullable and not pa.types.is_floating(kind))


def _lists(draw: Any, kind: pa.DataType, count: int, *, nullable: bool) -> pa.Array:
    if pa.types.is_map(kind):
        pairs = pa.struct([pa.field("key", kind.key_type, nullable=False), ("value", kind.item_type)])
        lists = _lists(draw, pa.list_(pairs), count, nullable=False)
        keys, items = lists.values.flatten()
        return pa.MapArray.from_arrays(lists.offsets, keys, items)
    is_fixed = pa.types.is_fixed_size_list(kind)
    lengths = [kind.list_size] * count if is_fixed else _some(draw, st.integers(0, 2), count, nullable=False)
    field = kind.value_field
    inner = values(draw, field.type, sum(lengths), nullable=nullable and field.nullable)
    mask = _mask(draw, count, nullable)
    if is_fixed:
        return pa.FixedSizeListArray.from_arrays(inner, type=kind, mask=mask)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    is_large = pa.types.is_large_list(kind) or pa.types.is_large_list_view(kind)
    offsets = pa.array(ends, pa.int64() if is_large else pa.int32())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        made = pa.LargeListArray if is_large else pa.ListArray
        return made.from_arrays(offsets, inner, type=kind, mask=mask)
    view = pa.LargeListViewArray if is_large else pa.ListViewArray
    sizes = pa.array(lengths, offsets.type)
    return view.from_arrays(offsets[:-1], sizes, inner, type=kind, mask=mask)


def _leaves(draw: Any, kind: pa.DataType, count: int, *, nullable: bool) -> pa.Array:
    if pa.types.is_null(kind):
        return pa.nulls(count)
    if pa.types.is_boolean(kind):
        return pa.array(_some(draw, st.booleans(), count, nullable), kind)
    if pa.types.is_floating(kind):
        numbers = st.floats(-100, 100, width=kind.bit_width) | st.integers(-3, 3).map(float)
        return pa.array(np.array(_some(draw, numbers, count, nullable=False), f"f{kind.bit_width // 8}"))
    if pa.types.is_interval(kind):
        return pa.array([(draw(st.integers(0, 3)), 0, 0) for _ in range(count)], kind)
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        return pa.array(_some(draw, st.integers(0, 100), count, nullable), kind)
    if pa.types.is_date64(kind):
        days = _some(draw, st.integers(0, 20_000), count, nullable)
        return pa.array([day and day * 86_400_000 for day in days], pa.int64()).cast(kind)
    if pa.types.is_temporal(kind):
        width = pa.int64() if kind.bit_width == 64 else pa.int32()
        return pa.array(_some(draw, st.integers(0, 80_000), count, nullable), width).cast(kind)
    texts = _some(draw, _TEXTS, count, nullable)
    if pa.types.is_fixed_size_binary(kind):
        texts = [t and t.encode().ljust(kind.byte_width, b"0")[: kind.byte_width] for t in texts]
        return pa.array([b"0" * kind.byte_width if t == "" else t for t in texts], kind)
    return pa.array(texts, pa.string()).cast(kind)


def _some(draw: Any, one: st.SearchStrategy[Any], count: int, nullable: bool = True) -> list[Any]:
    return draw(st.lists(one | st.none() if nullable else one, min_size=count, max_size=count))


def _mask(draw: Any, count: int, nullable: bool) -> pa.Array | None:
    if not nullable:
        return None
    return pa.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)), pa.bool_())


@st.composite
def tables(draw: Any, rows: int, most_columns: int = 3) -> pa.Table:
    """A table of so many rows, its chunks cut anywhere."""
    kinds = draw(st.lists(KINDS, min_size=1, max_size=most_columns))
    columns = [values(draw, kind, rows, nullable=draw(st.booleans())) for kind in kinds]
    table = pa.table({f"column {k}": column for k, column in enumerate(columns)})
    cut = draw(st.integers(0, rows))
    return pa.concat_tables([table.slice(0, cut), table.slice(cut)])


TABLES = st.integers(0, 4).flatmap(tables)
