"""``query RUN "SQL"``: one SELECT over the views of a run, in the ``sandbox``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.errors import RunError
from flywheel.lineage.record import Record
from flywheel.lineage.sandbox import sandbox
from flywheel.lineage.views import VIEWS
from flywheel.storage.reader import reread_when_pruned

if TYPE_CHECKING:
    import pyarrow as pa


@reread_when_pruned
def query(directory: Path, sql: str) -> pa.Table:
    """The answer to one SELECT over the run's views.

    Raises RunError, with the tables and columns there are, if the SQL is not one that can be answered, and
    MissingExtra without DuckDB.
    """
    record = Record.read(directory)
    # Samples can be large: only what the SQL may mean is read, so a name in a comment costs time, no more.
    views = {name: make(record) for name, make in VIEWS.items() if re.search(rf"(?i)\b{name}\b", sql)}
    with sandbox(views) as database:
        import duckdb

        try:
            _require_one_select(database.extract_statements(sql))
            answer = database.sql(sql).to_arrow_table()
        except duckdb.Error as error:
            raise RunError(f"{_first_lines(error)}\n\n{_schema_text(record, views)}") from error
    return answer.rename_columns(_unique(answer.column_names))


def _require_one_select(statements: list[Any]) -> None:
    import duckdb

    answers = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
    kinds = [statement.type for statement in statements]
    if len(kinds) != 1 or kinds[0] not in answers:
        names = ", ".join(str(kind).rpartition(".")[2] for kind in kinds) or "nothing"
        raise RunError(f"Expected one SELECT, as a run is only read, got {names}.")


def _unique(names: list[str]) -> list[str]:
    """Names told apart, as a row becomes a mapping: x, x_1."""
    unique: list[str] = []
    for name in names:
        tries = (name, *(f"{name}_{k}" for k in range(1, len(names) + 1)))
        unique.append(next(one for one in tries if one not in unique))
    return unique


def _first_lines(error: Exception) -> str:
    return re.sub(r"\nDid you mean \"(pg|sqlite|duckdb)_\w+\"\?", "", str(error)).strip()


def _schema_text(record: Record, views: Mapping[str, pa.Table]) -> str:
    """The tables there are, and the columns of those that the SQL names; all if it names none."""
    named = views or {name: make(record) for name, make in VIEWS.items()}
    lines = [f"  {name}: {', '.join(table.column_names)}" for name, table in named.items()]
    others = [name for name in VIEWS if name not in named]
    return "\n".join(
        ["Tables and their columns:", *lines, *(["  also: " + ", ".join(others)] if others else [])]
    )
