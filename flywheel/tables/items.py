"""Items to evaluate on from a user's own file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from flywheel.errors import DataError
from flywheel.tables import as_table, require
from flywheel.tables.types import stored


def read_items(path: str | Path, like: pa.Schema) -> pa.Table:
    """Items from a .csv, .jsonl or .parquet file; see ``as_items``."""
    try:
        table = read_table(Path(path), like)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"Items must be readable from {path}: {error}.") from error
    return as_items(table, like, f"The items of {path}")


def as_items(items: Any, like: pa.Schema, what: str = "The items") -> pa.Table:
    """Items with the column types of a suite's items, and a column ``item`` if they have none.

    ``items``: an Arrow table or record batch, a pandas DataFrame, a list of dicts (a row each), or a mapping
    from names to columns. ``like``: the suite's schema. Raises DataError if they cannot be used.
    """
    known = {field.name: field.type for field in like}
    try:
        table = stored(_table(items, known), what)
        for position, name in enumerate(table.column_names):
            if name in known:
                table = table.set_column(position, name, table[name].cast(known[name]))
    except (DataError, pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(f"{what} must be rows with the columns that suites have: {error}") from error
    if "item" not in table.column_names:
        table = table.add_column(0, "item", pa.array([str(row) for row in range(len(table))], pa.string()))
    return require(table, what, unique="item")


def _table(items: Any, known: Mapping[str, pa.DataType]) -> pa.Table:
    if isinstance(items, (list, tuple)):
        names = list(dict.fromkeys(name for row in items for name in row))
        return pa.table({n: _column([row.get(n) for row in items], known.get(n)) for n in names})
    if isinstance(items, Mapping):
        return pa.table({name: _column(column, known.get(name)) for name, column in items.items()})
    if hasattr(items, "iloc"):  # a DataFrame, without importing pandas to ask
        return pa.Table.from_pandas(items, preserve_index=False).replace_schema_metadata(None)
    return as_table(items)


def _column(values: Any, kind: pa.DataType | None) -> pa.Array:
    """Python values as the suite has them, e.g. ``[0.1, 0.2]`` as a list of two 32-bit floats."""
    return values if isinstance(values, (pa.Array, pa.ChunkedArray)) else pa.array(values, kind)


def read_table(path: Path, like: pa.Schema) -> pa.Table:
    """A file's rows; columns of a .csv have the types of ``like``. Raises DataError for other files."""
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
    raise DataError(f"Rows must be in a .csv, .jsonl or .parquet file; {str(path)!r} is none.")
