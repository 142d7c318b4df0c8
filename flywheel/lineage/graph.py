"""What was made from what: the typed edges of a run (law 4), computed here for every question.

``Graph`` gives a generation's edges to what it was made from; ``descend`` follows them from a flaw in one
pass over the generations in order, since edges only go forward.

    hard edges   init (weights -> weights), trained_on (sample -> weights), produced_by (weights -> sample)
    soft edges   graded_by, settings_from, opponent, saw: they chose among data and candidates, but nothing
                 was learned from them. What a curator saw is in the carry that it left; what trials saw is in
                 the settings that were chosen by them.

What hard edges reach from a flaw descends from it; what is reached by soft edges at some point is suspect.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.lineage.status import bare, is_untested
from flywheel.records import Answer
from flywheel.storage.events import StageDone
from flywheel.storage.ids import batch_of, made_in
from flywheel.storage.ledger import canonical
from flywheel.storage.sources import drawn_of, given_to
from flywheel.storage.state import Generation, RunState, Status
from flywheel.storage.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

EMPTY_CARRY = f"{hashlib.sha256(canonical({})).hexdigest()}.json"
"""The artifact of ``{}``: a part without a carry. Nothing of what was seen is in it."""
_CHOOSERS = ("curator", "tuner")
"""Components whose carries decide what is learned next. A gate's counts comparisons."""


class Init(Answer, frozen=True, kw_only=True):
    """The weights that a generation's fit began from."""

    type: str = "init"
    init: str
    """The kind of start, e.g. ``parent``, ``base`` or ``fresh``."""
    generation: int | None
    """The first generation that had these weights; None: they are from elsewhere, or drawn anew."""
    weights: str | None
    """SHA-256 of the weights; None: ``fresh``."""
    forked_from: str | None
    """``RECIPE/NAME@GENERATION`` of another run, where a fork began."""


class TrainedOn(Answer, frozen=True, kw_only=True):
    """The corpus that a generation was given."""

    type: str = "trained_on"
    corpus: str
    """Hash of its sample ids in order."""
    by_origin: Mapping[str, int]
    """Rows by origin, e.g. ``{"human": 40, "generated": 20}``."""


class ProducedBy(Answer, frozen=True, kw_only=True):
    """A batch of which a generation's corpus has rows, and one of those who made these."""

    type: str = "produced_by"
    generation: int | None
    """The generation whose weights made them; None: people did, or weights from elsewhere."""
    made_in: int
    """The generation in whose turn they were made; 0 for what people made."""
    samples: str
    """SHA-256 of the batch."""
    weights: str | None = None
    """SHA-256 of the weights from elsewhere, a rival's, that made them; None: none did."""


class GradedBy(Answer, frozen=True, kw_only=True):
    """What scored the turn's batch, or checked some of it in an audit."""

    type: str = "graded_by"
    stage: str
    """``grade`` or ``audit``."""
    grader: str
    """Its class, e.g. ``Vote``."""
    weights: str | None
    """SHA-256 of the weights with which it scored; None: with none."""


class SettingsFrom(Answer, frozen=True, kw_only=True):
    """A generation that chose settings: the parent, who left a carry, or whom a refit repeats."""

    type: str = "settings_from"
    generation: int


class Opponent(Answer, frozen=True, kw_only=True):
    """A generation that the candidate was compared with: on dev, where it was screened, or by the gate."""

    type: str = "opponent"
    generation: int


class Saw(Answer, frozen=True, kw_only=True):
    """The batches that were seen by a curator which left a carry, or by trials."""

    type: str = "saw"
    made_in: tuple[int, ...]
    """The generations in whose turns they were made."""


Edge = Init | TrainedOn | ProducedBy | GradedBy | SettingsFrom | Opponent | Saw


class Graph:
    """The edges of a run, each computed when it is asked for: some need an artifact, or a line parsed."""

    def __init__(self, store: Store, state: RunState) -> None:
        self.store, self.state = store, state

    @cached_property
    def turns(self) -> dict[str, int]:
        """Artifact of each batch -> the turn that brought it."""
        return turns_by_batch(self.state)

    @cached_property
    def _first_with(self) -> dict[str, int]:
        """Weights -> the first generation that has them."""
        first: dict[str, int] = {}
        for generation in self.state.generations:
            weights = generation.output("train", "weights") or generation.output("adopt", "weights")
            if weights is not None:
                first.setdefault(weights, generation.number)
        return first

    def edges(self, generation: Generation) -> list[Edge]:
        """All edges from a generation to what it was made from."""
        edges: list[Edge | None] = [self.init(generation), self.trained_on(generation)]
        edges += self.produced_by(generation)
        edges += self.graded_by(generation)
        edges += self.settings_from(generation)
        edges += [*self.opponents(generation), self.saw(generation)]
        return [edge for edge in edges if edge is not None]

    def ancestor(self, generation: Generation) -> Ancestor:
        """A generation with its edges."""
        return Ancestor(*node(self.state, generation), edges=tuple(self.edges(generation)))

    def ancestors(self, starts: Iterable[int]) -> Iterator[Ancestor]:
        """The generations whose weights these ones learned from, newest first, themselves included."""
        numbers = set(starts)
        for generation in reversed(self.state.generations):
            if generation.number in numbers:
                ancestor = self.ancestor(generation)
                makers = (edge.generation for edge in ancestor.edges if isinstance(edge, Init | ProducedBy))
                numbers.update(number for number in makers if number is not None)
                yield ancestor

    def init(self, generation: Generation) -> Init | None:
        """What its fit began from; None before that."""
        start = generation.start
        if start is None:
            return None
        whose = start.origin if isinstance(start.origin, int) else self._first_with.get(str(start.weights))
        return Init(
            init=start.kind,
            generation=whose if whose is not None and whose < generation.number else None,
            weights=bare(start.weights),
            forked_from=start.origin if isinstance(start.origin, str) else None,
        )

    def trained_on(self, generation: Generation) -> TrainedOn | None:
        """Its corpus; None without."""
        if generation.curate is None:
            return None
        facts = generation.curate.facts
        return TrainedOn(corpus=facts.corpus, by_origin=facts.by_origin)

    def produced_by(self, generation: Generation) -> list[ProducedBy]:
        """The batches that its corpus drew on, and their makers."""
        turns = (self.state.generations[turn] for turn in self.drawn_turns(generation))
        return [edge for turn in turns for edge in self._producers(generation, turn)]

    def drawn_turns(self, generation: Generation) -> list[int]:
        """The turns that brought the batches of which its corpus has rows."""
        return [self.turns[batch] for batch in drawn_of(self.store, generation)]

    def _producers(self, generation: Generation, turn: Generation) -> list[ProducedBy]:
        """Who made the rows of a turn's batch that a generation's corpus has."""
        makers = self.state.makers_of(turn)
        if turn.rivals:
            drawn = self._made_by(generation, turn)
            makers = {weights: maker for weights, maker in makers.items() if weights in drawn}
        samples = str(batch_of(turn)).partition(".")[0]
        return [
            ProducedBy(
                generation=maker,
                made_in=made_in(turn),
                samples=samples,
                weights=bare(weights) if weights and maker is None else None,
            )
            for weights, maker in (makers or {"": None}).items()
        ]

    def _made_by(self, generation: Generation, turn: Generation) -> set[str]:
        """The weights that made those rows of a turn's batch that are in a generation's corpus."""
        import pyarrow.compute as pc

        from flywheel.storage.corpus import read_chosen

        batch = self.store.table(self.state.resolve_pruned(str(batch_of(turn))), ["id", "made_by"])
        corpus = read_chosen(self.store, str(generation.output("curate", "corpus")))["id"].combine_chunks()
        return set(batch.filter(pc.is_in(batch["id"], value_set=corpus))["made_by"].to_pylist())

    def graded_by(self, generation: Generation) -> list[GradedBy]:
        """Who graded its turn's batch, and who audited it."""
        done: list[StageDone[Any] | None] = [generation.grade, generation.audit]
        return [
            GradedBy(stage=one.stage, grader=one.facts.grader, weights=bare(one.facts.loaded_parent))
            for one in filter(None, done)
        ]

    def opponents(self, generation: Generation) -> list[Opponent]:
        """Whom it was compared with: on dev, where it was screened, and at a gate the champion."""
        screen, champion = generation.screen, generation.champion
        others = {one.generation for one in screen.facts.against} if screen else set()
        others |= {champion} if generation.gate and champion is not None else set()
        return [Opponent(generation=number) for number in sorted(others)]

    def settings_from(self, generation: Generation) -> list[SettingsFrom]:
        """The generations that chose its settings: its parent, and whose carries and trials it was given.

        A genesis has settings of its own, which end with it. A refit has those of the champion.
        """
        parent, before = generation.parent, generation.carry_before
        carries = {name: before.artifacts.get(name, EMPTY_CARRY) for name in _CHOOSERS}
        chosen = {before.left_by[name] for name, carry in carries.items() if carry != EMPTY_CARRY}
        if parent is not None and not self.state.generations[parent].is_genesis:
            chosen.add(parent)
        if generation.refit_of is not None:
            chosen.add(generation.refit_of)
        prior = generation.tune.inputs.get("prior") if generation.tune else None
        chosen.update(number for number, _ in (self.store.json(prior) if prior else ()))
        return [SettingsFrom(generation=number) for number in sorted(chosen)] if generation.stages else []

    def saw(self, generation: Generation) -> Saw | None:
        """What its curator saw, if that left a carry, and its trials."""
        turns = self.seen_turns(generation)
        return Saw(made_in=tuple(made_in(self.state.generations[turn]) for turn in turns)) if turns else None

    def seen_turns(self, generation: Generation) -> list[int]:
        """The turns that brought the batches which its curator saw, if that left a carry, or its trials."""
        turns = (self.turns_given(stage) for stage in self.seers(generation))
        return list(dict.fromkeys(itertools.chain.from_iterable(turns)))

    def seers(self, generation: Generation) -> list[StageDone[Any]]:
        """The stages that left something in which is what they saw: a curator's carry, trials."""
        has_carry = (generation.output("curate", "carry") or EMPTY_CARRY) != EMPTY_CARRY
        seers = [generation.tune if generation.output("tune", "trials") and generation.tune else None]
        return list(filter(None, [*seers, generation.curate if has_carry else None]))

    def turns_given(self, stage: StageDone[Any]) -> list[int]:
        """The turns that brought the batches which a stage was given."""
        return [self.turns[batch] for batch in given_to(self.store, stage)]


class Node(Answer, frozen=True):
    """A generation in an answer about lineage."""

    generation: int
    parent: int | None
    """The generation that made its data; None: a genesis."""
    status: str
    """``unfinished``, ``promoted``, ``rejected``, ``advanced``, ``failed`` or ``final``."""
    reason: str
    """The verdict's sentence, or why it failed; empty until then."""
    recalled: bool
    suspect: bool
    abandoned: bool
    """It had advanced when the frontier fell back to the champion."""
    untested: bool
    """It became champion without a test, by ``promotion=greedy``."""
    weights: str | None
    """SHA-256 of its weights; None: it was not trained."""
    pruned: bool
    """Whether these are gone by policy."""


class Ancestor(Node, frozen=True):
    """A generation with its typed edges to what it was made from."""

    edges: tuple[Edge, ...]


class Lineage(Answer, frozen=True):
    """Every generation of a run with what it was made from."""

    run: str
    generations: tuple[Ancestor, ...]


def node(
    state: RunState, generation: Generation
) -> tuple[int, int | None, str, str, bool, bool, bool, bool, str | None, bool]:
    """The fields of a generation's ``Node``."""
    g = generation
    flags = (g.recalled, g.suspect, g.abandoned, is_untested(g, state))
    return g.number, g.parent, str(g.status), g.reason, *flags, bare(g.weights), g.weights in state.pruned


def lineage(directory: Path, state: RunState) -> Lineage:
    """Each generation with its typed edges to what made it."""
    graph = Graph(Store(directory), state)
    return Lineage(str(directory), tuple(graph.ancestor(g) for g in state.generations))


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
    walk.descent.samples.update(samples or {})
    for generation in state.generations:
        walk.visit(generation, named=generation.number in generations, with_batch=batches)
    return walk.descent


def turns_by_batch(state: RunState) -> dict[str, int]:
    """Artifact of each batch -> the turn that brought it; the human one: the first genesis."""
    turns: dict[str, int] = {}
    for generation in state.generations:
        batch = batch_of(generation)
        if batch is not None:
            turns.setdefault(batch, generation.number)
    return turns


class _Walk:
    def __init__(self, store: Store, state: RunState, strict: bool, weights: Iterable[str]) -> None:
        self._store, self._state, self._strict = store, state, strict
        self._graph = Graph(store, state)
        # The highest level of generations with such weights.
        self._weights = dict.fromkeys(map(bare, weights), Level.FLAWED)
        self._suspect_batches: set[int] = set()
        self.descent = Descent()

    def visit(self, generation: Generation, *, named: bool, with_batch: bool) -> None:
        """Find out how the flaw reached a generation. Those before it are known."""
        self._visit_batch(generation, named=named and with_batch)
        edges = {edge: level for edge, level in self._edges(generation) if level}
        level = max(edges.values(), default=Level.CLEAN)
        if named or level is Level.FLAWED or (level and self._strict):
            flawed = [edge for edge, at in edges.items() if at is Level.FLAWED or self._strict]
            self.descent.flawed[generation.number] = ["named", *flawed] if named else flawed
        elif level:
            self.descent.suspect[generation.number] = list(edges)
        weights, level = bare(generation.weights), self._level(generation.number)
        if weights is not None and level:
            self._weights[weights] = max(level, self._weights.get(weights, level))

    def _visit_batch(self, generation: Generation, *, named: bool) -> None:
        batch = generation.output("generate", "samples")
        if batch is None:  # a genesis: what people made does not descend from it
            return
        levels = {
            weights: self._weights.get(bare(weights), Level.CLEAN) if maker is None else self._level(maker)
            for weights, maker in self._state.makers_of(generation).items()
        }
        flawed = [weights for weights, level in levels.items() if level is Level.FLAWED]
        if named or len(flawed) == len(levels):
            self.descent.samples[generation.number] = self._ids(generation.number)
        elif flawed:
            known = self.descent.samples.get(generation.number)
            self.descent.samples[generation.number] = self._ids(generation.number, flawed, known)
        if Level.SUSPECT in levels.values():
            self._suspect_batches.add(generation.number)

    def _ids(
        self, turn: int, made_by: Collection[str] | None = None, others: pa.ChunkedArray | None = None
    ) -> pa.ChunkedArray:
        """Ids of the samples that a turn brought; of those that some weights made alone, and others."""
        import pyarrow as pa
        import pyarrow.compute as pc

        batch = self._state.resolve_pruned(str(batch_of(self._state.generations[turn])))
        if made_by is None:
            return self._store.table(batch, ["id"])["id"]
        rows = self._store.table(batch, ["id", "made_by"])
        wanted = pc.is_in(rows["made_by"], value_set=pa.array(list(made_by), pa.string()))
        if others is not None:
            wanted = pc.or_(wanted, pc.is_in(rows["id"], value_set=others.combine_chunks()))
        return rows["id"].filter(wanted)

    def _edges(self, generation: Generation) -> Iterator[tuple[str, Level]]:
        parent = self._level(generation.parent)
        yield "init", self._init(generation)
        yield "trained_on", self._corpus(generation)
        if generation.status is Status.UNFINISHED:  # whatever it makes will be made of what its parent made
            others = [rival.generation for rival in generation.rivals.values()]
            yield "produced_by", max(map(self._level, (generation.parent, generation.refit_of, *others)))
        soft = min(parent, Level.SUSPECT)
        if "grade" in generation.stages:
            yield "graded_by", soft
        rivals = (self._level(edge.generation) for edge in self._graph.opponents(generation))
        yield "opponent", min(max(rivals, default=Level.CLEAN), Level.SUSPECT)
        chosen = (self._level(edge.generation) for edge in self._graph.settings_from(generation))
        yield "settings_from", min(max(chosen, default=Level.CLEAN), Level.SUSPECT)
        yield "saw", Level.SUSPECT if self._saw(generation) else Level.CLEAN

    def _init(self, generation: Generation) -> Level:
        start = generation.start
        if start is None:
            return Level.CLEAN
        if isinstance(start.origin, int):
            return self._level(start.origin)
        return self._weights.get(bare(start.weights), Level.CLEAN)  # perhaps of another run

    def _corpus(self, generation: Generation) -> Level:
        corpus = generation.output("curate", "corpus")
        if corpus is None or not (self.descent.samples or self._suspect_batches):
            return Level.CLEAN
        turns = self._graph.drawn_turns(generation)
        touched = [self.descent.samples[turn] for turn in turns if turn in self.descent.samples]
        drawn = self._drawn(corpus, touched) if touched else 0
        if drawn:
            self.descent.corpora[generation.number] = drawn
            return Level.FLAWED
        return Level.SUSPECT if self._suspect_batches.intersection(turns) else Level.CLEAN

    def _saw(self, generation: Generation) -> bool:
        """Whether its trials, or its curator, which left a carry, were given a flawed or suspect sample."""
        if not (self.descent.samples or self._suspect_batches):
            return False
        return any(
            self._shows(turn, stage.inputs.get("recalled"))
            for stage in self._graph.seers(generation)
            for turn in self._graph.turns_given(stage)
        )

    def _shows(self, turn: int, hidden: str | None) -> bool:
        """Whether of a turn's flawed or suspect samples any is not among those hidden."""
        import pyarrow.compute as pc

        if turn not in self.descent.samples and turn not in self._suspect_batches:
            return False
        if hidden is None:
            return True
        ids = self._ids(turn) if turn in self._suspect_batches else self.descent.samples[turn]
        recalled = self._store.table(hidden)["id"].combine_chunks()
        return not pc.all(pc.is_in(ids, value_set=recalled)).as_py()

    def _drawn(self, corpus: str, flawed: list[pa.ChunkedArray]) -> int:
        import pyarrow as pa
        import pyarrow.compute as pc

        from flywheel.storage.corpus import read_chosen

        ids = pa.concat_arrays([chunk for column in flawed for chunk in column.chunks])
        return int(pc.sum(pc.is_in(read_chosen(self._store, corpus)["id"], value_set=ids)).as_py() or 0)

    def _level(self, number: int | None) -> Level:
        if number in self.descent.flawed:
            return Level.FLAWED
        return Level.SUSPECT if number in self.descent.suspect else Level.CLEAN
