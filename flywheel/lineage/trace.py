"""Where a sample or a generation came from, down to what people made, and what came of it.

The way up is in the ledger and needs the one batch that a sample is in; the way down reads the corpora
that may have drawn on what is flawed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flywheel.errors import RunError
from flywheel.lineage.forks import Fork, Unread, forks_of
from flywheel.lineage.generation import Which
from flywheel.lineage.graph import Ancestor, Descent, Graph, Node, descend, node
from flywheel.lineage.item_history import ItemHistory, evaluated_suites, item_history
from flywheel.lineage.record import Record
from flywheel.lineage.samples import samples_of
from flywheel.lineage.status import bare
from flywheel.records import Answer, Json
from flywheel.storage import ids
from flywheel.storage.ledger import no_garbage_collection
from flywheel.storage.reader import reread_when_pruned

_LISTED = 5


class TracedSample(Answer, frozen=True):
    """A sample, who made it, and who graded it."""

    id: str
    row: Mapping[str, Any]
    """Its columns: provenance, payload, scores and the decision on it. In JSON beside the other fields."""
    made_by: str | None
    """SHA-256 of the weights that made it; None: people did."""
    made_by_generation: int | None
    """The generation with these weights."""
    recalled: bool
    graded_by: str | None
    """The grader's class, e.g. ``Vote``; None: it was not graded."""

    def json(self) -> dict[str, Json]:
        """The row and the other fields, by name."""
        fields = super().json()
        return {**fields.pop("row"), **fields}


class ScoredBy(Node, frozen=True):
    """A generation with its score on the item."""

    score: float
    """In [0, 1]."""
    opponent: str | None
    """SHA-256 of the weights that it was scored against, if the suite is a duel."""


class TracedItem(Answer, frozen=True):
    """How generations did on an evaluated item."""

    suite: str
    item: str
    champion: int | None
    last_scored: int | None
    """The newest generation on the champion's line that was scored on the item."""
    worse_since: int | None
    """The generation on that line since which it is worse; None: it is not, or see ``worse_between``."""
    worse_between: tuple[int, int] | None
    """Where the score fell, if generations between the two were not scored."""
    not_compared: int
    """Steps of the line that say nothing: its generations were scored against different opponents."""
    scores: tuple[ScoredBy, ...]


class Descendant(Node, frozen=True):
    """A generation that came of what was traced."""

    by: tuple[str, ...]
    """The types of the edges by which it did; ``named``: it is what was traced."""


class SamplesReached(Answer, frozen=True):
    """Samples that came of what was traced."""

    made_in: int
    """The generation in whose turn they were made."""
    rows: int


class Descendants(Answer, frozen=True):
    """What came of what was traced."""

    generations: tuple[Descendant, ...]
    """Those that learned from it."""
    suspect: tuple[Descendant, ...]
    """Those that it reached through soft edges only."""
    samples: tuple[SamplesReached, ...]
    forks: tuple[Fork, ...]
    """Runs beside this one that descend from it."""
    unread: tuple[Unread, ...]
    """Runs beside this one that could not be asked."""


class Trace(Answer, frozen=True):
    """Where something came from, and what came of it; what was not asked for is None, and not in the JSON."""

    run: str
    """Its directory."""
    sample: TracedSample | None = None
    item: TracedItem | None = None
    generation: int | None = None
    """The generation that was traced; None if a sample was."""
    up: tuple[Ancestor, ...] | None = None
    """The generations whose weights it learned from, newest first, itself included."""
    down: Descendants | None = None

    def json(self) -> dict[str, Json]:
        """Its fields by name, without those that were not asked for."""
        fields = {name: value for name, value in super().json().items() if value is not None}
        return {**fields, "sample": self.sample.json()} if self.sample else fields


@reread_when_pruned
@no_garbage_collection()
def trace(
    directory: Path,
    *,
    sample: str | None = None,
    generation: Which | None = None,
    item: str | tuple[str, str] | None = None,
    up: bool = True,
    down: bool = True,
) -> Trace:
    """The ancestors (``up``) and descendants (``down``) of one of three, with typed edges.

    ``sample``: an id or its first characters. ``generation``: a number, ``champion`` or ``last``. ``item``:
    SUITE/ITEM, both of which may have slashes, or the two as a pair; traced from the generation on the
    champion's line since which it is worse, else from the champion; see ``item_history``. Raises RunError
    if there is none.
    """
    record = Record.read(directory)
    state, store = record.state, record.store
    traced: dict[str, Any]
    if sample is not None:
        turn, name = _the_one(directory, ids.find(directory, state, store, sample), sample)
        row = _row(record, turn, name)
        traced = {"sample": row}
        starts = [] if row.made_by_generation is None else [row.made_by_generation]
        reached = partial(descend, store, state, samples={turn: pa.chunked_array([[name]])})
    else:
        scores = None
        if item is not None:
            scores, generation = _item(record, item)
        if generation is None:
            raise RunError("A trace is of a sample, a generation or an item: give one of them.")
        number = record.generation(generation).number
        traced = {"item": scores, "generation": number}
        starts = [number]
        reached = partial(descend, store, state, generations=starts, batches=False)
    return Trace(
        run=str(directory),
        **traced,
        up=tuple(Graph(store, state).ancestors(starts)) if up else None,
        down=_descendants(record, reached()) if down else None,
    )


def _descendants(record: Record, descent: Descent) -> Descendants:
    state, generations = record.state, record.state.generations
    beside = forks_of(record.directory, state, descent)
    learned, suspect = (
        tuple(Descendant(*node(state, generations[n]), by=tuple(by)) for n, by in reached.items())
        for reached in (descent.flawed, descent.suspect)
    )
    return Descendants(
        generations=learned,
        suspect=suspect,
        samples=tuple(
            SamplesReached(ids.made_in(generations[turn]), len(rows))
            for turn, rows in descent.samples.items()
        ),
        forks=beside.forks,
        unread=beside.unread,
    )


def _the_one(directory: Path, samples: list[tuple[int, str]], prefix: str) -> tuple[int, str]:
    if len(samples) == 1:
        return samples[0]
    if not samples:
        raise RunError(f"{directory} has no sample whose id begins with {prefix!r}.")
    names = ", ".join(name for _, name in samples[:_LISTED])
    raise RunError(
        f"Expected the beginning of one sample's id, got {prefix!r}, with which {len(samples)} begin: "
        f"{names} ..."
    )


def _row(record: Record, turn: int, name: str) -> TracedSample:
    generation = record.state.generations[turn]
    rows = samples_of(record.store, record.state, generation)
    (row,) = rows.filter(pc.equal(rows["id"], name)).to_pylist()
    recalled, state_makers = record.table(record.state.recalled), record.state.makers_of(generation)
    return TracedSample(
        id=name,
        row=row,
        made_by=bare(row["made_by"]),
        made_by_generation=state_makers.get(row["made_by"]),
        recalled=recalled is not None and bool(pc.any(pc.equal(recalled["id"], name)).as_py()),
        graded_by=generation.grade.facts.grader if generation.grade else None,
    )


def _item(record: Record, item: str | tuple[str, str]) -> tuple[TracedItem, int]:
    """An item's scores, since when the champion does worse on it, and the generation to trace."""
    suite, name, history = _the_one_item(record, item)
    state = record.state
    champion = history.line[-1] if history.line else None
    answer = TracedItem(
        suite=suite,
        item=name,
        champion=champion,
        last_scored=history.last_scored,
        worse_since=history.worse_since,
        worse_between=history.worse_between,
        not_compared=history.not_compared,
        scores=tuple(
            ScoredBy(*node(state, state.generations[s.generation]), score=s.score, opponent=bare(s.opponent))
            for s in history.scores
        ),
    )
    if history.drop:
        return answer, history.drop[1]
    return answer, history.scores[-1].generation if champion is None else champion


def _readings(item: str, suites: list[str]) -> Iterator[tuple[str, str]]:
    """Each (suite, item) that SUITE/ITEM may mean."""
    for suite in suites:
        if item.startswith(f"{suite}/"):
            yield suite, item.removeprefix(f"{suite}/")


def _the_one_item(record: Record, item: str | tuple[str, str]) -> tuple[str, str, ItemHistory]:
    """Suite, item and history of what was named: slashes may be the suite's, the item's, or between both."""
    known = evaluated_suites(record.state, record.store)
    pairs = [item] if isinstance(item, tuple) else list(_readings(item, known))
    histories = [(*pair, item_history(record.state, record.store, *pair)) for pair in pairs]
    histories = [one for one in histories if one[2].scores]
    if len(histories) == 1:
        return histories[0]
    if histories:
        names = " and ".join(f"{name!r} of suite {suite!r}" for suite, name, _ in histories)
        raise RunError(
            f"SUITE/ITEM must name one item; {item!r} is {names}. In Python, give the pair: "
            f"run.trace(item={histories[0][:2]!r})."
        )
    raise RunError(
        f"No generation of {record.directory} was evaluated on {item!r}; give SUITE/ITEM. Suites that were "
        f"evaluated: {', '.join(known) or 'none'}."
    )
