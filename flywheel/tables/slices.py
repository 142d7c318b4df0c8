"""What a task's prompts may know of the model that answers them: its results on dev, by slice.

A task names the columns of items by which they are told apart (``slice_columns``); see
``flywheel.protocols.Task``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flywheel.errors import DataError
from flywheel.records import Role, Suite
from flywheel.tables.columns import as_text

COUNTS = ("items", "score")
"""Columns of the results beside those of the slices."""


def slice_columns(task: Any) -> tuple[str, ...]:
    """The columns that a task names; none: its prompts are shown no results. Raises DataError."""
    columns = getattr(task, "slice_columns", ())
    if isinstance(columns, str) or not all(isinstance(name, str) for name in columns):
        raise DataError(f"slice_columns must be names of columns, as ('digit',); it is {columns!r}.")
    if taken := [name for name in columns if name in COUNTS]:
        raise DataError(f"slice_columns must not be called {' or '.join(COUNTS)}; {taken[0]!r} is.")
    return tuple(columns)


def check_slices(task: Any, suites: Iterable[Suite]) -> None:
    """Raise DataError unless a dev suite has the columns that the task names."""
    columns, dev = slice_columns(task), [suite for suite in suites if suite.role == Role.DEV]
    if columns and not any(_has(suite, columns) for suite in dev):
        found = "; ".join(f"{suite.name} has {', '.join(suite.items.column_names)}" for suite in dev)
        raise DataError(
            f"slice_columns must be columns of a suite with role dev that is no duel; {list(columns)} are "
            f"not: {found or 'there is none'}. Give the items these columns, or leave the attribute out."
        )


def results_by_slice(task: Any, suites: Mapping[str, Suite], outcomes: pa.Table) -> pa.Table | None:
    """A model's results on the dev suites, a row for each slice, in the order of their values.

    Columns: those that the task names, ``items`` (how many) and ``score`` (their mean). Suites without the
    columns and duels are left out. None: there is nothing else.
    """
    columns = slice_columns(task)
    dev = [suite for suite in suites.values() if suite.role == Role.DEV and _has(suite, columns)]
    if not columns or not dev:
        return None
    rows = []
    for suite in dev:
        own = outcomes.filter(np.equal(outcomes["suite"].to_numpy(), suite.name))
        where = pc.index_in(as_text(suite.items["item"], "item"), value_set=own["item"].combine_chunks())
        scored = suite.items.select(list(columns)).append_column("score", own["score"].take(where))
        rows.append(scored.filter(pc.is_valid(scored["score"])))
    groups = pa.concat_tables(rows).group_by(list(columns), use_threads=False)  # sums in one order
    grouped = groups.aggregate([("score", "count"), ("score", "mean")])
    counts = {"items": grouped["score_count"], "score": grouped["score_mean"]}
    table = pa.table({**{name: grouped[name] for name in columns}, **counts})
    return table.sort_by([(name, "ascending") for name in columns]).combine_chunks()


def _has(suite: Suite, columns: Iterable[str]) -> bool:
    return not suite.duel and set(columns) <= set(suite.items.column_names)
