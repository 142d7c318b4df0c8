"""Curate batch by batch: a curator that decides on each row by itself needs no table of all rows.

Batches are read some thousand rows at a time, and only the columns that somebody looks at, so memory does not
grow with the corpus, but for 16 bytes a kept row by which later rows are compared. Decisions are recorded
where they are made: a turn goes on from where an earlier one has come to, decides on the batches that are
new, and names the parts of the corpus that stay. What it comes to is the same as if it had decided on all of
them again; and so it does if the curator, its settings or what is recalled have changed since.
"""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import replace
from pyarrow import types

from flywheel.config.fingerprint import fingerprint
from flywheel.errors import DataError, StageFailed
from flywheel.runtime.context import Context, StageOutput, carry_of
from flywheel.stages.decisions import (
    checked,
    drawn_more,
    draws_needed,
    dropped,
    no_human_rows,
    without_leaks,
)
from flywheel.storage.corpus import Decided, Part, Stream, parts_of, read_stream, stream
from flywheel.storage.events import CurateFacts
from flywheel.storage.ledger import canonical
from flywheel.storage.parquet import PIECE_ROWS, TableWriter
from flywheel.storage.sources import Source
from flywheel.storage.store import Store, Stored
from flywheel.tables import DECISIONS, counts_of
from flywheel.tables.row_keys import DUPLICATE, KeySet, repeated

CHOSEN = pa.schema([DECISIONS.field(name) for name in ("id", "weight", "count")])
_HUMAN = "human"


def curate_stream(
    ctx: Context,
    curator: Any,
    sources: Sequence[Source],
    *,
    recalled: str | None,
    like: str | None,
    after: str | None,
) -> StageOutput:
    """What ``stages.curate`` comes to with a curator that has ``decide``; decisions on new batches alone."""
    version = fingerprint(ctx.components, "curator", ctx.settings)
    before = _go_on(ctx.store, sources, after, version, recalled)
    fold = _Fold(ctx, curator, before, recalled)
    new = sources[len(before.decided) :]
    with (
        ctx.store.table_writer() as decisions,
        ctx.store.table_writer() as kept,
        ThreadPoolExecutor(1) as pool,
    ):
        decisions.write(DECISIONS.empty_table())
        kept.write(CHOSEN.empty_table())
        decided = [fold.decide(source, decisions, kept, _Behind(pool)) for source in new]
    decided = [*before.decided, *(replace(d, part=replace(d.part, table=kept.name)) for d in decided)]
    keys, outputs = fold.put_keys()
    end = Stream(
        curator=version, recalled=recalled, types=fold.types, decided=tuple(decided), keys=tuple(keys)
    )
    parts = [one.part for one in decided if one.part.rows]
    if not parts:
        why = "all samples of its sources are recalled" if not fold.rows and new else "no sample was kept"
        raise StageFailed("curate", f"the corpus is empty: {why}")
    least = ctx.components.resolved["human_share"]
    parts, drawn_again = _drawn(ctx.store, parts, like, least)
    outputs |= {"decisions": Stored(decisions.name), "kept": Stored(kept.name), **drawn_again}
    outputs |= {"corpus": msgspec.to_builtins(parts), "stream": msgspec.to_builtins(end)}
    outputs |= {"sources": [[*one.source, one.part.rows] for one in decided if one.kept]}
    carry, carry_kept = carry_of(curator, {})
    facts = CurateFacts(
        corpus=hashlib.sha256(canonical([[part.digest, part.rows] for part in parts])).hexdigest(),
        rows=sum(part.rows for part in parts),
        by_origin=_totals({part.origin: part.rows} for part in parts),
        by_reason=_totals(one.reasons for one in decided),
        leaked=sum(one.leaked for one in decided),
        human_share=None if least is None else round(_draws(parts, human=True) / _draws(parts), 9),
        carry_kept=carry_kept,
    )
    return StageOutput({**outputs, **carry}, facts)


def _go_on(
    store: Store, sources: Sequence[Source], after: str | None, version: str | None, recalled: str | None
) -> Stream:
    """How far an earlier turn has come with the first of these sources; nowhere if that cannot be used.

    A batch of which nothing was kept has left no trace, so it may be missing from the sources.
    """
    start = Stream(curator=version, recalled=recalled, types={}, decided=(), keys=())
    if after is None or version is None:
        return start
    earlier = read_stream(store, after)
    if (earlier.curator, earlier.recalled) != (version, recalled):
        return start
    known, decided = list(map(tuple, sources)), list[Decided]()
    for one in earlier.decided:
        if len(decided) < len(known) and one.source == known[len(decided)]:
            decided.append(one)
        elif one.kept:
            return start  # what it left in the keys cannot be taken out
    if not all(store.path(name).exists() for name in earlier.keys):  # they were pruned
        return start
    return replace(earlier, decided=tuple(decided))


@dataclass
class _Fold:
    """Decides on one batch after the other, and knows the rows that were kept so far."""

    ctx: Context
    curator: Any
    before: Stream
    recalled: str | None
    rows: int = 0
    """Decided on, not counting what was decided on before."""
    types: dict[str, str] = field(default_factory=dict)
    """Of the columns by which rows are compared."""

    def __post_init__(self) -> None:
        self.types |= self.before.types
        self._unique = list(getattr(self.curator, "unique", ()))
        self._known = KeySet([self.ctx.store.array(name) for name in self.before.keys])
        recalled = self.ctx.store.table(self.recalled)["id"] if self.recalled else None
        self._recalled = None if recalled is None else recalled.combine_chunks()
        asked = self.ctx.data.asked
        texts = asked.problems.texts_of
        compared = {*asked.problems.columns, *(rule.column for rule in asked.problems.exhaustible)}
        self._columns = {*self.curator.columns, *self._unique}
        self._columns |= compared | set(texts.columns if texts else ()) if asked.compares else set()

    def decide(self, source: Source, decisions: TableWriter, kept: TableWriter, behind: _Behind) -> Decided:
        """Decide on a batch, and write what comes of it; which table that will be is not known yet."""
        first, digest, reasons = kept.rows, _Digest(), Counter[str]()
        any_kept = draws = leaked = 0
        origin = "generated"

        def write(chosen: pa.Table, drawn: pa.Table) -> None:
            decisions.write(chosen)
            kept.write(drawn)
            digest.update(drawn)

        for rows in _ahead(self._pieces(source)):
            origin = rows["origin"][0].as_py()
            chosen, leaks = self._decisions(rows)
            drawn = chosen.filter(pc.greater(chosen["count"], 0)).select(CHOSEN.names)
            behind.do(functools.partial(write, chosen, drawn))
            reasons.update(counts_of(chosen["reason"]))
            self.rows, leaked = self.rows + len(rows), leaked + leaks
            any_kept += pc.sum(chosen["keep"]).as_py() or 0
            draws += pc.sum(drawn["count"]).as_py() or 0
        behind.wait()
        part = Part(
            table="",
            first=first,
            rows=kept.rows - first,
            draws=draws,
            origin=origin,
            digest=digest.hexdigest(),
        )
        return Decided(source=tuple(source), part=part, kept=any_kept, reasons=dict(reasons), leaked=leaked)

    def _pieces(self, source: Source) -> Iterator[pa.Table]:
        for piece in stream(self.ctx.store, source, self._columns, PIECE_ROWS):
            if self._recalled is None:
                yield piece
            elif len(rows := piece.filter(pc.invert(pc.is_in(piece["id"], value_set=self._recalled)))):
                yield rows

    def _decisions(self, rows: pa.Table) -> tuple[pa.Table, int]:
        """What is decided on some rows, and how many a suite asks."""
        decisions = checked(self.curator.decide(rows), rows)
        decisions, leaked = without_leaks(decisions, rows, self.ctx.data.asked)
        if not self._unique:
            return decisions, leaked
        self._check_types(rows)
        again = repeated(rows, self._unique, decisions["keep"].to_numpy(), self._known)
        return (dropped(decisions, again, DUPLICATE) if again.any() else decisions), leaked

    def _check_types(self, rows: pa.Table) -> None:
        """Raise DataError if values of a column cannot be compared with those before."""
        for column in (rows.schema.field(name) for name in self._unique if name in rows.column_names):
            kind = "integer" if types.is_integer(column.type) else str(column.type)
            known = self.types.setdefault(column.name, kind) if kind != "null" else kind
            if known != kind:
                raise DataError(
                    f"A column must have types that go together in all batches: {column.name!r} is {known} "
                    f"and {kind}."
                )

    def put_keys(self) -> tuple[list[str], dict[str, Any]]:
        """The artifacts of all keys, and the one among them that is an output of this turn, if any is new."""
        stay, own = self._known.settled()
        names = list(self.before.keys[:stay])
        if not own.size:
            return names, {}
        name = self.ctx.store.put_array(own)
        return [*names, name], {"keys": Stored(name)}


def _drawn(
    store: Store, parts: Sequence[Part], like: str | None, least: float | None
) -> tuple[list[Part], dict[str, Stored]]:
    """The parts, with rows drawn more often as ``stages.curate`` says; and the table of those, if any is."""
    factors = {}
    if like is not None and (factor := _factor_like(parts, parts_of(store, like))) > 1:
        factors["generated"] = factor
    own, others = (_draws(parts, human=human) for human in (True, False))
    others = int(np.floor(others * factors.get("generated", 1.0) + 1e-6))
    if least is not None and others:
        if not own:
            raise no_human_rows(least)
        if (needed := draws_needed(others, least)) > own:
            factors[_HUMAN] = needed / own
    if not any(part.origin in factors for part in parts):
        return list(parts), {}
    drawn, sums = list[Part](), Counter[str]()
    with store.table_writer() as writer:
        for part in parts:
            more = factors.get(part.origin)
            drawn.append(part if more is None else _larger(store, part, more, sums[part.origin], writer))
            sums[part.origin] += part.draws
    drawn = [replace(part, table=part.table or writer.name) for part in drawn]
    return drawn, {"drawn": Stored(writer.name)}


def _larger(store: Store, part: Part, factor: float, before: int, writer: TableWriter) -> Part:
    """A part with its rows drawn more often; the table that the writer makes has no name yet."""
    rows = store.table(part.table).slice(part.first, part.rows)
    counts = drawn_more(rows["count"].to_numpy(), factor, before)
    rows = pa.table({**{name: rows[name] for name in CHOSEN.names}, "count": counts}).cast(CHOSEN)
    digest, first = _Digest(), writer.rows
    digest.update(rows)
    writer.write(rows)
    return replace(part, table="", first=first, draws=int(counts.sum()), digest=digest.hexdigest())


def _factor_like(parts: Sequence[Part], before: Sequence[Part]) -> float:
    """How much more often generated rows are to be drawn for human ones to have the share that they had."""
    now, others_now, then, others_then = (
        _draws(some, human=human) for some in (parts, before) for human in (True, False)
    )
    if not (now and then and others_now and others_then):
        return 1.0
    return float(now * others_then / (then * others_now))


def _draws(parts: Iterable[Part], *, human: bool | None = None) -> int:
    """Draws of all parts, or of those that people made, or of the others."""
    return sum(part.draws for part in parts if human is None or (part.origin == _HUMAN) is human)


def _totals(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total = Counter[str]()
    for some in counts:
        total.update(some)
    return dict(total)


class _Digest:
    """SHA-256 of the SHA-256 of ids, weights and counts: whatever portions of rows they come in."""

    def __init__(self) -> None:
        self._columns = {name: hashlib.sha256() for name in CHOSEN.names}

    def update(self, rows: pa.Table) -> None:
        """Add rows."""
        for name, kind in (("weight", "<f8"), ("count", "<i4")):
            self._columns[name].update(rows[name].to_numpy().astype(kind).tobytes())
        for chunk in (chunk for chunk in rows["id"].chunks if len(chunk)):
            _, offsets, data = chunk.buffers()
            ends = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
            self._columns["id"].update(data[int(ends[0]) : int(ends[-1])])

    def hexdigest(self) -> str:
        """Of all rows that were added."""
        return hashlib.sha256(b"".join(one.digest() for one in self._columns.values())).hexdigest()


class _Behind:
    """Does one thing after the other in a thread, while the next is prepared; so it raises late."""

    def __init__(self, pool: Executor) -> None:
        self._pool = pool
        self._last: Future[Any] | None = None

    def do(self, work: Callable[[], None]) -> None:
        """Do it once what came before is done."""
        self.wait()
        self._last = self._pool.submit(work)

    def wait(self) -> None:
        """Until all is done."""
        if self._last is not None:
            self._last.result()


def _ahead(pieces: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same, but the next one is read in a thread while one is worked on."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, pieces, None)
        while (piece := coming.result()) is not None:
            coming = pool.submit(next, pieces, None)
            yield piece
