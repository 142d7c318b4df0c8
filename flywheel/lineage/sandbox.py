"""The one place where SQL of a user runs: DuckDB over Arrow tables, which reads them and nothing else.

The database is in memory and holds views of those tables only. Files, network, extensions, Python's
variables and spilling to disk are switched off, and the configuration is locked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from flywheel.errors import MissingExtra

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_LOCKED_DOWN: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
    "temp_directory": "",
}


@contextmanager
def sandbox(tables: Mapping[str, pa.Table]) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database of these tables. Raises MissingExtra without DuckDB."""
    try:
        import duckdb
    except ModuleNotFoundError as error:
        raise MissingExtra("DuckDB", "query") from error
    with duckdb.connect(":memory:", config=_LOCKED_DOWN) as database:
        for name, table in tables.items():
            database.register(name, table)
        database.execute("SET lock_configuration = true")
        yield database
