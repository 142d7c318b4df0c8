"""Of every Arrow type: kept, in the form that Parquet gives back, or refused by name."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given

from flywheel.errors import DataError
from flywheel.storage.store import Store
from flywheel.tables.types import matched, stored
from tests.support.arrow_tables import TABLES

LABELS = ["x", None, "y", "x"]
CONVERTED = {
    "seconds": (pa.array([1, None], pa.timestamp("s", "Europe/Berlin")), "timestamp[ms, tz=Europe/Berlin]"),
    "time": (pa.array([dt.time(1), None], pa.time32("s")), "time32[ms]"),
    "date": (pa.array([dt.date(2020, 1, 1), None], pa.date64()), "date32[day]"),
    "list": (pa.array([[1], None, []]), "list<element: int64>"),
    "points": (pa.array([[1, 2], None], pa.list_(pa.int8(), 2)), "fixed_size_list<element: int8>[2]"),
    "not null": (pa.array([[1]], pa.list_(pa.field("x", pa.int8(), nullable=False))), "list<element: int8>"),
    "text view": (pa.array(["a", None], pa.string_view()), "string"),
    "bytes view": (pa.array([b"a", None], pa.binary_view()), "binary"),
    "categories": (pa.array(LABELS).dictionary_encode(), "string"),
    "integer categories": (pa.array([3, None, 3]).dictionary_encode(), "int64"),
    "categories of lists": (
        pa.DictionaryArray.from_arrays(pa.array([0, None, 0]), pa.array([[1]])),
        "list<element: int64>",
    ),
    "runs": (pa.RunEndEncodedArray.from_arrays([2, 3], pa.array(["a", None])), "string"),
    "inside": (
        pa.array(
            [{"when": [dt.datetime(2020, 1, 1)]}, None], pa.struct([("when", pa.list_(pa.timestamp("s")))])
        ),
        "struct<when: list<element: timestamp[ms]>>",
    ),
}
REFUSED = {
    "map": (pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())), "list<element: struct<key: string"),
    "tensor": (
        pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((2, 2, 2), np.float32)),
        r"its storage, fixed_size_list<element: float>\[4\]",
    ),
    "list view": (pa.array([[1], None], pa.list_view(pa.int64())), "list<element: int64>"),
    "uuid": (pa.array([b"0" * 16], pa.uuid()), r"its storage, fixed_size_binary\[16\]"),
    "no field": (pa.array([{}]), "a struct with at least one field"),
    "union": (
        pa.UnionArray.from_dense(
            pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1]), pa.array(["a"])]
        ),
        "a struct with a field for each",
    ),
    "interval": (pa.array([(1, 2, 3)], pa.month_day_nano_interval()), "a duration"),
    "a tensor in a list": (
        pa.ListArray.from_arrays([0, 1], pa.array([b"0" * 16], pa.uuid())),
        "a list, a struct",
    ),
}
LOST = {
    "date": pa.array([86_400_001], pa.int64()).view(pa.date64()),
    "seconds": pa.array([2**62], pa.timestamp("s")),
}


@given(TABLES)
def test_a_table_that_is_kept_is_read_back_as_it_is(tmp_path_factory: Any, table: pa.Table) -> None:
    try:
        kept = stored(table, "Rows")
    except DataError:
        return
    store = Store(tmp_path_factory.getbasetemp() / "tables")
    again = store.table(store.put_table(kept))
    assert str(again.schema) == str(kept.schema)
    assert again.equals(kept)
    assert stored(kept, "Rows").equals(kept)


@pytest.mark.parametrize("kind", CONVERTED)
def test_what_parquet_does_not_give_back_is_converted_and_keeps_its_values(kind: str) -> None:
    column, name = CONVERTED[kind]
    table = stored(pa.table({"a": column}), "Rows")
    assert str(table.schema.field("a").type) == name
    assert table["a"].to_pylist() == column.to_pylist()


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_kept_is_refused_with_a_type_that_will_do(kind: str) -> None:
    column, remedy = REFUSED[kind]
    with pytest.raises(DataError, match=rf"Seed samples must .*; column 'notes' is .*\. Make it .*{remedy}"):
        stored(pa.table({"notes": column}), "Seed samples")


@pytest.mark.parametrize("kind", LOST)
def test_a_value_that_would_be_lost_is_refused(kind: str) -> None:
    with pytest.raises(DataError, match=r"column 'when' is .* and cannot become .* without loss"):
        stored(pa.table({"when": LOST[kind]}), "Rows")


def test_two_columns_of_one_name_are_refused() -> None:
    with pytest.raises(DataError, match=r"names of their own; \['a'\] occur more than once"):
        stored(pa.table([pa.array([1]), pa.array([2])], ["a", "a"]), "Rows")


def test_metadata_of_other_libraries_is_left_out() -> None:
    """pandas writes its version there: the same rows would be another artifact."""
    table = pa.table({"a": [1]}).replace_schema_metadata({"pandas": "2.0"})
    assert stored(table, "Rows").schema.metadata is None


FITS = {
    "nulls": (pa.nulls(2), pa.list_(pa.string())),
    "empty lists": (pa.array([[], None]), pa.list_(pa.struct([("a", pa.string())]))),
    "whole numbers": (pa.array([1, 2]), pa.float64()),
    "floats that are whole": (pa.array([1.0, 2.0]), pa.int32()),
    "floats of a float32": (pa.array([0.5, 0.25]), pa.float32()),
    "smaller integers": (pa.array([1, None], pa.int8()), pa.int64()),
    "a list of so many": (pa.array([[1.0, 2.0], None]), pa.list_(pa.float32(), 2)),
    "a struct that lacks a field": (
        pa.array([{"a": 1}, None]),
        pa.struct([("a", pa.int64()), ("b", pa.int8())]),
    ),
    "long text": (pa.array(["a"], pa.large_string()), pa.string()),
    "finer time": (pa.array([1000, None], pa.timestamp("us")), pa.timestamp("ms")),
}
MISFITS = {
    "a fraction": (pa.array([0.5]), pa.int64()),
    "more digits": (pa.array([0.1]), pa.float32()),
    "too large": (pa.array([300]), pa.int8()),
    "text for a number": (pa.array(["12"]), pa.int64()),
    "a number for text": (pa.array([12]), pa.string()),
    "a flag for a number": (pa.array([True]), pa.int64()),
    "a list of another length": (pa.array([[1, 2, 3]]), pa.list_(pa.int64(), 2)),
    "another field": (pa.array([{"b": 1}]), pa.struct([("a", pa.int64())])),
    "another zone": (pa.array([1], pa.timestamp("ms", "UTC")), pa.timestamp("ms")),
    "finer time": (pa.array([1], pa.timestamp("us")), pa.timestamp("ms")),
    "a value where all were null": (pa.array(["a"]), pa.null()),
}


@pytest.mark.parametrize("kind", FITS)
def test_a_chunk_takes_the_type_of_the_others_where_nothing_is_lost(kind: str) -> None:
    column, wanted = FITS[kind]
    table = matched(pa.table({"other": column, "a": column}), {"a": wanted}, "chunk 3")
    assert table.schema.field("a").type == wanted
    lacking = {} if kind != "a struct that lacks a field" else {"b": None}
    expected = [value | lacking if isinstance(value, dict) else value for value in column.to_pylist()]
    assert table["a"].to_pylist() == expected
    assert table["other"].type == column.type


@pytest.mark.parametrize("kind", MISFITS)
def test_what_does_not_fit_is_refused_by_column_and_chunk(kind: str) -> None:
    column, wanted = MISFITS[kind]
    with pytest.raises(DataError, match=r"'a' is .*, and in chunk 3"):
        matched(pa.table({"a": column}), {"a": wanted}, "chunk 3")


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.null()), pa.large_list(pa.null()), pa.list_(pa.list_(pa.null()))]
)
def test_lists_of_nothing_but_nulls_are_kept(kind: pa.DataType) -> None:
    inner: list[object] = [None, None] if not pa.types.is_list(kind.value_type) else [[None], [None, None]]
    rows = [inner, [], None, inner]
    assert stored(pa.table({"c": pa.array(rows, kind)}), "Rows")["c"].to_pylist() == rows
