"""Steps that a row must pass, each by itself: decided on in a stream, and not again in later turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from flywheel.errors import DataError
from flywheel.records import Carry

if TYPE_CHECKING:
    import pyarrow as pa

    from flywheel.keys import Key


class Step(Protocol):
    """One rule of a pipeline. It looks at a row and nothing else, so that rows can come in any portions."""

    @property
    def columns(self) -> Sequence[str]:
        """Columns of samples, graders and audits that it looks at, besides ``id`` and ``origin``."""

    def dropped(self, rows: pa.Table) -> Mapping[str, np.ndarray]:
        """Reason -> mask of the rows that are dropped for it. ``rows`` lack columns that a batch has not."""


@dataclass(kw_only=True)
class Threshold:
    """Generated rows must have a score; human ones, which nobody graded, pass."""

    score: str
    """The grader's column to go by."""
    least: float
    """Lowest score to keep."""

    @property
    def columns(self) -> Sequence[str]:
        """The score."""
        return (self.score,)

    def dropped(self, rows: pa.Table) -> Mapping[str, np.ndarray]:
        """Rows below the threshold, and rows on which the grader failed."""
        generated = np.not_equal(rows["origin"].to_numpy(), "human")
        if not generated.any():
            return {}
        if self.score not in rows.column_names:
            raise DataError(f"score must be a column of the grader; {self.score!r} is none.")
        scores: np.ndarray = rows[self.score].to_numpy()
        if scores.dtype.kind not in "biuf":
            raise DataError(f"score must be a column of numbers; {self.score!r} is {rows[self.score].type}.")
        failed = np.isnan(scores)
        return {
            "no score": generated & failed,
            f"{self.score} below {self.least:g}": generated & ~failed & ~(scores >= self.least),
        }


@dataclass(kw_only=True)
class Dedupe:
    """Of rows with equal values in all of the columns, exactly, the first that is kept; human ones are first.

    So across generations. A row without a value in any of the columns is like no other.
    """

    unique: list[str]
    """Payload columns, e.g. ``[prompt, answer]``."""

    def __post_init__(self) -> None:
        if not self.unique:
            raise ValueError("unique must name columns, as [prompt, answer]; it is empty.")


@dataclass(kw_only=True)
class Pipeline:
    """Keeps the rows that pass all steps, with weight 1, and draws each once.

    Later turns decide on new rows only; what was kept stays, unless the curator's settings change, or there
    is a recall. At most one step is a ``Dedupe``. It comes last, wherever it is listed: a row that another
    step has dropped, or that a suite asks, does not stand in the way of a later one like it.
    """

    steps: dict[str, Any]
    """Name -> step, in the order in which they give a reason: see ``Step``."""

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError("steps must be one or more, by a name each; there are none.")
        uniques = [name for name, step in self.steps.items() if hasattr(step, "unique")]
        if len(uniques) > 1:
            raise ValueError(f"steps may have one Dedupe; {', '.join(uniques)} are {len(uniques)}.")
        for name, step in self.steps.items():
            if not (hasattr(step, "unique") or hasattr(step, "dropped")):
                raise ValueError(
                    f"steps must have columns and dropped(rows), see flywheel.curators.Step; {name!r} is a "
                    f"{type(step).__name__}."
                )

    @property
    def unique(self) -> Sequence[str]:
        """Columns of which no two kept rows have the same values; none without a ``Dedupe``."""
        return next((step.unique for step in self.steps.values() if hasattr(step, "unique")), ())

    @property
    def columns(self) -> Sequence[str]:
        """Columns that its steps look at."""
        return [name for step in self._rules for name in step.columns]

    @property
    def score(self) -> str | None:
        """The grader's column that its first threshold goes by, which audits go by, too."""
        return next((step.score for step in self._rules if hasattr(step, "score")), None)

    @property
    def _rules(self) -> list[Any]:
        return [step for step in self.steps.values() if not hasattr(step, "unique")]

    def decide(self, rows: pa.Table) -> dict[str, Any]:
        """Decisions row for row, equal rows not looked for: see ``flywheel.protocols.StreamCurator``."""
        import pyarrow as pa

        reasons, code = ["kept"], np.zeros(len(rows), np.int8)
        for step in self._rules:
            for reason, mask in step.dropped(rows).items():
                code[(code == 0) & mask] = len(reasons)
                reasons.append(reason)
        keep = code == 0
        reason = pa.DictionaryArray.from_arrays(pa.array(code), pa.array(reasons)).cast(pa.string())
        count, weight = keep.astype(np.int32), np.ones(len(rows))
        return {"id": rows["id"], "keep": keep, "reason": reason, "weight": weight, "count": count}

    def curate(self, samples: pa.Table, carry: Carry, key: Key) -> tuple[dict[str, Any], Carry]:
        """The same for a table of all rows, with equal ones dropped; no carry."""
        import pyarrow as pa
        import pyarrow.compute as pc

        from flywheel.tables.row_keys import DUPLICATE, KeySet, repeated

        decisions = self.decide(samples)
        if self.unique:
            again = repeated(samples, self.unique, decisions["keep"], KeySet())
            decisions["keep"] &= ~again
            decisions["count"][again] = 0
            decisions["reason"] = pc.if_else(pa.array(again), DUPLICATE, decisions["reason"])
        return decisions, {}
