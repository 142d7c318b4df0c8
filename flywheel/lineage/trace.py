"""Where a sample or a generation came from, down to what people made, and what came of it.

The way up is in the ledger and needs the one batch that a sample is in; the way down reads the corpora
that may have drawn on what is flawed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flywheel.errors import RunError
from flywheel.lineage.forks import Fork, Unread, forks_of
from flywheel.lineage.generation import Which, find_generation
from flywheel.lineage.graph import Ancestor, Graph, Node, descend, node
from flywheel.lineage.item_history import ItemHistory, evaluated_suites, item_history
from flywheel.lineage.samples import samples
from flywheel.lineage.status import bare, read_state
from flywheel.records import Answer, Json
from flywheel.storage import ids
from flywheel.storage.ledger import no_garbage_collection
from flywheel.storage.reader import reread_when_pruned
from flywheel.storage.state import RunState
from flywheel.storage.store import Store

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
    state, store = read_state(directory), Store(directory)
    ask = _Question(directory, state, store, up, down)
    if sample is not None:
        turn, name = _the_one(directory, ids.find(directory, state, store, sample), sample)
        row = _row(directory, state, turn, name)
        maker = row.made_by_generation
        return ask.answer([] if maker is None else [maker], (turn, name), sample=row)
    scored = None
    if item is not None:
        scored, generation = _item(directory, state, store, item)
    if generation is None:
        raise RunError("A trace is of a sample, a generation or an item: give one of them.")
    number = find_generation(directory, state, generation).number
    return ask.answer([number], None, item=scored, generation=number)


@dataclass(frozen=True, slots=True)
class _Question:
    """A run, and which ways to go."""

    directory: Path
    state: RunState
    store: Store
    up: bool
    down: bool

    def answer(self, starts: list[int], flaw: tuple[int, str] | None, **of: Any) -> Trace:
        ancestors = tuple(Graph(self.store, self.state).ancestors(starts)) if self.up else None
        came_of_it = self._descendants(starts, flaw) if self.down else None
        return Trace(str(self.directory), **of, up=ancestors, down=came_of_it)

    def _descendants(self, starts: list[int], flaw: tuple[int, str] | None) -> Descendants:
        import pyarrow as pa

        state, generations = self.state, self.state.generations
        if flaw:
            named = {flaw[0]: pa.chunked_array([[flaw[1]]])}
            affected = descend(self.store, state, samples=named)
        else:
            affected = descend(self.store, state, generations=starts, batches=False)
        beside = forks_of(self.directory, state, affected)
        learned, suspect = (
            tuple(Descendant(*node(state, generations[n]), by=tuple(by)) for n, by in reached.items())
            for reached in (affected.flawed, affected.suspect)
        )
        return Descendants(
            generations=learned,
            suspect=suspect,
            samples=tuple(
                SamplesReached(ids.made_in(generations[turn]), len(rows))
                for turn, rows in affected.samples.items()
            ),
            forks=beside.forks,
            unread=beside.unread,
        )


def _the_one(directory: Path, found: list[tuple[int, str]], prefix: str) -> tuple[int, str]:
    if len(found) == 1:
        return found[0]
    if not found:
        raise RunError(f"{directory} has no sample whose id begins with {prefix!r}.")
    names = ", ".join(name for _, name in found[:_LISTED])
    raise RunError(
        f"Expected the beginning of one sample's id, got {prefix!r}, with which {len(found)} begin: "
        f"{names} ..."
    )


def _row(directory: Path, state: RunState, turn: int, name: str) -> TracedSample:
    rows = samples(directory, state, turn)
    row = rows.slice(rows["id"].to_pylist().index(name), 1).to_pylist()[0]
    generation = state.generations[turn]
    return TracedSample(
        id=name,
        row=row,
        made_by=bare(row["made_by"]),
        made_by_generation=None if row["origin"] == "human" else generation.parent,
        recalled=_recalled(directory, state, name),
        graded_by=generation.grade.facts.grader if generation.grade else None,
    )


def _recalled(directory: Path, state: RunState, name: str) -> bool:
    import pyarrow.compute as pc

    if state.recalled is None:
        return False
    return bool(pc.any(pc.equal(Store(directory).table(state.recalled)["id"], name)).as_py())


def _item(
    directory: Path, state: RunState, store: Store, item: str | tuple[str, str]
) -> tuple[TracedItem, int]:
    """An item's scores, since when the champion does worse on it, and the generation to trace."""
    suite, name, history = _the_one_item(directory, state, store, item)
    item_answer = TracedItem(
        suite=suite,
        item=name,
        champion=history.line[-1] if history.line else None,
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
        return item_answer, history.drop[1]
    return item_answer, history.line[-1] if history.line else history.scores[-1].generation


def _readings(item: str, suites: list[str]) -> Iterator[tuple[str, str]]:
    """Each (suite, item) that SUITE/ITEM may mean."""
    for suite in suites:
        if item.startswith(f"{suite}/"):
            yield suite, item.removeprefix(f"{suite}/")


def _the_one_item(
    directory: Path, state: RunState, store: Store, item: str | tuple[str, str]
) -> tuple[str, str, ItemHistory]:
    """Suite, item and history of what was named: slashes may be the suite's, the item's, or between both."""
    known = evaluated_suites(state, store)
    pairs = [item] if isinstance(item, tuple) else list(_readings(item, known))
    histories = [(suite, name, item_history(state, store, suite, name)) for suite, name in pairs]
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
        f"No generation of {directory} was evaluated on {item!r}; give SUITE/ITEM. Suites that were "
        f"evaluated: {', '.join(known) or 'none'}."
    )
