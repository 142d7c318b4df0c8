"""Several graders as one: all of them must pass, any of them, or one after the other from cheap to dear."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from flywheel.errors import DataError
from flywheel.graders.failures import FAILURE, OF_PART, score_of, with_reasons
from flywheel.records import RIGHT

if TYPE_CHECKING:
    import pyarrow as pa

    from flywheel.keys import Keys


def parts_of(grader: Any) -> dict[str, Any]:
    """The graders within a composition, however deep, by their names; none of one that is no composition."""
    return dict(_walk(grader))


def _walk(grader: Any) -> Iterator[tuple[str, Any]]:
    for name, part in getattr(grader, "graders", {}).items():
        yield name, part
        yield from _walk(part)


@dataclass(frozen=True, slots=True)
class _OfPart:
    """What a part of a composition answered, row for row."""

    scores: np.ndarray
    """Float64; NaN where it failed."""
    passes: np.ndarray
    """1, 0, or NaN where it failed."""
    columns: dict[str, pa.ChunkedArray]


@dataclass(kw_only=True)
class _Composition:
    """What compositions have in common: parts with names, and from which score on each passes."""

    COLUMN: ClassVar[str]
    """The column of the composition's own score."""

    graders: dict[str, Any]
    """Name -> grader. The names are the run's, each once, also in compositions of compositions."""
    pass_at: dict[str, float] = field(default_factory=dict)
    """Name -> lowest score, of the grader's first column, that passes; 0.5 where none is given."""

    def __post_init__(self) -> None:
        if not self.graders:
            raise ValueError("graders must be one or more, by a name each; there are none.")
        names = [name for name, _ in _walk(self)]
        for name in names:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
                raise ValueError(f"graders must have names of letters, digits and _; one is {name!r}.")
            if names.count(name) > 1:
                raise ValueError(f"graders must have names of their own; two are {name!r}.")
        if unknown := [name for name in self.pass_at if name not in self.graders]:
            raise ValueError(
                f"pass_at must name graders of it, {', '.join(self.graders)}; {unknown[0]!r} is none."
            )
        if len(set(self._declared("tokens_column"))) > 1:
            raise ValueError("graders may have one tokens_column together; theirs are several.")

    def _declared(self, attribute: str) -> list[Any]:
        """What parts have as an attribute, of those that have it."""
        declared = (getattr(part, attribute, None) for part in self.graders.values())
        return [value for value in declared if value]

    @property
    def outside_service(self) -> bool:
        """Whether a part asks one."""
        return bool(self._declared("outside_service"))

    @property
    def tokens_column(self) -> str | None:
        """That of the part that counts tokens."""
        return next(iter(self._declared("tokens_column")), None)

    @property
    def checked_answer(self) -> str | None:
        """The column that parts check, see ``flywheel.protocols.Grader``."""
        return next(iter(self._declared("checked_answer")), None)

    def close(self) -> None:
        """Close the parts that can be."""
        for part in self.graders.values():
            if hasattr(part, "close"):
                part.close()

    def _ask(self, name: str, samples: pa.Table, load_parent: Callable[[], Any], keys: Keys) -> _OfPart:
        """What a part answers on some samples."""
        import pyarrow as pa

        answer = with_reasons(self.graders[name].grade(samples, load_parent, keys), samples)
        columns = {column: answer[column] for column in answer.column_names}
        scores = columns[score_of(answer)].cast(pa.float64()).to_numpy()
        passes = np.where(np.isnan(scores), np.nan, scores >= self.pass_at.get(name, RIGHT))
        reasons = columns.pop(FAILURE, pa.chunked_array([pa.nulls(len(samples), pa.string())]))
        return _OfPart(scores, passes, {**columns, f"{OF_PART}{name}": reasons})

    def _answer(self, score: np.ndarray, columns: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """All columns, the composition's own first; ``columns``: of each part, by its name."""
        import pyarrow as pa

        reasons = {name: theirs[f"{OF_PART}{name}"] for name, theirs in columns.items()}
        why: list[str | None] = [None] * len(score)
        for row in np.flatnonzero(np.isnan(score)).tolist():
            texts = ((name, of_part[row].as_py()) for name, of_part in reasons.items())
            why[row] = "; ".join(f"{name}: {text}" for name, text in texts if text)
        own: dict[str, Any] = {
            self.COLUMN: pa.array(score, from_pandas=True),  # NaN becomes null
            FAILURE: pa.array(why, pa.string()),
        }
        for name, theirs in columns.items():
            if clashes := [column for column in theirs if column in own]:
                raise DataError(
                    f"Graders of a composition must have columns of their own; {name} and another one have "
                    f"{clashes}. Give one of them another name: Verifier and Labels take `column`."
                )
            own |= theirs
        return own


@dataclass(kw_only=True)
class AllOf(_Composition):
    """1 where all graders pass, 0 where one does not; null where that hangs on one that failed.

    Three-valued (Kleene 1938): what does not pass one grader is 0 though another one failed on it.
    """

    COLUMN = "all_of"

    def grade(self, samples: pa.Table, load_parent: Callable[[], Any], keys: Keys) -> dict[str, Any]:
        """``all_of``, and the columns of all parts, with ``failure_NAME`` for each."""
        return _of_all(self, samples, load_parent, keys, decided=0.0)


@dataclass(kw_only=True)
class AnyOf(_Composition):
    """1 where any grader passes, 0 where none does; null where that hangs on one that failed."""

    COLUMN = "any_of"

    def grade(self, samples: pa.Table, load_parent: Callable[[], Any], keys: Keys) -> dict[str, Any]:
        """``any_of``, and the columns of all parts, with ``failure_NAME`` for each."""
        return _of_all(self, samples, load_parent, keys, decided=1.0)


def _of_all(
    composition: _Composition,
    samples: pa.Table,
    load_parent: Callable[[], Any],
    keys: Keys,
    decided: float,
) -> dict[str, Any]:
    """Ask all parts; a single one with ``decided`` decides."""
    answers = {name: composition._ask(name, samples, load_parent, keys) for name in composition.graders}
    passes = np.stack([answer.passes for answer in answers.values()])
    undecided = np.where(np.isnan(passes).any(0), np.nan, 1.0 - decided)
    score = np.where((passes == decided).any(0), decided, undecided)
    return composition._answer(score, {name: answer.columns for name, answer in answers.items()})


class Asks(StrEnum):
    """Of what passed, what the next grader of a cascade is asked."""

    ROWS = "rows"
    """The rows that passed alone: what it sees of a group may be a part of it."""
    GROUPS = "groups"
    """Whole groups of which a row passed, for graders that compare the rows of a group."""


@dataclass(kw_only=True)
class Cascade(_Composition):
    """Graders from cheap to dear, in their order: each one is asked only what all before it passed.

    The score is that of the last one, 0 for what a grader before it did not pass, and null for what one
    failed on. Columns of a grader are null where it was not asked.
    """

    COLUMN = "cascade"

    asks: Asks = Asks.ROWS
    """``rows``: the next grader is asked the rows that passed; ``groups``: all rows of their groups."""

    def grade(self, samples: pa.Table, load_parent: Callable[[], Any], keys: Keys) -> dict[str, Any]:
        """``cascade``, and the columns of all parts that were asked, with ``failure_NAME`` for each."""
        score, passing = np.zeros(len(samples)), np.ones(len(samples), bool)
        columns: dict[str, dict[str, Any]] = {}
        for name in self.graders:
            asked = np.flatnonzero(self._asked(passing, samples["group"]))
            if not len(asked):
                break
            answer = self._ask(name, samples.take(asked), load_parent, keys[asked])
            columns[name] = {c: _spread(values, asked, len(samples)) for c, values in answer.columns.items()}
            is_last = name == list(self.graders)[-1]
            own = answer.scores if is_last else np.where(np.isnan(answer.passes), np.nan, 0.0)
            still = passing[asked]  # those that are asked for their group's sake have their score already
            score[asked[still]] = own[still]
            passing[asked] &= answer.passes == 1.0
        return self._answer(score, columns)

    def _asked(self, passing: np.ndarray, groups: pa.ChunkedArray) -> np.ndarray:
        if self.asks == Asks.ROWS:
            return passing
        codes = groups.combine_chunks().dictionary_encode("encode").indices.to_numpy()
        return np.isin(codes, codes[passing])


def _spread(values: pa.ChunkedArray, rows: np.ndarray, count: int) -> pa.ChunkedArray:
    """Values at some of so many rows; null at the others."""
    import pyarrow as pa

    where = np.full(count, -1)
    where[rows] = np.arange(len(rows))
    return values.take(pa.array(where, mask=where < 0))
