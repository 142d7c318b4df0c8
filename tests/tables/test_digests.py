"""Texts of rows, digests over them, and what differs between tables that should be the same."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.errors import DataError
from flywheel.tables import sample_ids
from flywheel.tables.digests import (
    difference,
    joined_texts,
    row_texts,
    sketch,
    sketch_difference,
    table_digest,
)
from flywheel.tables.types import stored
from tests.support.arrow_tables import TABLES

WORDS = st.text(st.sampled_from("a1:-\\\x1f\0ü"), max_size=3)
NESTED = st.recursive(
    st.just(pa.string()),
    lambda inner: st.one_of(
        st.builds(pa.list_, inner),
        st.builds(lambda a, b: pa.struct([("x", a), ("w", b)]), inner, st.just(pa.int64())),
    ),
    max_leaves=4,
)


def of_kind(kind: pa.DataType) -> st.SearchStrategy[Any]:
    """Python values of a type, or null."""
    if pa.types.is_list(kind):
        return st.none() | st.lists(of_kind(kind.value_type), max_size=2)
    if pa.types.is_struct(kind):
        return st.none() | st.fixed_dictionaries({field.name: of_kind(field.type) for field in kind})
    return st.none() | (WORDS if pa.types.is_string(kind) else st.integers(-2, 12))


COLUMNS = NESTED.flatmap(
    lambda kind: st.tuples(st.just(kind), st.lists(of_kind(kind), min_size=1, max_size=4))
)


def text_of(value: Any) -> str | None:
    """A value's text as docs/format.md has it, before a column's escapes."""
    if isinstance(value, dict):
        value = [value[name] for name in sorted(value)]
    if isinstance(value, list):
        texts = [text_of(inner) for inner in value]
        return "".join("-" if text is None else f"{len(text.encode())}:{text}" for text in texts)
    return None if value is None else str(value)


def escaped(text: str | None) -> str:
    return "\\0" if text is None else text.replace("\\", "\\\\").replace("\x1f", "\\u")


@given(COLUMNS)
def test_nested_values_have_the_texts_of_the_format_and_other_texts_if_they_differ(
    column: tuple[pa.DataType, list[Any]],
) -> None:
    kind, rows = column
    texts = row_texts(pa.table({"a": pa.array(rows, kind)})).to_pylist()
    assert texts == [escaped(text_of(row)) for row in rows]
    for one, text in zip(rows, texts, strict=True):
        assert [text == other for other in texts] == [one == other for other in rows]


@given(TABLES, st.integers(0, 4))
def test_neither_chunks_nor_slices_change_texts_ids_and_digests(table: pa.Table, cut: int) -> None:
    try:
        table = stored(table, "Rows")
    except DataError:
        return
    pieces = pa.concat_tables([table.slice(0, cut), table.slice(cut)])
    for one in (pieces, pa.concat_tables([table, table]).slice(len(table))):
        assert row_texts(one) == row_texts(table)
        assert sample_ids(one) == sample_ids(table)
        assert table_digest(one) == table_digest(table)
        assert difference(one, table) is None
        assert sketch(one) == sketch(table)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (pa.array([b"\0\xff", None, b""]), ["00ff", "\\0", ""]),
        (pa.array([b"ab", None, b"cd"], pa.binary(2)), ["6162", "\\0", "6364"]),
        (pa.array([1, None], pa.timestamp("ms", "No/Where")), ["1970-01-01 00:00:00.001", "\\0"]),
        (pa.array([True, None]), ["true", "\\0"]),
        (pa.array([[1, None], [], None], pa.list_(pa.int8())), ["1:1-", "", "\\0"]),
        (pa.array([[1, 2], None], pa.list_(pa.int8(), 2)), ["1:11:2", "\\0"]),
        (pa.array([[1_000_000_001]], pa.list_(pa.timestamp("ns"))), ["29:1970-01-01 00:00:01.000000001"]),
    ],
    ids=str,
)
def test_texts(values: pa.Array, text: list[str]) -> None:
    assert row_texts(pa.table({"a": values})).to_pylist() == text


def test_floats_are_the_integers_of_their_bits() -> None:
    numbers = [0.1, -0.0, 1e300]
    wanted = [str(struct.unpack("<q", struct.pack("<d", number))[0]) for number in numbers]
    assert joined_texts(pa.table({"a": numbers})).to_pylist() == wanted
    assert row_texts(pa.table({"a": numbers, "b": [1, 2, 3]})).to_pylist() == ["1", "2", "3"]


def test_a_digest_is_of_the_rows_in_order() -> None:
    columns = (["x", "y"], ["y", "x"], ["x"], ["xy"], ["x", "y", "y"], ["x\ny"], [])
    digests = {table_digest(pa.table({"a": pa.array(rows, pa.string())})) for rows in columns}
    assert len(digests) == len(columns)
    assert {len(bytes.fromhex(digest)) for digest in digests} == {32}


def test_a_digest_has_the_floats_to_the_bit() -> None:
    """A corpus drawn with weight 1 is not the one drawn with weight 1000."""
    weights = (1.0, 1000.0, 1.0 + 2**-52)
    assert len({table_digest(pa.table({"id": ["a"], "weight": [w]})) for w in weights}) == 3
    points = [pa.array([[0.5, x]], pa.list_(pa.float32(), 2)) for x in (0.5, 0.25)]
    assert len({table_digest(pa.table({"point": column})) for column in points}) == 2


LABELS = [{"tag": "a", "p": [0.5]}, {"tag": "b", "p": []}, {"tag": None, "p": [0.25, 1.0]}]


def rows(scale: float = 1.0, **changes: Any) -> pa.Table:
    points = (np.arange(6, dtype=np.float32) * scale).astype(np.float32)
    columns = {"id": ["x", "y", "z"], "label": [1, 2, 3], "about": LABELS, **changes}
    return pa.table(columns | {"point": pa.FixedSizeListArray.from_arrays(points, 2)})


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (rows(1.01), "column 'point' differs in 3 of 3 rows, first in row 0"),
        (rows(label=[1, 2, 4]), "column 'label' differs in 1 of 3 rows, first in row 2"),
        (rows(label=[1, None, 3]), "column 'label' differs in 1 of 3 rows, first in row 1"),
        (rows(about=[*LABELS[:2], {"tag": None, "p": [0.25, 1.1]}]), "column 'about' differs in 1 of 3 rows"),
        (rows(about=[*LABELS[:2], {"tag": None, "p": [0.25]}]), "column 'about' differs in 1 of 3 rows"),
        (rows(about=[*LABELS[:2], {"tag": "c", "p": [0.25, 1.0]}]), "column 'about' differs in 1 of 3 rows"),
        (rows(label=["1", "2", "3"]), "column 'label': int64 there, string now"),
        (rows().drop_columns("label"), "column 'label': int64 there, absent now"),
        (rows().slice(1), "3 rows there, 2 now"),
    ],
)
def test_what_differs_is_told(changed: pa.Table, reason: str) -> None:
    assert (difference(rows(), changed) or "").startswith(reason)
    assert sketch_difference(sketch(rows()), sketch(changed)) is not None


def test_the_last_bits_of_floats_do_not_count() -> None:
    assert difference(rows(), rows(1 + 3e-7)) is None
    assert sketch_difference(sketch(rows()), sketch(rows(1 + 3e-7))) is None
    assert table_digest(rows()) != table_digest(rows(1 + 3e-7))


@given(st.integers(0, 9_999), st.sampled_from([0.0, 0.9, 1.1, -1.0, None]))
def test_one_float_of_ten_thousand_is_noticed_and_two_that_changed_places(
    place: int, factor: float | None
) -> None:
    numbers = np.random.default_rng(0).normal(size=10_000)
    numbers[place] = 1.0
    changed = numbers.copy()
    changed[[place, place - 1]] = (
        numbers[[place - 1, place]] if factor is None else [factor, numbers[place - 1]]
    )
    reason = sketch_difference(*(sketch(pa.table({"x": column})) for column in (numbers, changed)))
    assert reason == "other floats in column 'x'"
