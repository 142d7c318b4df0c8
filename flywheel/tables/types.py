"""Which types a table's columns may have, and the one form in which they are kept.

Parquet does not give every Arrow type back: ``timestamp[s]`` returns as ``timestamp[ms]``, ``date64`` as
``date32``, and a list's child changes its name. So whatever a task, grader or user hands in is brought to the
types that come back, once, where it enters and before ids and digests are made: what a stage sees does not
depend on whether it was read from the store before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from flywheel.errors import DataError

_AS_THEY_ARE = (
    types.is_null,
    types.is_boolean,
    types.is_integer,
    types.is_floating,
    types.is_decimal,
    types.is_date32,
    types.is_time64,
    types.is_duration,
    types.is_string,
    types.is_large_string,
    types.is_binary,
    types.is_large_binary,
    types.is_fixed_size_binary,
)


def stored_type(kind: pa.DataType) -> pa.DataType | None:
    """The type with which a column of type ``kind`` is kept, None if it cannot be.

    Categories and runs are kept as their values, views of text and bytes as plain ones, seconds as ms.
    """
    if isinstance(kind, pa.BaseExtensionType):
        return None
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return stored_type(kind.value_type)
    if types.is_struct(kind):
        return _stored_struct(kind)
    if types.is_nested(kind):
        return _stored_list(kind)
    if types.is_timestamp(kind):
        return pa.timestamp("ms", kind.tz) if kind.unit == "s" else kind
    if types.is_time32(kind):
        return pa.time32("ms")
    if types.is_date64(kind):
        return pa.date32()
    if types.is_string_view(kind):
        return pa.string()
    if types.is_binary_view(kind):
        return pa.binary()
    return kind if _is_of(kind, _AS_THEY_ARE) else None


def _stored_struct(kind: pa.StructType) -> pa.DataType | None:
    fields = [(kind.field(k).name, stored_type(kind.field(k).type)) for k in range(kind.num_fields)]
    names = {name for name, _ in fields}
    is_kept = fields and len(names) == len(fields) and all(inner is not None for _, inner in fields)
    return pa.struct(fields) if is_kept else None


def _stored_list(kind: pa.DataType) -> pa.DataType | None:
    is_refused = (
        types.is_union(kind) or types.is_map(kind) or _is_of(kind, _LIST_VIEWS)
    )  # views: cast wrongly
    inner = None if is_refused else stored_type(kind.value_type)
    if inner is None:
        return None
    element = pa.field("element", inner)  # what Parquet calls it
    if types.is_fixed_size_list(kind):
        return pa.list_(element, kind.list_size) if kind.list_size > 0 else None
    return pa.large_list(element) if types.is_large_list(kind) else pa.list_(element)


def stored(table: pa.Table, what: str) -> pa.Table:
    """The table with the types that it is kept with, without metadata.

    Raises DataError, naming the column, for a type that cannot be kept, a value that would be lost, or two
    columns of one name. ``what`` names the table, e.g. "Seed samples".
    """
    names = table.column_names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{what} must have columns with names of their own; {twice} occur more than once.")
    columns = [_stored_column(table.column(k), name, what) for k, name in enumerate(names)]
    return pa.Table.from_arrays(columns, schema=pa.schema(zip(names, [c.type for c in columns], strict=True)))


def _stored_column(column: pa.ChunkedArray, name: str, what: str) -> pa.ChunkedArray:
    kind = stored_type(column.type)
    if kind is None:
        raise DataError(
            f"{what} must have columns of types that a run can keep; column {name!r} is {column.type}. "
            f"Make it {_remedy(column.type)}."
        )
    if str(kind) == str(column.type):  # equal types may have children of other names
        return column
    try:
        return pa.chunked_array([_cast(_decoded(chunk), kind) for chunk in column.chunks], kind)
    except pa.ArrowException as error:
        raise DataError(
            f"{what} must have columns of types that a run can keep; column {name!r} is {column.type} and "
            f"cannot become {kind} without loss: {error}. Cast it in the recipe's task."
        ) from error


def _cast(values: pa.Array, kind: pa.DataType) -> pa.Array:
    cast = values.cast(kind)
    try:
        cast.validate()
    except pa.ArrowInvalid:  # Arrow loses the nulls in a list of the type null, e.g. [[None], [None, None]]
        return pa.array(values.to_pylist(), kind)
    return cast


def _decoded(values: pa.Array) -> pa.Array:
    """Categories and runs as their values."""
    while types.is_dictionary(values.type) or types.is_run_end_encoded(values.type):
        is_dictionary = types.is_dictionary(values.type)
        values = values.dictionary_decode() if is_dictionary else pc.run_end_decode(values)
    return values


def _remedy(kind: pa.DataType) -> str:
    """A type that will do in place of one that cannot be kept."""
    if isinstance(kind, pa.BaseExtensionType):
        inner = stored_type(kind.storage_type)
        return f"its storage, {inner}" if inner is not None else _remedy(kind.storage_type)
    if types.is_map(kind):
        pair = stored_type(pa.struct([("key", kind.key_type), ("value", kind.item_type)]))
        return f"list<element: {pair or 'struct<key: string, value: string>'}>"
    if _is_of(kind, _LIST_VIEWS):
        return f"list<element: {stored_type(kind.value_type) or 'string'}>"
    if types.is_union(kind):
        return "a struct with a field for each of its types, or JSON in a string"
    if types.is_interval(kind):
        return "a duration, or a struct of integers"
    return "a list, a struct with at least one field, or JSON in a string"


def matched(table: pa.Table, wanted: Mapping[str, pa.DataType], what: str) -> pa.Table:
    """The table, its columns cast to the types ``wanted`` of them where nothing is lost.

    Python's lists tell no type where a column has only nulls, empty lists or whole numbers. Raises DataError
    that names the column and, by ``what``, the chunk.
    """
    for position, name in enumerate(table.column_names):
        kind = wanted.get(name)
        if kind is not None and str(kind) != str(table.schema.field(position).type):
            column = _matched_column(table.column(position), kind, name, what)
            table = table.set_column(position, pa.field(name, kind), column)
    return table


def _matched_column(column: pa.ChunkedArray, kind: pa.DataType, name: str, what: str) -> pa.ChunkedArray:
    def refusal(why: object) -> DataError:
        return DataError(
            f"A column must have one type in the seed samples and in every chunk: {name!r} is {kind}, and in "
            f"{what} {column.type}{why}. Give it one type in generate(), e.g. by pa.array(values, TYPE)."
        )

    if not _is_alike(column.type, kind):
        raise refusal("")
    try:
        cast = column.cast(kind)
        known = _without_null(column.type, kind)
        is_same = cast.cast(known).equals(column.cast(known))
    except pa.ArrowException as error:
        raise refusal(f", which does not fit: {error}") from error
    if not is_same:
        raise refusal(", of which something would be lost")
    return cast


def _is_alike(kind: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether values of one type can be values of the other, and mean the same."""
    if types.is_null(kind) or kind.equals(wanted):
        return True
    if types.is_struct(kind) and types.is_struct(wanted):
        theirs = {field.name: field.type for field in wanted}
        return all(field.name in theirs and _is_alike(field.type, theirs[field.name]) for field in kind)
    if _is_of(kind, _LISTS) and _is_of(wanted, _LISTS):
        return _is_alike(kind.value_type, wanted.value_type)
    if types.is_timestamp(kind) and types.is_timestamp(wanted):
        return bool(kind.tz == wanted.tz)
    return any(_is_of(kind, family) and _is_of(wanted, family) for family in _FAMILIES)


def _is_of(kind: pa.DataType, family: Iterable[Callable[[pa.DataType], bool]]) -> bool:
    return any(is_one(kind) for is_one in family)


_LISTS = (types.is_list, types.is_large_list, types.is_fixed_size_list)
_LIST_VIEWS = (types.is_list_view, types.is_large_list_view)
_FAMILIES = (
    (types.is_integer, types.is_floating),
    (types.is_string, types.is_large_string),
    (types.is_binary, types.is_large_binary, types.is_fixed_size_binary),
    (types.is_decimal,),
    (types.is_time,),
    (types.is_duration,),
)


def _without_null(kind: pa.DataType, wanted: pa.DataType) -> pa.DataType:
    """The type, with that of ``wanted`` wherever it has none of its own."""
    if types.is_null(kind):
        return wanted
    if types.is_struct(kind):
        theirs = {field.name: field.type for field in wanted}
        return pa.struct([(field.name, _without_null(field.type, theirs[field.name])) for field in kind])
    if types.is_fixed_size_list(kind):
        return pa.list_(_without_null(kind.value_type, wanted.value_type), kind.list_size)
    if types.is_nested(kind):
        inner = _without_null(kind.value_type, wanted.value_type)
        return pa.large_list(inner) if types.is_large_list(kind) else pa.list_(inner)
    return kind


def is_known(kind: pa.DataType) -> bool:
    """Whether a type says what its values are: nowhere in it is there a null type."""
    return not types.is_null(kind) and all(is_known(kind.field(k).type) for k in range(kind.num_fields))
