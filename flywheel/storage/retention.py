"""Keeping disks small: what a policy lets go.

A generation that is kept stays whole: what its stages made, and what its weights were trained and
evaluated from, so that it can be reproduced. Kept are the first champion, the one in force and its final, the
frontier, a generation under way and its parent, rivals, and those that the policy names. Of the others go

    weights      the file
    samples      the payload; a slim table stays with what recall and trace go by: ``slim.SLIM``
    scores       all
    keys         all, of the rows that a curator which decides in a stream has kept: see ``tables.row_keys``
    decisions    those on earlier batches; the slim table has those on its own

unless somebody else needs them: a kept generation, or a champion or former frontier that a recall or rollback
may go back to. What such a one may draw on stays as long as its weights do: the batches of its corpus, and
those of its turns that were rejected or have advanced. So later turns are the same with and without a policy.
Human samples, suites, weights from elsewhere, corpora, outcomes and carries always stay, and so does what
stands in for something that went.

The ``pruned`` event comes first, with the size of each object that goes; then the files are deleted. What a
crash between the two leaves behind is deleted when the run is opened or pruned the next time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from flywheel.storage.events import PRUNABLE
from flywheel.storage.policy import Policy
from flywheel.storage.sources import Source, sources_of
from flywheel.storage.state import Generation, RunState, Status
from flywheel.storage.store import Store

_BATCH = (("generate", "samples"), ("grade", "scores"))


@dataclass(frozen=True, slots=True)
class Drop:
    """An object that goes, and whose it was."""

    name: str
    kind: str
    """weights, samples, scores, decisions or keys."""
    generation: int


class _Holder(NamedTuple):
    """Whoever needs artifacts: a generation for what it is now."""

    generation: int
    role: str
    """kept: as a whole; champion: for what its turns may draw on; seed: for what people gave."""


class Retention:
    """Which artifacts a policy lets go, kept up to date while generations end.

    Each artifact is counted by who needs it. When a generation ends, only those are looked at that it made
    and that somebody needs no longer, so that a turn costs the same however many came before. Made for one
    session: while it lasts no generation is recalled, and none becomes champion again. The frontier may go
    back.
    """

    def __init__(self, store: Store, state: RunState, policy: Policy) -> None:
        self._store, self._state, self._policy = store, state, policy
        self._known = 0
        self._kept_for_now: set[int] = set()
        self._needs: dict[_Holder, set[str]] = {}
        self._needed: Counter[str] = Counter()
        self._made_by: dict[str, list[int]] = {}
        self._champions_with: dict[str, list[int]] = {}
        self._advanced: set[int] = set()
        self._to_look_at: set[int] = set()

    def drops(self) -> list[Drop]:
        """What may go that was not named before, by generation: a function of what is recorded alone."""
        generations, under_way = self._state.generations, self._state.current
        if under_way and under_way.status is Status.ADVANCED:  # its look is: as the frontier it is kept
            under_way = None
        while self._known < len(generations) and generations[self._known] is not under_way:
            self._take_in(generations[self._known])
            self._known += 1
        self._keep_what_changed()
        for number in [number for number in self._kept_for_now if not self._is_kept(generations[number])]:
            self._kept_for_now.discard(number)
            self._let_go(_Holder(number, "kept"))
        self._forget_given_up()
        if under_way is None:
            return list(self._free())
        holder = _Holder(under_way.number, "kept")
        self._need(holder, self._whole(under_way))
        free = list(self._free())
        self._let_go(holder)  # it will have more
        return free

    def _keep_what_changed(self) -> None:
        """A generation that is the frontier again is kept from now on; a look adds to what one needs."""
        looked_at = [self._state.generations[look.generation] for look in self._state.looks[-1:]]
        in_use = [g for g in _in_use(self._state) if g and _Holder(g.number, "kept") not in self._needs]
        for generation in (*in_use, *looked_at):
            if generation.number < self._known and self._is_kept(generation):
                self._keep(generation)

    def _keep(self, generation: Generation) -> None:
        self._need(_Holder(generation.number, "kept"), self._whole(generation))
        if not self._is_kept_for_good(generation):
            self._kept_for_now.add(generation.number)

    def _forget_given_up(self) -> None:
        """Of those that had advanced: nobody goes back to what was abandoned, or failed at its look."""
        for number in list(self._advanced):
            generation, holder = self._state.generations[number], _Holder(number, "champion")
            if not self._state.can_be_frontier(generation):
                self._let_go(holder)
            if generation.status is not Status.ADVANCED or holder not in self._needs:
                self._advanced.discard(number)

    def _take_in(self, generation: Generation) -> None:
        """Count what a generation that has ended needs, and who needs what it made."""
        number, weights = generation.number, generation.weights
        for name in _droppable(generation).values():
            self._made_by.setdefault(name, []).append(number)
        self._to_look_at.add(number)
        if generation.status in (Status.PROMOTED, Status.ADVANCED) and weights is not None:
            self._champions_with.setdefault(weights, []).append(number)
            if weights in self._needed:  # of another generation, of equal content
                self._see_champion(number)
        parent = _Holder(-1 if generation.parent is None else generation.parent, "champion")
        draws = generation.status in (Status.REJECTED, Status.ADVANCED) and not generation.recalled
        if draws and parent in self._needs:
            self._need(parent, _batch(generation))
        if generation.seed:
            self._need(_Holder(number, "seed"), generation.seed.outputs.values())
        if self._is_kept(generation):
            self._keep(generation)

    def _is_kept_for_good(self, generation: Generation) -> bool:
        return self._policy.promoted and generation.status is Status.PROMOTED

    def _is_kept(self, generation: Generation) -> bool:
        state = self._state
        if any(generation is kept for kept in _in_use(state)):
            return True  # the frontier is the parent of what is under way, too
        last = state.generations[-1]
        ended = len(state.generations) - (last.status is Status.UNFINISHED)
        return self._is_kept_for_good(generation) or generation.number >= ended - self._policy.last

    def _whole(self, generation: Generation) -> Iterator[str]:
        """What a generation made, and what it needs to be made again."""
        yield from self._drawn_on(generation)
        if generation.train and generation.parent is not None:  # also where it started from other weights
            yield str(self._state.generations[generation.parent].weights)
        for stage, event in generation.stages.items():
            yield from event.outputs.values()
            if stage in ("train", "adopt", "screen", "evaluate"):
                yield from event.inputs.values()

    def _drawn_on(self, generation: Generation) -> Iterator[str]:
        """The batches that its corpus may draw on, and the keys of what was kept of them."""
        yield from _named(sources_of(self._store, generation))
        stream = generation.output("curate", "stream")
        yield from self._store.json(stream)["keys"] if stream else ()

    def _see_champion(self, number: int) -> None:
        """While a champion's weights stay, so does what its turns may draw on: see runtime.inputs."""
        champion = self._state.generations[number]
        if self._state.can_be_frontier(champion):
            holder = _Holder(number, "champion")
            self._advanced |= {number} if champion.status is Status.ADVANCED else set()
            self._need(holder, self._drawn_on(champion))
            for turn in (self._state.generations[n] for n in champion.turns):
                self._need(holder, () if turn.recalled else _batch(turn))

    def _need(self, holder: _Holder, names: Iterable[str]) -> None:
        needs = self._needs.setdefault(holder, set())
        for name in names:
            if name not in needs:
                needs.add(name)
                self._needed[name] += 1
                for number in self._champions_with.get(name, ()) if self._needed[name] == 1 else ():
                    self._see_champion(number)

    def _let_go(self, holder: _Holder) -> None:
        for name in self._needs.pop(holder, ()):
            self._needed[name] -= 1
            if not self._needed[name]:
                del self._needed[name]
                self._to_look_at.update(self._made_by.get(name, ()))
                for number in self._champions_with.get(name, ()):
                    self._let_go(_Holder(number, "champion"))

    def _free(self) -> Iterator[Drop]:
        """What nobody needs of what the generations to look at made."""
        seen: set[str] = set()
        for number in sorted(self._to_look_at):
            for kind, name in _droppable(self._state.generations[number]).items():
                if name not in seen and name not in self._needed and name not in self._state.pruned:
                    seen.add(name)
                    yield Drop(name, kind, number)
        self._to_look_at.clear()


TRIAL = "trial"
"""The kind of a trial's weights, which the candidate started from: apart from its own."""


def _in_use(state: RunState) -> tuple[Generation | None, ...]:
    return (state.champion, state.first_champion, state.final, state.frontier, *state.rivals.values())


def plan(store: Store, state: RunState, policy: Policy) -> list[Drop]:
    """What the policy lets go now of all that is recorded."""
    return Retention(store, state, policy).drops()


def _droppable(generation: Generation) -> dict[str, str]:
    """Kind -> artifact of what may go of a generation; no decisions where people gave its own batch."""
    outputs = ((stage, output) for stage, kinds in PRUNABLE.items() for output in kinds)
    found = ((stage, output, generation.output(stage, output)) for stage, output in outputs)
    names = {TRIAL if stage == "tune" else output: name for stage, output, name in found if name is not None}
    if generation.generate is None:
        names.pop("decisions", None)
    return names


def _batch(turn: Generation) -> Iterator[str]:
    return _named([[turn.output(stage, output) for stage, output in _BATCH]])


def _named(sources: Iterable[Source]) -> Iterator[str]:
    return (name for source in sources for name in source if name is not None)
