"""Items to evaluate on from a user's own file."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from flywheel.errors import DataError
from flywheel.tables import require


def read_items(path: str | Path, like: pa.Schema) -> pa.Table:
    """Items from a .csv, .jsonl or .parquet file, with the column types of a suite's items.

    A column ``item`` is added where there is none. Raises DataError if the file cannot be used.
    """
    try:
        table = _read(Path(path), like)
        known = {field.name: field.type for field in like}
        for position, name in enumerate(table.column_names):
            if name in known:
                table = table.set_column(position, name, table[name].cast(known[name]))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"Items must be readable from {path}: {error}.") from error
    if "item" not in table.column_names:
        table = table.add_column(0, "item", pa.array([str(row) for row in range(len(table))], pa.string()))
    return require(table, f"The items of {path}", unique="item")


def _read(path: Path, like: pa.Schema) -> pa.Table:
    if path.suffix == ".csv":
        from pyarrow import csv

        kinds = {field.name: field.type for field in like if not pa.types.is_nested(field.type)}
        return csv.read_csv(path, convert_options=csv.ConvertOptions(column_types=kinds))
    if path.suffix in (".jsonl", ".ndjson", ".json"):
        from pyarrow import json

        return json.read_json(path)
    if path.suffix == ".parquet":
        from pyarrow import parquet

        return parquet.read_table(path)
    raise DataError(f"Items must be in a .csv, .jsonl or .parquet file; {str(path)!r} is none.")
