"""What holds for all decisions on samples: their form, no leak, and how often rows are drawn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flywheel.errors import DataError, StageFailed
from flywheel.runtime.held_out import HeldOut
from flywheel.tables import DECISIONS, as_table, require_same_rows


def checked(answer: Any, samples: pa.Table) -> pa.Table:
    """A curator's answer as decisions on these samples. Raises DataError if it is none."""
    decisions = as_table(answer)
    missing = [name for name in DECISIONS.names if name not in decisions.column_names]
    if missing:
        raise DataError(f"Decisions must have columns {DECISIONS.names}; {missing} are missing.")
    try:
        decisions = decisions.select(DECISIONS.names).cast(DECISIONS)
    except pa.ArrowException as error:
        kinds = ", ".join(f"{field.name}: {field.type}" for field in DECISIONS)
        raise DataError(f"Decisions must have columns {kinds}: {error}.") from error
    counts = pc.if_else(decisions["keep"], decisions["count"], pa.scalar(0, pa.int32()))
    decisions = decisions.set_column(decisions.column_names.index("count"), DECISIONS.field("count"), counts)
    require_same_rows(decisions["id"], samples["id"], "curate()")
    kept = decisions.filter(decisions["keep"])
    good = pc.and_(pc.greater(kept["weight"], 0), pc.greater_equal(kept["count"], 0))
    if not pc.all(pc.fill_null(good, False), min_count=0).as_py():
        raise DataError("Kept samples must have a weight above 0 and a count of 0 or more.")
    return decisions


def without_leaks(decisions: pa.Table, samples: pa.Table, asked: HeldOut) -> tuple[pa.Table, int]:
    """The decisions, but with no generated row kept that a suite asks; and how many were to be.

    Human rows are not compared here: seed samples were when the run began, and in a refit the labels of dev
    and gate are to be learned.
    """
    if not asked.compares:
        return decisions, 0
    generated = pc.equal(samples["origin"], "generated")
    rows = np.flatnonzero(pc.and_(decisions["keep"], generated).to_numpy())
    suites = asked.asked_by(samples.select(["id", *asked.columns_of(samples)]).take(rows))
    is_leaked = suites.is_valid().to_numpy(zero_copy_only=False)
    if not is_leaked.any():
        return decisions, 0
    mask = np.zeros(len(samples), bool)
    mask[rows[is_leaked]] = True
    reasons = pc.binary_join_element_wise("leaked: suite ", suites.drop_null(), " asks it", "")
    return dropped(decisions, mask, reasons.take(pa.array(np.cumsum(mask) - 1, mask=~mask))), int(mask.sum())


def dropped(decisions: pa.Table, rows: np.ndarray, reasons: pa.Array | str) -> pa.Table:
    """The decisions, but with these rows, a mask, not kept for these reasons, an array of all rows or one."""
    mask = pa.array(rows)
    changed = {
        "keep": pc.and_(decisions["keep"], pc.invert(mask)),
        "reason": pc.if_else(mask, reasons, decisions["reason"]),
        "count": pc.if_else(mask, pa.scalar(0, pa.int32()), decisions["count"]),
    }
    return pa.table({**{name: decisions[name] for name in DECISIONS.names}, **changed}, schema=DECISIONS)


def draws_needed(others: int, least: float) -> int:
    """How often human rows must be drawn to be this share of the draws, beside so many others."""
    return math.ceil(others * least / (1 - least) - 1e-9)


def no_human_rows(least: float) -> StageFailed:
    """Why a share of human draws cannot be reached."""
    return StageFailed(
        "curate",
        f"human_share={least:g} must be reached by human rows, and the curator draws none. Have it keep "
        "some, or set human_share=null",
    )


def drawn_more(counts: np.ndarray, factor: float, before: int = 0) -> np.ndarray:
    """Counts that are this much larger together, ``before`` being the sum of those that came before."""
    sums = np.floor((before + np.cumsum(counts, dtype=np.int64)) * factor + 1e-6)
    larger: np.ndarray = np.diff(sums, prepend=np.floor(before * factor + 1e-6))
    return larger
