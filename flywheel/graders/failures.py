"""What a grader says where it could not score: null, and a reason in a column beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flywheel.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

FAILURE = "failure"
"""Column of scores that says why a row has no score; null where it has one, left out where all have."""
OF_PART = f"{FAILURE}_"
"""Before the name of a part of a composition: the column that says the same of the part."""


def is_failure(column: str) -> bool:
    """Whether a column of scores says why others are null."""
    return column == FAILURE or column.startswith(OF_PART)


def score_of(scores: pa.Table) -> str:
    """The name of the score: the first column that is no reason. Raises DataError if there is none."""
    names = [name for name in scores.column_names if not is_failure(name)]
    if not names:
        raise DataError("A grader must give a column of scores; it gave none. Return {NAME: scores}.")
    return str(names[0])


def with_reasons(answer: Any, samples: pa.Table) -> pa.Table:
    """A grader's answer as a table, reasons as text, without ids.

    Raises ValueError if it has another number of rows than the samples, DataError if it has other ids, or a
    score is null without a reason.
    """
    import pyarrow.compute as pc  # heavy, as what imports it: a configuration is checked without

    from flywheel.tables import as_table, require_same_rows

    scores = as_table(answer)
    if len(scores) != len(samples):
        raise ValueError(f"a grader must score every sample: {len(samples)} samples, {len(scores)} scores")
    if "id" in scores.column_names:
        require_same_rows(scores["id"], samples["id"], "grade()")
        scores = scores.drop_columns("id")
    for position, name in enumerate(scores.column_names):
        if is_failure(name):
            scores = scores.set_column(position, name, _as_reasons(scores[name], name))
    name = score_of(scores)
    nulls = scores[name].is_null(nan_is_null=False)
    unexplained = pc.and_(nulls, scores[FAILURE].is_null()) if FAILURE in scores.column_names else nulls
    if count := pc.sum(unexplained).as_py():
        raise DataError(
            f"A sample without a score must have a reason; {count} values of column {name!r} are null "
            f"without one. Say why in a text column {FAILURE!r}, null where there is a score."
        )
    return scores


def _as_reasons(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    import pyarrow as pa

    try:
        return column.cast(pa.string())
    except pa.ArrowException as error:
        raise DataError(
            f"Column {name!r} says why a score is null; it must be text, not {column.type}."
        ) from error
