"""Which rows are the same problem, and checks that no suite shares one with training rows or other suites.

A task names the columns by which two rows are the same problem (``identity_columns``), and problems so few
that they must recur (``exhaustible``); see ``flywheel.protocols.Task``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flywheel.errors import DataError
from flywheel.records import Decontaminate, Exhaustible, Role, Suite
from flywheel.storage.events import Shared
from flywheel.tables.digests import column_texts, joined_texts
from flywheel.tables.ngrams import ngrams_of, overlaps

SEED = "the seed samples"
_JUDGES = {Role.GATE, Role.GUARD}  # both judge a candidate that is finished: one tells the other nothing
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Problems:
    """How a task says that two rows are the same problem. Without columns nothing is compared."""

    columns: tuple[str, ...] = ()
    exhaustible: tuple[Exhaustible, ...] = ()
    texts_of: Decontaminate | None = None
    """Texts that are compared by their n-grams; None: none are."""

    @classmethod
    def of(cls, task: Any) -> Problems:
        """The rules of a task. Raises DataError if its attributes have the wrong type."""
        columns, exhaustible = getattr(task, "identity_columns", ()), getattr(task, "exhaustible", ())
        if isinstance(columns, str) or not all(isinstance(name, str) for name in columns):
            raise DataError(f"identity_columns must be names of columns, as ('prompt',); it is {columns!r}.")
        if isinstance(exhaustible, Exhaustible) or not all(isinstance(e, Exhaustible) for e in exhaustible):
            raise DataError(
                "exhaustible must be a sequence of flywheel.records.Exhaustible; it is "
                f"{exhaustible!r}. Give (Exhaustible(column, values, reason),)."
            )
        texts = getattr(task, "decontaminate", None)
        if texts is not None and not isinstance(texts, Decontaminate):
            raise DataError(
                f"decontaminate must be a flywheel.records.Decontaminate; it is {texts!r}. Give "
                "Decontaminate((column,), ngram=13)."
            )
        if texts is not None and (
            texts.ngram < 1 or not isinstance(texts.columns, tuple) or not texts.columns
        ):
            raise DataError(
                f"decontaminate must name columns, as ('question',), and 1 word or more; it is {texts!r}."
            )
        return cls(tuple(columns), tuple(exhaustible), texts)

    def check(self, human: pa.Table, suites: Sequence[Suite]) -> tuple[Shared, ...]:
        """What suites have in common with the seed samples and with suites of another role, and may.

        Raises DataError, naming the suite, how many items and three of them, for what they may not.
        """
        self._check_texts(human, suites)
        if not self.columns:
            return ()
        tables = ({SEED: human} if len(human) else {}) | {suite.name: suite.items for suite in suites}
        texts = {name: self.texts(table, _title(name)) for name, table in tables.items()}
        self.check_types({name: table.schema for name, table in tables.items()})
        shared = []
        for suite, other in _pairs(suites, has_seed=SEED in tables):
            is_shared = pc.is_in(texts[suite.name], value_set=texts[other].combine_chunks())
            may_share = other != SEED and _are_judges(suite, other, suites)
            allowed = is_shared if may_share else self.few(suite.items)
            clashes = suite.items.filter(pc.and_(is_shared, pc.invert(allowed)))
            if len(clashes):
                raise DataError(self._refusal(suite, other, clashes))
            count = pc.sum(is_shared).as_py() or 0
            shared += [Shared(suite=suite.name, other=other, items=count, of=len(is_shared))] if count else []
        return tuple(shared)

    def held_out(self, suites: Sequence[Suite]) -> HeldOut:
        """The problems of these suites."""
        grams = {suite.name: self._ngrams(suite) for suite in suites} if self.texts_of else {}
        if not self.columns:
            return HeldOut(self, grams=grams)
        texts = [chunk for suite in suites for chunk in self.texts(suite.items, _title(suite.name)).chunks]
        names = np.repeat([suite.name for suite in suites], [len(suite.items) for suite in suites])
        schemas = {suite.name: suite.items.schema for suite in suites}
        return HeldOut(self, pa.concat_arrays(texts), schemas, pa.array(names.tolist(), pa.string()), grams)

    def texts(self, table: pa.Table, what: str) -> pa.ChunkedArray:
        """Each row's problem as one text. Raises DataError if it has none."""
        missing = [name for name in self.columns if name not in table.column_names]
        if missing:
            raise DataError(
                f"{what} must have the task's identity_columns {list(self.columns)}; they have "
                f"{table.column_names}: {missing} are missing."
            )
        empty = [name for name in self.columns if table[name].null_count]
        if empty:
            raise DataError(f"{what} must have a value in identity_columns each; some of {empty} are null.")
        return pc.binary_join_element_wise(*(column_texts(table[name]) for name in self.columns), "\x1f")

    def asked(self, items: pa.Table) -> pa.ChunkedArray:
        """What each item asks, as a text: its problem, else all but its name and cluster, else its name."""
        if set(self.columns) & set(items.column_names):
            return self.texts(items, "The items")
        content = [name for name in items.column_names if name not in ("item", "cluster")]
        return joined_texts(items.select(content or ["item"]), floats=True)

    def few(self, table: pa.Table) -> pa.ChunkedArray:
        """Which rows are problems that must recur."""
        few: Any = pa.chunked_array([pa.repeat(False, len(table))])
        for rule in self.exhaustible:
            if rule.column in table.column_names:
                values = pa.array([str(value) for value in rule.values], pa.string())
                few = pc.or_(few, pc.is_in(table[rule.column].cast(pa.string()), value_set=values))
        return few

    def _check_texts(self, human: pa.Table, suites: Sequence[Suite]) -> None:
        """Raise DataError if texts of seed samples and items have n-grams in common, or there are none."""
        if self.texts_of is None:
            return
        columns, n = self.texts_of.columns, self.texts_of.ngram
        tables = ({SEED: human} if len(human) else {}) | {suite.name: suite.items for suite in suites}
        for name, table in tables.items():
            for column in set(columns) & set(table.column_names):
                kind = table.schema.field(column).type
                if _kind(kind) != "a string":
                    raise DataError(
                        f"Columns of decontaminate must have texts; {column!r} of {name} is {kind}."
                    )
        if not any(set(columns) & set(suite.items.column_names) for suite in suites):
            raise DataError(
                f"Columns of decontaminate must be of a suite's items; no suite has {list(columns)}."
            )
        own = human.filter(pc.invert(self.few(human)))
        shared = overlaps(own, columns, n, {suite.name: self._ngrams(suite) for suite in suites})
        for suite in suites:
            clashes = own.filter(shared[suite.name])
            if len(clashes):
                few = clashes.slice(0, _SHOWN).select([c for c in columns if c in clashes.column_names])
                examples = "; ".join(_short(value) for row in few.to_pylist() for value in row.values())
                raise DataError(
                    f"Suite {suite.name} must hold out what it asks: {len(clashes)} seed samples have {n} "
                    f"words in a row in common with its items, by {', '.join(columns)}: {examples}. Leave "
                    "them out in the task's seed() or suites()."
                )

    def _ngrams(self, suite: Suite) -> np.ndarray:
        assert self.texts_of is not None
        items = suite.items.filter(pc.invert(self.few(suite.items)))
        return ngrams_of([items], self.texts_of.columns, self.texts_of.ngram)

    def check_types(self, schemas: Mapping[str, pa.Schema]) -> None:
        """Raise DataError unless the identity columns have one type in all of these."""
        for column in self.columns:
            kinds = {name: _kind(schema.field(column).type) for name, schema in schemas.items()}
            if len(set(kinds.values())) > 1:
                listed = ", ".join(f"{kind} in {name}" for name, kind in kinds.items())
                raise DataError(f"Identity column {column!r} must have one type everywhere; it is {listed}.")

    def _refusal(self, suite: Suite, other: str, clashes: pa.Table) -> str:
        few = clashes.slice(0, _SHOWN).select(list(self.columns)).to_pylist()
        examples = "; ".join(", ".join(_short(value) for value in row.values()) for row in few)
        return (
            f"Suite {suite.name} must hold out what it asks: {len(clashes)} of its {len(suite.items)} items "
            f"are in {other} too, by {', '.join(self.columns)}: {examples}. Leave them out of one of the two "
            "in the task's seed() or suites(); problems too few to be kept apart can be named in the task's "
            "attribute exhaustible."
        )


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The problems of suites, as texts: enough to leave them out of prompts, without holding items."""

    problems: Problems = Problems()
    asked: pa.Array | None = None
    schemas: Mapping[str, pa.Schema] = field(default_factory=dict)
    suites: pa.Array | None = None
    """The suite of each of ``asked``."""
    grams: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Of each suite, hashes of the n-grams of its texts."""

    @property
    def compares(self) -> bool:
        """Whether there is anything to compare rows by."""
        return self.asked is not None or bool(self.grams)

    def columns_of(self, rows: pa.Table) -> list[str]:
        """The columns of rows that ``asked_by`` looks at."""
        problems, texts = self.problems, self.problems.texts_of
        names = {*problems.columns, *(texts.columns if texts else ())}
        names |= {rule.column for rule in problems.exhaustible}
        return [name for name in rows.column_names if name in names]

    def asked_by(self, rows: pa.Table) -> pa.Array:
        """Of each row the suite that asks it, by identity or n-grams; null where none does.

        Rows without the identity columns are compared by n-grams alone. Exhaustible ones are none's.
        """
        problems = self.problems
        names = pa.nulls(len(rows), pa.string())
        if self.asked is not None and set(problems.columns) <= set(rows.column_names):
            problems.check_types({**self.schemas, "the generated rows": rows.schema})
            texts = [column_texts(rows[name]) for name in problems.columns]
            where = pc.index_in(pc.binary_join_element_wise(*texts, "\x1f"), value_set=self.asked)
            names = pc.take(self.suites, where.combine_chunks())
        if problems.texts_of is not None:
            by = problems.texts_of
            for suite, shared in overlaps(rows, by.columns, by.ngram, self.grams).items():
                theirs = pc.if_else(pa.array(shared), suite, pa.scalar(None, pa.string()))
                names = pc.coalesce(names, theirs)
        few = pc.fill_null(problems.few(rows), False).combine_chunks()
        return pc.if_else(few, pa.scalar(None, pa.string()), names)

    def is_asked(self, rows: pa.Table, what: str = "samples") -> Any:
        """Which rows the suites ask, a mask, exhaustible ones too; None if they cannot be compared."""
        columns = set(self.problems.columns)
        if not columns or not columns <= set(rows.column_names):
            return None
        self.problems.check_types({**self.schemas, f"the {what}": rows.schema})
        return pc.is_in(self.problems.texts(rows, what.capitalize()), value_set=self.asked)

    def leave_out(self, prompts: pa.Table) -> tuple[pa.Table, int | None]:
        """The prompts that are in no suite, and how many were left out; None if they cannot be compared.

        Exhaustible ones stay.
        """
        is_asked = self.is_asked(prompts, "prompts")
        if is_asked is None:
            return prompts, None
        kept = prompts.filter(pc.or_(pc.invert(is_asked), self.problems.few(prompts)))
        return kept, len(prompts) - len(kept)


def _pairs(suites: Sequence[Suite], *, has_seed: bool) -> Iterator[tuple[Suite, str]]:
    """Suites, each with what it is compared with: the seed samples, and suites of another role."""
    if has_seed:
        yield from ((suite, SEED) for suite in suites)
    for one, other in combinations(suites, 2):
        if one.role != other.role:
            yield other, one.name


def _are_judges(suite: Suite, other: str, suites: Sequence[Suite]) -> bool:
    return {suite.role, *(s.role for s in suites if s.name == other)} == _JUDGES


def _title(name: str) -> str:
    return "Seed samples" if name == SEED else f"The items of suite {name}"


def _kind(kind: pa.DataType) -> str:
    """A type, without differences that do not matter when values are compared."""
    if pa.types.is_integer(kind):
        return "an integer"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "a string"
    if pa.types.is_dictionary(kind):
        return _kind(kind.value_type)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return f"a list of {_kind(kind.value_type)}"
    return str(kind)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
