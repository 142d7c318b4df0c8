"""Audit: a trusted grader checks some of the rows that this turn would keep, before they are learned from.

A loop that grades its own output fools itself. So of the batch's rows that the curator would keep some are
drawn at random, and of those that it would drop though they lead their group a quarter as many. What the
trusted grader says of them gives precision and recall, and is shown to curators as the column ``audited``, in
this turn and in later ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flywheel import ranks
from flywheel.config.fingerprint import fingerprint
from flywheel.errors import DataError
from flywheel.graders.failures import FAILURE, is_failure
from flywheel.metrics.audits import drift, flaw, gaps
from flywheel.metrics.proportions import proportion, recall
from flywheel.records import RIGHT, Interval
from flywheel.runtime.context import Context, Stage, StageOutput, StageTools
from flywheel.runtime.grading import grade_in_units
from flywheel.runtime.work import FOLDER
from flywheel.storage.corpus import beside
from flywheel.storage.events import AuditFacts, AuditsBefore, Checked
from flywheel.storage.sources import Source
from flywheel.storage.state import Generation
from flywheel.storage.store import Stored, scratch_store
from flywheel.tables import AUDITS, best_of_groups, counts_of


def audit(
    ctx: Context,
    *,
    sources: Sequence[Source],
    parent: Generation,
    curate: Stage,
    before: AuditsBefore | None = None,
    recalled: str | None = None,
    after: str | None = None,
) -> StageOutput:
    """A table of what the trusted grader says: a row for each row drawn, whether it would be kept.

    ``sources``, ``recalled`` and ``after`` are what ``curate`` will be given, but for the newest batch's
    audits; the stage ``curate`` says what it would keep, and nothing of that is recorded. ``before``: what
    earlier audits found. No row is drawn that a dev suite asks: the tuner's scores come from those.
    """
    samples, scores, _ = sources[-1]
    config = ctx.components.resolved["audit"]
    grader = ctx.components.build("audit", ctx.settings)["grader"]
    batch, own = ctx.store.table(str(samples)), ctx.store.table(str(scores))
    graded_batch = beside(batch, own)
    own = own.drop_columns("id")

    def draw_rows() -> _Drawn:
        decisions = _preview(ctx, curate, sources=sources, recalled=recalled, after=after)
        return _draw(ctx, graded_batch, own, decisions, config["size"])

    drawn = ranks.from_rank_0(draw_rows)
    asked = batch.take(drawn.rows)
    inputs = {"samples": samples, "drawn": asked["id"].to_pylist(), "parent": parent.weights}
    graded = grade_in_units(ctx, grader, asked, parent, inputs=inputs) if len(asked) else None
    if ranks.rank() != 0:
        return StageOutput()
    column, audits = _answers(asked, drawn.kept, graded and graded.scores, config["column"])
    facts = AuditFacts(
        grader=type(grader).__name__,
        version=fingerprint(ctx.components, "audit", ctx.settings, "grader"),
        column=column,
        loaded_parent=graded.loaded_parent if graded else None,
        left_out=drawn.left_out,
        score=drawn.score,
        units=graded.units.facts if graded else None,
        **_findings(audits, graded_batch.take(drawn.rows), own, drawn, config, before),
    )
    return StageOutput({"audits": audits}, facts, graded.units.seconds if graded else None)


def _preview(ctx: Context, curate: Stage, **given: Any) -> pa.Table:
    """The decisions that the curator would make now."""
    with scratch_store(ctx.store, ctx.store.directory / FOLDER / "audit" / "preview") as scratch:
        tools = StageTools(ctx.components, scratch, ctx.data, ctx.stop, ctx.work.executor)
        output = tools.run(curate, ctx.generation, ctx.root, ctx.settings, carry=ctx.carry, **given)
        decisions = output.outputs["decisions"]
        table: pa.Table = scratch.table(decisions.name) if isinstance(decisions, Stored) else decisions
        return table


@dataclass(frozen=True, slots=True)
class _Drawn:
    """The rows to grade, those that would be kept first."""

    rows: np.ndarray
    """Their places in the batch, int64."""
    kept: np.ndarray
    """Whether each would be kept."""
    of_kept: int
    of_dropped: int
    left_out: int | None
    score: str | None
    """The loop's own score, by which rows lead their groups."""


def _draw(ctx: Context, batch: pa.Table, scores: pa.Table, decisions: pa.Table, size: int) -> _Drawn:
    """Simple random samples without replacement; which rows they have does not depend on their order."""
    where = pc.index_in(batch["id"], value_set=decisions["id"])
    kept = decisions["keep"].take(where).fill_null(False).to_numpy()
    is_asked = _asked_by_dev(ctx, batch)
    asked = np.zeros(len(batch), bool) if is_asked is None else is_asked.to_numpy()
    name = _score_column(ctx, scores)
    leads = _leads(batch, name)
    pools = {True: np.flatnonzero(kept & ~asked), False: np.flatnonzero(leads & ~kept & ~asked)}
    sizes = {True: size, False: -(-size // 4)}
    drawn = {which: _some(ctx, batch["id"], rows, sizes[which]) for which, rows in pools.items()}
    return _Drawn(
        rows=np.concatenate([drawn[True], drawn[False]]),
        kept=np.arange(len(drawn[True]) + len(drawn[False])) < len(drawn[True]),
        of_kept=len(pools[True]),
        of_dropped=len(pools[False]),
        left_out=None if is_asked is None else int(asked.sum()),
        score=name,
    )


def _asked_by_dev(ctx: Context, batch: pa.Table) -> pa.ChunkedArray | None:
    """Which rows dev suites ask; None if they cannot be compared, or there are none."""
    suites = tuple(ctx.data.suites.values())
    return ctx.data.problems.held_out(suites).is_asked(batch) if suites else None


def _some(ctx: Context, ids: pa.ChunkedArray, rows: np.ndarray, size: int) -> np.ndarray:
    """So many of these rows at most, in the batch's order."""
    keys = ctx.key("draw").each(ids.take(rows).to_pylist())
    drawn: np.ndarray = np.sort(rows[np.argsort(keys.uniform(1)[:, 0], kind="stable")[:size]])
    return drawn


def _score_column(ctx: Context, scores: pa.Table) -> str | None:
    """The curator's column to go by, else the grader's first one with numbers; None: there is none."""
    own = getattr(ctx.components.build("curator", ctx.settings), "score", None)
    names = [field.name for field in scores.schema if pa.types.is_floating(field.type)]
    return own if own in names else next(iter(names), None)


def _leads(batch: pa.Table, name: str | None) -> np.ndarray:
    """Rows that speak for their groups: the best-scored, the first among equals, or the only one."""
    groups = batch["group"].combine_chunks().dictionary_encode("encode").indices.to_numpy()
    if name is None:
        alone: np.ndarray = np.bincount(groups)[groups] == 1
        return alone
    return best_of_groups(batch[name].to_numpy(), groups)


def _answers(
    asked: pa.Table, kept: np.ndarray, scores: pa.Table | None, column: str | None
) -> tuple[str | None, pa.Table]:
    """The trusted grader's column, and the table of audits."""
    names = [
        name for name in (scores.column_names if scores else ()) if name != "id" and not is_failure(name)
    ]
    if column is not None and names and column not in names:
        raise DataError(
            f"audit.column must be a column of the trusted grader, which has {names}; got {column!r}."
        )
    name = column or (names[0] if names else None)
    trusted = pa.nulls(len(asked), pa.float64())
    failure = pa.nulls(len(asked), pa.string())
    if scores is not None and name in names:
        kind = scores[name].type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
            raise DataError(
                f"The trusted grader's column {name!r} must have numbers or booleans; it is {kind}."
            )
        trusted = scores[name].cast(pa.float64())
    if scores is not None and FAILURE in scores.column_names:
        failure = scores[FAILURE]
    no_answer = pc.and_(pc.is_null(trusted), pc.is_null(failure))
    failure = pc.if_else(no_answer, "the trusted grader gave no answer", failure)
    columns = [asked["id"], trusted, pa.array(kept), failure]
    return name, pa.table(columns, schema=AUDITS)


def _findings(
    audits: pa.Table,
    rows: pa.Table,
    scores: pa.Table,
    drawn: _Drawn,
    config: Mapping[str, Any],
    before: AuditsBefore | None,
) -> dict[str, Any]:
    """The facts that follow from the audits.

    ``rows``: what was drawn, with payload and scores; ``scores``: those of the batch, for their names.
    """
    trusted, kept = audits["trusted"].to_numpy(), audits["kept"].to_numpy()
    ours, others = _checked(trusted[kept], drawn.of_kept), _checked(trusted[~kept], drawn.of_dropped)
    precision = proportion(ours.right, ours.graded) if ours.graded else None
    failures = counts_of(audits["failure"].drop_null())
    of_columns = gaps(rows.filter(pa.array(kept)).select(scores.column_names), trusted[kept])
    return {
        "kept": ours,
        "dropped": others,
        "precision": precision,
        "recall": recall(*((one.rows, one.graded, one.right) for one in (ours, others))),
        "by": {name: _by(name, rows, trusted, kept) for name in config["by"] or ()},
        "gaps": of_columns,
        "failures": failures,
        "before": before,
        "flagged": flaw(ours, precision, config["least_precision"], failures),
        "drift": drift(ours, of_columns.get(drawn.score or ""), before),
    }


def _checked(trusted: np.ndarray, rows: int) -> Checked:
    graded = trusted[~np.isnan(trusted)]
    right = int((graded >= RIGHT).sum())
    return Checked(rows=rows, drawn=len(trusted), graded=len(graded), right=right)


def _by(name: str, rows: pa.Table, trusted: np.ndarray, kept: np.ndarray) -> dict[str, Interval]:
    """Precision among the kept rows of each value of a column, in the order of values."""
    if name not in rows.column_names:
        raise DataError(
            f"audit.by must name columns of samples or scores, {rows.column_names}; got {name!r}."
        )
    where = kept & ~np.isnan(trusted)
    right, values = trusted[where] >= RIGHT, rows[name].filter(pa.array(where))
    encoded = values.combine_chunks().dictionary_encode("encode")
    names, codes = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    found = {str(value): right[codes == code] for code, value in sorted(enumerate(names), key=_in_order)}
    return {value: proportion(int(mask.sum()), len(mask)) for value, mask in found.items()}


def _in_order(entry: tuple[int, Any]) -> tuple[bool, Any]:
    value = entry[1]
    is_number = isinstance(value, (int, float))
    return not is_number, value if is_number else str(value)
