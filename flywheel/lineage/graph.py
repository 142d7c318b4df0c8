"""What descends from what: one pass over the generations in order, since edges only go forward.

    hard edges   init (weights -> weights), trained_on (sample -> weights), produced_by (weights -> sample)
    soft edges   graded_by, settings_from, opponent, saw: they chose among data and candidates, but nothing
                 was learned from them. What a curator saw is in the carry that it left.

What hard edges reach from a flaw descends from it; what is reached by soft edges at some point is suspect.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

from flywheel.storage.ids import batch_of
from flywheel.storage.ledger import canonical
from flywheel.storage.sources import drawn_of, seen_of
from flywheel.storage.state import Generation, RunState, Status
from flywheel.storage.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

SOFT = ("graded_by", "settings_from", "opponent", "saw")
EMPTY_CARRY = f"{hashlib.sha256(canonical({})).hexdigest()}.json"
"""The artifact of ``{}``: a part without a carry. Nothing of what was seen is in it."""
_CHOOSERS = ("curator", "tuner")
"""Components whose carries decide what is learned next. A gate's counts comparisons."""


class Level(IntEnum):
    """How a flaw reached something."""

    CLEAN = 0
    SUSPECT = 1
    FLAWED = 2


@dataclass(slots=True)
class Descent:
    """What a flaw reached."""

    flawed: dict[int, list[str]] = field(default_factory=dict)
    """Generations that learned from it, with the types of the edges by which; "named": the flaw itself."""
    suspect: dict[int, list[str]] = field(default_factory=dict)
    """Generations that were reached through a soft edge only."""
    samples: dict[int, pa.ChunkedArray] = field(default_factory=dict)
    """Turn -> ids of the flawed samples in its batch."""
    corpora: dict[int, int] = field(default_factory=dict)
    """Generation -> how many different flawed samples its corpus has."""


def descend(
    store: Store,
    state: RunState,
    *,
    generations: Collection[int] = (),
    batches: bool = True,
    samples: Mapping[int, pa.ChunkedArray] | None = None,
    weights: Iterable[str] = (),
    strict: bool = False,
) -> Descent:
    """What descends from generations (their weights and batches), samples (ids by turn) and weights.

    ``batches``: whether the batches of these generations are flawed, too; their parents made them.
    ``weights`` are artifacts that are flawed whoever made them: another run, say. ``strict``: soft edges
    count as hard ones.
    """
    walk = _Walk(store, state, strict, weights)
    walk.found.samples.update(samples or {})
    for generation in state.generations:
        walk.visit(generation, named=generation.number in generations, with_batch=batches)
    return walk.found


def turns_by_batch(state: RunState) -> dict[str, int]:
    """Artifact of each batch -> the turn that brought it; the human one: the first genesis."""
    turns: dict[str, int] = {}
    for generation in state.generations:
        batch = batch_of(generation)
        if batch is not None:
            turns.setdefault(batch, generation.number)
    return turns


def settings_from(state: RunState, generation: Generation) -> list[int]:
    """The generations that chose a generation's settings: its parent, and who left the carries it began with.

    A genesis has settings of its own, which end with it.
    """
    parent, before = generation.parent, generation.carry_before
    carries = {name: before.artifacts.get(name, EMPTY_CARRY) for name in _CHOOSERS}
    chosen = {before.left_by[name] for name, carry in carries.items() if carry != EMPTY_CARRY}
    if parent is not None and not state.generations[parent].is_genesis:
        chosen.add(parent)
    return sorted(chosen) if generation.stages else []


def seen_by(store: Store, generation: Generation) -> list[str]:
    """The batches, artifacts of samples, that were seen by a curator which left a carry."""
    carry = generation.output("curate", "carry") or EMPTY_CARRY
    return [] if carry == EMPTY_CARRY else seen_of(store, generation)


class _Walk:
    def __init__(self, store: Store, state: RunState, strict: bool, weights: Iterable[str]) -> None:
        self._store, self._state, self._strict = store, state, strict
        self._turns = turns_by_batch(state)
        self._weights = dict.fromkeys(weights, Level.FLAWED)  # the highest level of generations with them
        self._suspect_batches: set[int] = set()
        self.found = Descent()

    def visit(self, generation: Generation, *, named: bool, with_batch: bool) -> None:
        """Find out how the flaw reached a generation. Those before it are known."""
        self._visit_batch(generation, named=named and with_batch)
        edges = {edge: level for edge, level in self._edges(generation) if level}
        level = max(edges.values(), default=Level.CLEAN)
        if named or level is Level.FLAWED or (level and self._strict):
            flawed = [edge for edge, at in edges.items() if at is Level.FLAWED or self._strict]
            self.found.flawed[generation.number] = ["named", *flawed] if named else flawed
        elif level:
            self.found.suspect[generation.number] = list(edges)
        weights, level = generation.weights, self._level(generation.number)
        if weights is not None and level:
            self._weights[weights] = max(level, self._weights.get(weights, level))

    def _visit_batch(self, generation: Generation, *, named: bool) -> None:
        batch = generation.output("generate", "samples")
        if batch is None:  # a genesis: what people made does not descend from it
            return
        by = self._level(generation.parent)
        if named or by is Level.FLAWED:
            self.found.samples[generation.number] = self._ids(generation.number)
        elif by is Level.SUSPECT:
            self._suspect_batches.add(generation.number)

    def _ids(self, turn: int) -> pa.ChunkedArray:
        """Ids of the samples that a turn brought."""
        batch = str(batch_of(self._state.generations[turn]))
        return self._store.table(self._state.resolve_pruned(batch), ["id"])["id"]

    def _edges(self, generation: Generation) -> Iterator[tuple[str, Level]]:
        parent = self._level(generation.parent)
        yield "init", self._init(generation)
        yield "trained_on", self._corpus(generation)
        if generation.status is Status.UNFINISHED:  # whatever it makes will be made of what its parent made
            yield "produced_by", parent
        soft = min(parent, Level.SUSPECT)
        if "grade" in generation.stages:
            yield "graded_by", soft
        if "gate" in generation.stages:
            yield "opponent", soft
        chosen = settings_from(self._state, generation)
        yield "settings_from", min(max(map(self._level, chosen), default=Level.CLEAN), Level.SUSPECT)
        yield "saw", Level.SUSPECT if self._saw(generation) else Level.CLEAN

    def _init(self, generation: Generation) -> Level:
        if generation.training_event is None:
            return Level.CLEAN
        if generation.init == "parent":
            return self._level(generation.parent)
        start = generation.training_event["inputs"].get(f"starts.{generation.init}")
        return self._weights.get(str(start), Level.CLEAN)

    def _corpus(self, generation: Generation) -> Level:
        corpus = generation.output("curate", "corpus")
        if corpus is None or not (self.found.samples or self._suspect_batches):
            return Level.CLEAN
        turns = [self._turns[batch] for batch in drawn_of(self._store, generation)]
        touched = [self.found.samples[turn] for turn in turns if turn in self.found.samples]
        drawn = self._drawn(corpus, touched) if touched else 0
        if drawn:
            self.found.corpora[generation.number] = drawn
            return Level.FLAWED
        return Level.SUSPECT if self._suspect_batches.intersection(turns) else Level.CLEAN

    def _saw(self, generation: Generation) -> bool:
        """Whether its curator decided on a flawed or suspect sample, and left a carry."""
        if not (self.found.samples or self._suspect_batches):
            return False
        seen = [self._turns[batch] for batch in seen_by(self._store, generation)]
        reached = [turn for turn in seen if turn in self.found.samples or turn in self._suspect_batches]
        hidden = generation.stages["curate"]["inputs"].get("recalled") if reached else None
        return any(self._shows(turn, hidden) for turn in reached)

    def _shows(self, turn: int, hidden: str | None) -> bool:
        """Whether of a turn's flawed or suspect samples any is not among those hidden from the curator."""
        import pyarrow.compute as pc

        if hidden is None:
            return True
        ids = self._ids(turn) if turn in self._suspect_batches else self.found.samples[turn]
        recalled = self._store.table(hidden)["id"].combine_chunks()
        return not pc.all(pc.is_in(ids, value_set=recalled)).as_py()

    def _drawn(self, corpus: str, flawed: list[pa.ChunkedArray]) -> int:
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted = pa.concat_arrays([chunk for column in flawed for chunk in column.chunks])
        return int(pc.sum(pc.is_in(self._store.table(corpus, ["id"])["id"], value_set=wanted)).as_py() or 0)

    def _level(self, number: int | None) -> Level:
        if number in self.found.flawed:
            return Level.FLAWED
        return Level.SUSPECT if number in self.found.suspect else Level.CLEAN
