"""Items of a user's own, in whatever they come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import flywheel
from flywheel.errors import DataError
from flywheel.tables.items import as_items

LIKE = pa.schema([("item", pa.string()), ("point", pa.list_(pa.float32(), 2)), ("label", pa.int64())])
ROWS = [{"item": "a", "point": [0.5, 1.5], "label": 1}, {"item": "b", "point": [2.0, -1.0], "label": 0}]
EXPECTED = pa.Table.from_pylist(ROWS, LIKE)
COLUMNS = {name: [row[name] for row in ROWS] for name in LIKE.names}


@pytest.mark.parametrize(
    "items",
    [
        ROWS,
        tuple(ROWS),
        COLUMNS,
        COLUMNS | {"label": np.array([1, 0], np.int8)},
        COLUMNS | {"label": pa.array([1, 0], pa.int16())},
        pd.DataFrame(COLUMNS),
        pd.DataFrame(COLUMNS, index=[7, 9]),
        EXPECTED,
        EXPECTED.to_batches()[0],
    ],
    ids=lambda items: type(items).__name__,
)
def test_items_have_the_suites_types_whatever_they_come_in(items: Any) -> None:
    assert as_items(items, LIKE).equals(EXPECTED)


def test_rows_without_a_name_are_numbered() -> None:
    rows = [{"point": [0.0, 0.0], "label": 1, "more": "x"}, {"point": [0.0, 0.0], "label": 1}]
    assert as_items(rows, LIKE)["item"].to_pylist() == ["0", "1"]
    assert as_items(rows, LIKE)["more"].to_pylist() == ["x", None]


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        ([{"item": "a"}, {"item": "a"}], "unique values of 'item'"),
        ([], "at least one row"),
        ([{"item": "a", "point": "far"}], "must be rows with the columns that suites have"),
        ([{"item": "a", "point": [1.0]}], "must be rows with the columns that suites have"),
        ([1, 2], "must be rows with the columns that suites have"),
        (3, "must be rows with the columns that suites have"),
    ],
)
def test_what_cannot_be_items_is_refused(items: Any, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        as_items(items, LIKE)


def test_a_champion_scores_dicts_frames_and_tables_alike(finished_run: Path) -> None:
    from flywheel.testing import CONFIG_DIR

    champion = flywheel.open_run(finished_run, CONFIG_DIR).champion()
    table = champion.task().suites()[1].items.slice(0, 20)
    scores = [champion.evaluate(items)["score"] for items in (table, table.to_pylist(), table.to_pandas())]
    assert scores[0].equals(scores[1])
    assert scores[0].equals(scores[2])
