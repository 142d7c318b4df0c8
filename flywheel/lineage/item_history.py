"""How generations did on one evaluated item, and since which of them the champion does worse on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import pyarrow.compute as pc

from flywheel.storage.state import Generation, RunState
from flywheel.storage.store import Store


@dataclass(frozen=True, slots=True)
class ItemScore:
    """One generation's outcome on the item."""

    generation: int
    score: float
    opponent: str | None
    """Weights that it was scored against, if the suite is a duel."""


@dataclass(frozen=True, slots=True)
class ItemHistory:
    """An item's outcomes, and what they say of the champion."""

    scores: list[ItemScore]
    """Of all generations that were scored on it, in order."""
    line: list[int]
    """The champion's line, oldest first: the champion, its parent, and so on, but for recalled ones."""
    last_scored: int | None
    """The newest on the line that was scored on the item."""
    drop: tuple[int, int] | None
    """The last fall of the score on the line that was not made up for since: the generation before it and the
    one that did worse. Generations between the two were not scored. None: it is not worse now."""
    not_compared: int
    """Steps of the line that say nothing: its generations were scored against different opponents."""

    @property
    def worse_since(self) -> int | None:
        """The generation that did worse; None also if those between it and the one before were not scored."""
        return None if self.drop is None or self.worse_between else self.drop[1]

    @property
    def worse_between(self) -> tuple[int, int] | None:
        """Where the score fell, if some generations between the two were not scored."""
        if self.drop is None or self.line.index(self.drop[1]) - self.line.index(self.drop[0]) == 1:
            return None
        return self.drop


def item_history(state: RunState, store: Store, suite: str, item: str) -> ItemHistory:
    """The outcomes of all generations on an item of a suite; without any where it was never evaluated."""
    scores = [score for g in state.generations for score in _scores(state, store, g, suite, item)]
    line = list(_line(state))[::-1]
    by_number = {score.generation: score for score in scores}
    known = [by_number[number] for number in line if number in by_number]
    steps = [(a, b) for a, b in pairwise(known) if a.opponent == b.opponent]
    drops = [(a, b) for a, b in steps if b.score < a.score and known[-1].score < a.score]
    drops = [(a, b) for a, b in drops if a.opponent == known[-1].opponent]
    return ItemHistory(
        scores=scores,
        line=line,
        last_scored=known[-1].generation if known else None,
        drop=(drops[-1][0].generation, drops[-1][1].generation) if drops else None,
        not_compared=len(known) - 1 - len(steps) if known else 0,
    )


def _line(state: RunState) -> Iterator[int]:
    """The champion, its parent, and so on; what was recalled is not on it."""
    at = state.champion
    while at is not None:
        if not at.recalled:
            yield at.number
        at = None if at.parent is None else state.generations[at.parent]


def evaluated_suites(state: RunState, store: Store) -> list[str]:
    """The names of all suites on which some generation was evaluated, in order."""
    looks = {outcomes for generation in state.generations for outcomes in _looks(state, generation)}
    return sorted({name for look in looks for name in store.table(look)["suite"].unique().to_pylist()})


def _looks(state: RunState, generation: Generation) -> list[str]:
    """The outcomes of a generation, as artifacts, those that count first where an item is in several."""
    sealed = state.sealed.get(generation.number)
    own = [generation.output(stage, "outcomes") for stage in ("evaluate", "screen")]
    return [look for look in (*own, sealed.outputs["outcomes"] if sealed else None) if look is not None]


def _scores(
    state: RunState, store: Store, generation: Generation, suite: str, item: str
) -> Iterator[ItemScore]:
    for outcomes in _looks(state, generation):
        rows = store.table(outcomes)
        mask = pc.and_(pc.equal(rows["suite"], suite), pc.equal(rows["item"], item))
        for row in rows.filter(mask).to_pylist()[:1]:
            score = round(row["score"], 9)  # the last bits of a float are no fall
            yield ItemScore(generation.number, score, row["opponent"])
            return
