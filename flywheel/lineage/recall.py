"""Recall: name a flaw, learn everything that descends from it, and go back to before it.

Nothing is deleted: the ledger says from then on what is recalled, and no later corpus has any of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import replace

from flywheel.errors import ConfigError, RunError
from flywheel.lineage.forks import Beside, Fork, Unread, forks_of
from flywheel.lineage.generation import Which, find_generation
from flywheel.lineage.graph import Descent, descend
from flywheel.lineage.record import Record
from flywheel.lineage.samples import samples_where
from flywheel.records import Answer
from flywheel.storage.events import Recalled, RolledBack
from flywheel.storage.ids import batch_of, made_in, rows_of
from flywheel.storage.lock import Work
from flywheel.storage.reader import reread_when_pruned
from flywheel.storage.rules import (
    Carries,
    carries_without,
    champion_without,
    frontier_without,
    goes_on,
)
from flywheel.storage.state import Generation, RunState, Status
from flywheel.storage.store import Store
from flywheel.storage.writer import Amendment, amend
from flywheel.tuners import memory


class ChampionChange(Answer, frozen=True):
    """The number of the champion, or of the frontier, before and after; None: there is none."""

    before: int | None
    after: int | None


class Reached(Answer, frozen=True):
    """A generation that a flaw reached."""

    generation: int
    status: str
    """``unfinished``, ``promoted``, ``rejected``, ``advanced``, ``failed`` or ``final``."""
    by: tuple[str, ...]
    """The types of the edges by which it did; ``named``: it is the flaw itself."""


class RecalledBatch(Answer, frozen=True):
    """Samples of one turn that are recalled."""

    made_in: int
    """The generation in whose turn they were made."""
    origin: str
    """``human`` or ``generated``."""
    samples: str | None
    """The batch's artifact."""
    recalled: int
    """How many of its samples are."""
    of: int
    """How many it has."""


class RecalledSamples(Answer, frozen=True):
    """The samples that are recalled."""

    total: int
    batches: tuple[RecalledBatch, ...]


class FlawedCorpus(Answer, frozen=True):
    """A corpus with recalled samples."""

    generation: int
    corpus: str
    """Hash of its sample ids in order."""
    recalled: int
    """How many of its rows are."""
    of: int
    """How many it has."""


class CarryChange(Answer, frozen=True):
    """A component whose carry is put back."""

    component: str
    """E.g. ``curator``."""
    before: str | None
    """The carry's artifact until now."""
    after: str | None
    """And from now on; None: the component begins anew."""
    left_by: int | None
    """The generation that left it."""


class RetiredTrials(Answer, frozen=True):
    """What a recall does to the memory that the run's tuner shares with other runs."""

    path: str
    """The file, as the run's configuration names it."""
    is_there: bool
    """Whether there is such a file from where the recall was asked for."""
    generations: tuple[int, ...]
    """Those whose trials no tuner is shown any more."""


class RecallReport(Answer, frozen=True):
    """What a recall touches, or touched."""

    run: str
    """Its directory."""
    by: str
    """The flaw: ``generation N``, or the condition on samples."""
    why: str
    strict: bool
    """Whether what is only suspect is recalled, too."""
    done: bool
    """Whether it is recorded; False also if there is nothing to recall."""
    champion: ChampionChange
    frontier: ChampionChange
    """What the next generation builds on, likewise."""
    generations: tuple[Reached, ...]
    """Those that learned from the flaw."""
    suspect: tuple[Reached, ...]
    """Those that it reached through soft edges only."""
    samples: RecalledSamples
    corpora: tuple[FlawedCorpus, ...]
    carries: tuple[CarryChange, ...]
    unasked: tuple[int, ...]
    """Turns whose batch was pruned, where the condition needs what is gone."""
    ends: int | None
    """The generation under way that cannot go on."""
    memory: RetiredTrials | None
    """None: the run's tuner shares no memory."""
    forks: tuple[Fork, ...]
    """Runs beside this one that descend from the flaw."""
    unread: tuple[Unread, ...]
    """Runs beside this one that could not be asked."""
    needs_reopen: bool
    """Whether the run goes on with ``seal=reopen`` only, as its sealed suites were opened."""


class Rollback(Answer, frozen=True):
    """A former champion that is the champion again."""

    run: str
    """Its directory."""
    why: str
    champion: ChampionChange
    frontier: ChampionChange
    """What the next generation builds on, likewise: afterwards the champion."""
    needs_reopen: bool
    """Whether the run goes on with ``seal=reopen`` only, as its sealed suites were opened."""


@dataclass(frozen=True, slots=True)
class Recall:
    """What a recall touches: all that descends from the flaw and is not recalled yet."""

    by: str
    """The flaw: ``generation N``, or the condition on samples."""
    strict: bool
    descent: Descent
    ids: pa.Array
    """Every recalled sample of the run, those of earlier recalls included."""
    generations: list[int]
    suspect: list[int]
    champion: tuple[int | None, int | None]
    """Before and after."""
    frontier: tuple[int | None, int | None]
    """Likewise."""
    ends: int | None
    """The generation under way that cannot go on."""
    carries: Carries
    """Those in force afterwards."""
    unasked: list[int]
    """Turns whose batch was pruned, where the condition needs what is gone."""
    beside: Beside
    """The runs beside this one that descend from the flaw."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to recall, or no more than is recalled already."""
        return not (self.generations or self.suspect or self.descent.samples)


def recall(
    directory: Path,
    *,
    why: str,
    generation: Which | None = None,
    where: str | None = None,
    strict: bool = False,
    yes: bool = False,
) -> RecallReport:
    """Recall a generation, or the samples for which an SQL condition holds, and report what was touched.

    A dry run unless ``yes``. ``strict``: what is only suspect is recalled, too. Raises RunError or
    ConfigError if the flaw cannot be named so, LockedError if the run is being written.
    """
    if (generation is None) == (where is None):
        raise ConfigError("A recall names one flaw: give a generation or a condition on samples.")
    if not why.strip():
        raise ConfigError("A recall says why, for whoever reads the ledger; the reason is empty.")
    flaw = (generation, where, strict)
    if not yes:
        return _dry_run(directory, why, *flaw)
    with amend(directory, Work.RECALL) as run:
        affected = _affected(run, *flaw)
        report = _report(run, affected, why, done=not affected.is_empty)
        if not affected.is_empty:
            _record(run, affected, why)
        return replace(report, memory=_retire(run.state, write=True))


@reread_when_pruned
def _dry_run(directory: Path, why: str, *flaw: Any) -> RecallReport:
    record = Record.read(directory)
    return _report(record, _affected(record, *flaw), why, done=False)


def rollback(directory: Path, which: Which, why: str) -> Rollback:
    """Make a former champion the champion again, without blame. Raises RunError if it cannot be one."""
    if not why.strip():
        raise ConfigError("A rollback says why, for whoever reads the ledger; the reason is empty.")
    with amend(directory, Work.ROLLBACK) as run:
        chosen = find_generation(directory, run.state, which)
        generation = chosen.number
        if not run.state.can_be_champion(chosen):
            fit = [g.number for g in run.state.generations if run.state.can_be_champion(g)]
            promoted = "pruned" if chosen.status is Status.PROMOTED else str(chosen.status)
            raise RunError(
                "A rollback goes to a generation that was promoted, is not recalled and has its weights; "
                f"generation {generation} is {'recalled' if chosen.recalled else promoted}. "
                f"Those that fit: {', '.join(map(str, fit)) or 'none'}."
            )
        before, ahead = (g.number if g else None for g in (run.state.champion, run.state.frontier))
        if before == generation:
            raise RunError(f"A rollback changes the champion; generation {generation} is the champion.")
        if run.state.current and not goes_on(run.state.current, generation, generation):
            run.end(run.state.current, f"rolled back: {why}")
        run.record(RolledBack(champion=generation, why=why))
        needs_reopen = run.state.needs_reopen
    champion, frontier = (ChampionChange(number, generation) for number in (before, ahead))
    return Rollback(str(directory), why, champion, frontier, needs_reopen)


def _affected(run: Amendment | Record, which: Which | None, where: str | None, strict: bool) -> Recall:
    directory, state, store = run.directory, run.state, run.store
    unasked: list[int] = []
    if which is not None:
        generation = find_generation(directory, state, which)
        _refuse_base(directory, generation)
        by = f"generation {generation.number}"
        descent = descend(store, state, generations={generation.number}, strict=strict)
    else:
        by = str(where)
        samples, unasked = samples_where(directory, state, by)
        descent = descend(store, state, samples=samples, strict=strict)
    before = state.champion.number if state.champion else None
    after = champion_without(state, set(descent.flawed))
    frontier = frontier_without(state, after, descent.flawed)
    ends = _ends(state, descent, after, frontier)
    if ends is not None:  # where its look was under way, it was the frontier
        frontier = frontier_without(state, after, {*descent.flawed, ends})
    ahead = state.frontier.number if state.frontier else None
    flagged = {g.number for g in state.generations if g.recalled or g.suspect}
    beside = forks_of(directory, state, descent)  # before what is recalled already is taken out
    ids = _all_recalled(store, state, descent)
    return Recall(
        by=by,
        strict=strict,
        descent=descent,
        ids=ids,
        generations=[n for n in descent.flawed if not state.generations[n].recalled],
        suspect=[n for n in descent.suspect if n not in flagged],
        champion=(before, after),
        frontier=(ahead, frontier),
        ends=ends,
        carries=carries_without(state, frontier, {*descent.flawed, *descent.suspect}),
        unasked=unasked,
        beside=beside,
    )


def _refuse_base(directory: Path, generation: Generation) -> None:
    if "adopt" in generation.stages and generation.init == "base":
        raise RunError(
            f"Generation {generation.number} of {directory} is weights from elsewhere, as they are: the "
            "run has nothing older to go back to. Start a new run with another base=, or fork another "
            "generation."
        )


def _all_recalled(store: Store, state: RunState, descent: Descent) -> pa.Array:
    """Ids of the recalled samples, of this recall and earlier ones; what is new stays in the descent."""
    empty = pa.array([], pa.string())
    earlier = store.table(state.recalled)["id"].combine_chunks() if state.recalled else empty
    for turn, ids in list(descent.samples.items()):
        fresh = ids.filter(pc.invert(pc.is_in(ids, value_set=earlier)))
        if len(fresh):
            descent.samples[turn] = fresh
        else:
            del descent.samples[turn]
    chunks = [chunk for ids in descent.samples.values() for chunk in ids.chunks]
    return pa.concat_arrays([earlier, *chunks])


def _record(run: Amendment, affected: Recall, why: str) -> None:
    artifact = run.store.put_table(pa.table({"id": affected.ids}))
    if run.state.current and affected.ends is not None:
        run.end(run.state.current, f"recalled: {why}")
    champion, frontier = affected.champion[1], affected.frontier[1]
    run.record(
        Recalled(
            why=why,
            by=affected.by,
            strict=affected.strict,
            generations=tuple(affected.generations),
            suspect=tuple(affected.suspect),
            samples=artifact,
            champion=champion,
            frontier=None if frontier == champion else frontier,
            carry=dict(affected.carries.artifacts),
        )
    )


def _ends(state: RunState, descent: Descent, champion: int | None, frontier: int | None) -> int | None:
    """The generation under way, if it cannot go on.

    The flaw reached it, at least through what its parts saw or began with; or it is no longer the champion's.
    """
    under_way = state.current
    if under_way is None:
        return None
    is_reached = under_way.number in {*descent.flawed, *descent.suspect}
    return under_way.number if is_reached or not goes_on(under_way, champion, frontier) else None


def _report(run: Amendment | Record, affected: Recall, why: str, *, done: bool) -> RecallReport:
    state, reached = run.state, affected.descent
    batches = tuple(_batch(state, turn, len(ids)) for turn, ids in sorted(reached.samples.items()))
    return RecallReport(
        run=str(run.directory),
        by=affected.by,
        why=why,
        strict=affected.strict,
        done=done,
        champion=ChampionChange(*affected.champion),
        frontier=ChampionChange(affected.frontier[0], affected.frontier[0 if affected.is_empty else 1]),
        generations=_reached(state, affected.generations, reached.flawed),
        suspect=_reached(state, affected.suspect, reached.suspect),
        samples=RecalledSamples(sum(batch.recalled for batch in batches), batches),
        corpora=tuple(_corpus(state.generations[n], rows) for n, rows in reached.corpora.items()),
        carries=() if affected.is_empty else tuple(_put_back(state.carries, affected.carries)),
        unasked=tuple(affected.unasked),
        ends=None if affected.is_empty else affected.ends,
        memory=_retire(state, [*affected.generations, *_without_corpus(state, affected.suspect)]),
        forks=affected.beside.forks,
        unread=affected.beside.unread,
        needs_reopen=state.needs_reopen,
    )


def _without_corpus(state: RunState, numbers: Iterable[int]) -> list[int]:
    return [number for number in numbers if "curate" not in state.generations[number].stages]


def _retire(state: RunState, also: Iterable[int] = (), *, write: bool = False) -> RetiredTrials | None:
    """Retire, or with ``write=False`` name, the trials of all that is recalled, and of these generations."""
    path = state.created.config.get("tuner", {}).get("memory") if state.created else None
    if state.created is None or path is None:
        return None
    flawed = {*also, *(g.number for g in state.generations if g.are_trials_retired)}
    act = memory.retire if write else memory.in_use
    numbers = act(Path(path), state.created.hash, flawed)
    return RetiredTrials(path, Path(path).exists(), tuple(numbers))


def _reached(state: RunState, numbers: Iterable[int], edges: dict[int, list[str]]) -> tuple[Reached, ...]:
    return tuple(Reached(n, str(state.generations[n].status), tuple(edges[n])) for n in numbers)


def _put_back(before: Carries, after: Carries) -> Iterable[CarryChange]:
    """The components whose carry changes, and which generation left the one that is put back."""
    old, new = before.artifacts, after.artifacts
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            yield CarryChange(name, old.get(name), new.get(name), after.left_by.get(name))


def _batch(state: RunState, turn: int, rows: int) -> RecalledBatch:
    generation = state.generations[turn]
    return RecalledBatch(
        made_in=made_in(generation),
        origin="generated" if generation.generate else "human",
        samples=batch_of(generation),
        recalled=rows,
        of=rows_of(generation),
    )


def _corpus(generation: Generation, rows: int) -> FlawedCorpus:
    assert generation.curate is not None, "only what has a corpus learned from a flawed sample"
    facts = generation.curate.facts
    return FlawedCorpus(generation.number, facts.corpus, rows, facts.rows)
