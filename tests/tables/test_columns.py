from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.errors import DataError
from flywheel.tables import (
    PROVENANCE,
    as_table,
    require,
    require_finite,
    require_same_rows,
    sample_ids,
    with_provenance,
)

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x1f\0"), max_size=4)
ROWS = st.lists(st.tuples(WORDS, st.integers(-3, 3), st.booleans()), min_size=1, max_size=5)
HUMAN = {"origin": "human", "made_in": 0, "source": "recipe", "key": 0}
OWN = ("prompt", "group", "source")
MADE = {"origin": "generated", "made_in": 3, "made_by": "w" * 8, "key": 2**62}


def ids(**columns: Any) -> list[str]:
    return sample_ids(pa.table(columns)).to_pylist()


def columns_of(rows: list[tuple[Any, ...]]) -> pa.Table:
    text, number, flag = (list(column) for column in zip(*rows, strict=True))
    return pa.table({"text": text, "number": number, "flag": flag})


def id_of(**values: Any) -> str:
    return ids(**{name: [value] for name, value in values.items()})[0]


@given(ROWS)
def test_every_row_of_a_batch_has_an_id_of_its_own(rows: list[tuple[Any, ...]]) -> None:
    assert len(set(sample_ids(columns_of(rows)).to_pylist())) == len(rows)


@given(st.lists(st.tuples(WORDS, st.integers(-3, 3), st.booleans()), min_size=1, max_size=5, unique=True))
def test_the_order_of_columns_and_the_row_number_do_not_matter(rows: list[tuple[Any, ...]]) -> None:
    table = columns_of(rows)
    backwards = table.select(table.column_names[::-1]).take(list(range(len(rows)))[::-1])
    assert sample_ids(backwards).to_pylist() == sample_ids(table).to_pylist()[::-1]


@pytest.mark.parametrize(
    ("column", "value"),
    [("origin", "human"), ("made_in", 4), ("made_by", "x"), ("prompt", "q"), ("label", 8), ("key", 1)],
)
def test_each_column_is_in_the_id(column: str, value: Any) -> None:
    row = {"origin": "generated", "made_in": 3, "made_by": "w", "prompt": "p", "label": 7, "key": 0}
    assert len(bytes.fromhex(id_of(**row))) == 16
    assert id_of(**row) != id_of(**row | {column: value})


@pytest.mark.parametrize(
    "kind", [pa.float16(), pa.float32(), pa.float64(), pa.list_(pa.float64(), 1)], ids=str
)
def test_floats_are_not_in_the_id(kind: pa.DataType) -> None:
    value = [0.1] if pa.types.is_nested(kind) else np.float16(0.1)
    assert ids(prompt=["p"], probability=pa.array([value], kind)) == ids(prompt=["p"])


def test_the_type_of_text_does_not_change_the_id() -> None:
    large = ids(prompt=pa.array(["p"], pa.large_string()))
    assert large == ids(prompt=pa.array(["p"]))


def test_values_with_the_separator_do_not_collide() -> None:
    assert id_of(a="x\x1fy", b="z") != id_of(a="x", b="y\x1fz")


def test_provenance_comes_first_and_is_complete() -> None:
    table = with_provenance(pa.table({"label": [1, 0], "prompt": ["a", "b"]}), own=OWN, **MADE)
    assert table.column_names == [*PROVENANCE.names, "label"]
    assert table.select(PROVENANCE.names).schema.equals(PROVENANCE)
    assert table["origin"].to_pylist() == ["generated"] * 2
    assert table["made_by"].to_pylist() == ["w" * 8] * 2
    assert table["source"].to_pylist() == [None] * 2, "only human rows have a source"
    assert table["key"].to_pylist() == [2**62] * 2
    assert table["group"].to_pylist() == ["a", "b"]


def test_people_may_say_where_their_rows_come_from_and_how_they_are_grouped() -> None:
    payload = pa.table({"prompt": ["a", "b"], "source": ["book", "web"], "group": ["g", "g"]})
    table = with_provenance(payload, own=OWN, **HUMAN)
    assert table["source"].to_pylist() == ["book", "web"]
    assert table["made_by"].to_pylist() == [None] * 2, "no weights made it"
    assert table["group"].to_pylist() == ["g", "g"]


@pytest.mark.parametrize(
    ("column", "claim"),
    [("origin", "human"), ("source", "a book"), ("made_in", 0), ("made_by", "w"), ("key", 0), ("id", "mine")],
)
def test_a_generated_row_cannot_say_that_it_is_another(column: str, claim: Any) -> None:
    """Law 4: what a model made says so, for ever, whatever a task hands through."""
    payload = pa.table({"prompt": ["a"], column: [claim]})
    with pytest.raises(DataError, match=rf"payload must not have \['{column}'\]"):
        with_provenance(payload, own=("prompt", "group"), **MADE)


def test_samples_without_a_prompt_are_refused_by_name() -> None:
    with pytest.raises(DataError, match="prompt"):
        with_provenance(pa.table({"label": [1]}), own=OWN, **MADE)


@pytest.mark.parametrize("make", [pa.table, dict, pa.RecordBatch.from_pydict])
def test_a_recipe_may_return_columns_batches_or_tables(make: Any) -> None:
    assert as_table(make({"a": [1, 2]})).to_pydict() == {"a": [1, 2]}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"thing": ["a"]}, r"Items must have a column 'item'; they have \['thing'\]"),
        ({"item": pa.array([], pa.string())}, "Items must have at least one row; they have none"),
        ({"item": ["a", None, "b"]}, "Items must have a 'item' each; 1 of them are null"),
        ({"item": [3, 2, 1, 2]}, "Items must have unique values of 'item'; '2' occurs more than once"),
        ({"item": ["a"], "x": [float("nan")]}, "Items must have finite numbers; 1 values of column 'x'"),
        ({"item": [b"\xff", b"a"]}, "Items must have text in column 'item'; it is binary"),
        ({"item": [{"a": 1}, {"a": 2}]}, "Items must have text in column 'item'; it is struct"),
        ({"item": [["a"], ["b"]]}, "Items must have text in column 'item'; it is list"),
    ],
)
def test_what_is_required_is_told(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        require(pa.table(columns), "Items", unique="item")


BAD = {
    "nan": [1.0, float("nan"), 2.0],
    "infinite": [float("inf"), 1.0, 2.0],
    "null": [None, 1.0, 2.0],
    "float32": pa.array([1.0, float("-inf"), 2.0], pa.float32()),
    "list": [[1.0, float("nan")], [], [2.0]],
    "list of lists": [[[1.0], [float("nan")]], [], [[2.0]]],
    "null in a list": [[1.0, None], [], [2.0]],
    "fixed list": pa.array([[1.0, float("inf")], [0.0, 0.0], [0.0, 0.0]], pa.list_(pa.float32(), 2)),
    "large list": pa.array([[1.0, float("nan")], [], [2.0]], pa.large_list(pa.float64())),
    "struct": [{"x": float("nan")}, {"x": 1.0}, {"x": 1.0}],
}


@pytest.mark.parametrize("kind", BAD)
def test_a_number_that_is_not_finite_is_found_and_its_column_named(kind: str) -> None:
    table = pa.table({"id": ["a", "b", "c"], "fine": [1.0, 2.0, 3.0], "value": BAD[kind]})
    with pytest.raises(DataError, match="Samples must have finite numbers; 1 values of column 'value'"):
        require_finite(table, "Samples")


@pytest.mark.parametrize(
    "values",
    [[1, None, 3], ["a", None, "c"], [[1.0], [], [2.0, 3.0]], [True, None, False], [0.0, -0.0, 1e308]],
)
def test_what_is_finite_passes(values: list[Any]) -> None:
    table = pa.table({"value": values})
    assert require_finite(table, "Samples") is table
    chunked = pa.concat_tables([table, table.slice(1)])
    assert require_finite(chunked, "Samples") is chunked
    assert require_finite(table.slice(3), "Samples").num_rows == 0


def test_rows_are_answered_one_by_one_in_order() -> None:
    ids = pa.chunked_array([["a", "b"]])
    require_same_rows(ids, pa.chunked_array([["a"], ["b"]]), "Scores")
    for wrong in (["b", "a"], ["a"], ["a", "b", "c"]):
        with pytest.raises(DataError, match="Scores must answer row for row"):
            require_same_rows(pa.chunked_array([wrong]), ids, "Scores")


def test_a_chunk_that_made_no_rows_can_be_joined_to_the_others() -> None:
    some = with_provenance(pa.table({"prompt": ["a"]}), own=OWN, **MADE)
    none = with_provenance(pa.table({"prompt": pa.array([], pa.string())}), own=OWN, **MADE)
    assert pa.concat_tables([some, none]).equals(some)


NO_COLUMNS = {
    "list of dicts": ([{"a": 1}], "a mapping of columns; they are a list"),
    "none": (None, "they are a NoneType"),
    "lengths": ({"a": [1], "b": [1, 2]}, r"one length; theirs are {'a': 1, 'b': 2}"),
    "scalar": ({"a": 1}, "'a' is none"),
    "object": ({"b": [0], "a": [object()]}, "'a' is none"),
    "mixed": ({"a": [1, "x"]}, "'a' is none"),
    "too large": ({"a": [2**64]}, "'a' is none"),
    "half a character": ({"a": ["\ud800"]}, "'a' is none"),
    "two dimensions": ({"a": np.zeros((2, 2))}, "NumPy array of one dimension.*; 'a' is none"),
    "complex": ({"a": [1j]}, "'a' is none"),
    "a number as name": ({1: [1]}, "texts as names; 1 is a int"),
}


@pytest.mark.parametrize("kind", NO_COLUMNS)
def test_what_cannot_become_a_table_is_refused_by_column(kind: str) -> None:
    rows, message = NO_COLUMNS[kind]
    with pytest.raises(DataError, match=message):
        as_table(rows)
