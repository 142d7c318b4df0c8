from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from flywheel.errors import DataError
from flywheel.graders import Labels
from flywheel.keys import Key

ROWS = pa.table({"id": ["a", "b", "c"], "prompt": ["2+2", "2+3", "03"], "answer": [4, 6, 3]})


def grade(**arguments: Any) -> list[tuple[Any, Any]]:
    answer = Labels(**arguments).grade(ROWS, lambda: None, Key.root(0).each(["a", "b", "c"]))
    return list(zip(*(column.to_pylist() for column in answer.values()), strict=True))


def written(folder: Path, suffix: str, **columns: Any) -> str:
    path, rows = folder / f"labels{suffix}", pa.table(columns)
    if suffix == ".csv":
        csv.write_csv(rows, path)
    elif suffix == ".parquet":
        parquet.write_table(rows, path)
    else:
        import json

        path.write_text("".join(json.dumps(row) + "\n" for row in rows.to_pylist()))
    return str(path)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_label_is_found_by_id_or_by_columns(tmp_path: Path, suffix: str) -> None:
    labels = {"prompt": ["2+2", "03", "2+3"], "answer": [4, 3, 5], "label": [1, 0, 1]}
    path = written(tmp_path, suffix, id=["a", "c", "x"], **labels)
    none = f"no label in labels{suffix}"
    for by in (["id"], ["prompt", "answer"]):
        assert grade(path=path, by=by) == [(1.0, None), (None, none), (0.0, None)]


def test_words_are_labels_and_empty_ones_are_none(tmp_path: Path) -> None:
    path = written(tmp_path, ".csv", id=["a", "b", "c"], label=["Right", "no", None])
    assert [label for label, _ in grade(path=path)] == [1.0, 0.0, None]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": ["a"], "verdict": [1]}, "'label'"),
        ({"id": ["a"], "label": [7]}, "from 0 to 1"),
        ({"id": ["a"], "label": ["perhaps"]}, "'perhaps'"),
        ({"id": ["a", "a"], "label": [1, 0]}, "label a sample once"),
    ],
)
def test_a_file_that_cannot_be_labels_is_refused(
    tmp_path: Path, columns: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        grade(path=written(tmp_path, ".csv", **columns))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\.csv, \.jsonl or \.parquet"):
        grade(path=str(tmp_path / "none.csv"))
