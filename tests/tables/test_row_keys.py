from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from flywheel.tables.row_keys import KeySet, repeated, row_keys


def test_rows_have_equal_keys_if_and_only_if_their_values_are_equal() -> None:
    texts = [
        "",
        "a",
        "b",
        "a" * 7,
        "a" * 8,
        "a" * 9,
        "a" * 64,
        "a" * 65,
        "a" * 200,
        "a" * 199 + "b",
        "é",
        None,
    ]
    texts += ["\x00", "\x00\x00", "a\x00"]
    pairs = [(one, two) for one in texts for two in texts]
    table = pa.table([pa.array(column, pa.string()) for column in zip(*pairs, strict=True)], ["one", "two"])
    keys = row_keys(table)
    assert keys.shape == (2, len(pairs))
    for half in keys:
        assert len(set(half.tolist())) == len(pairs)
    chunked = pa.concat_tables([table.slice(0, 5), table.slice(5)])
    assert (row_keys(chunked.slice(3)) == keys[:, 3:]).all()
    assert row_keys(table.slice(0, 0)).shape == (2, 0)


@pytest.mark.parametrize(
    "values",
    [
        [1, 2, -1, None],
        [0.5, -0.0, 0.0, None],
        [[1], [], [1, 1], None],
        [b"x", b"", b"xx", None],
        [True, False],
    ],
)
def test_values_of_any_type_are_told_apart(values: list[object]) -> None:
    table = pa.table({"value": pa.array(values + values)})
    keys = row_keys(table)
    assert len(set(keys[0].tolist())) == len(values)
    assert (keys[:, : len(values)] == keys[:, len(values) :]).all()


@pytest.mark.parametrize("spread", [2**60, 5, 1])
def test_a_key_set_knows_what_a_set_of_python_knows(spread: int) -> None:
    """With few different first halves, so that halves are alike and keys are not."""
    rng, known, expected = np.random.default_rng(0), KeySet(), set[tuple[int, ...]]()
    for _ in range(30):
        high, low = rng.integers(0, spread, 40), rng.integers(0, 60, 40)
        keys = np.stack([high, low]).astype(np.uint64)
        mask = []
        for key in map(tuple, keys.T.tolist()):
            mask.append(key not in expected)
            expected.add(key)
        assert known.add_new(keys).tolist() == mask
        if rng.random() < 0.3:  # as a later turn goes on
            runs, (stay, own) = list(known._given), known.settled()
            assert own.flags.c_contiguous
            known = KeySet([*runs[:stay], *([own] if own.size else [])])
            assert all(len(a.T) > len(b.T) for a, b in zip(known._given, known._given[1:], strict=False))
    assert sum(run.shape[1] for run in (*known._given, *known._added)) == len(expected)


def test_rows_without_any_value_repeat_nothing_and_absent_columns_are_null() -> None:
    rows = pa.table({"a": [None, None, "x", "x"], "b": [None, None, None, None]})
    known = KeySet()
    among = np.array([True, True, True, True])
    assert repeated(rows, ["a", "b"], among, known).tolist() == [False, False, False, True]
    assert repeated(pa.table({"a": ["x", "y"]}), ["a", "b"], among[:2], known).tolist() == [True, False]
    assert repeated(pa.table({"c": ["x", "y"]}), ["a", "b"], among[:2], known).tolist() == [False, False]
