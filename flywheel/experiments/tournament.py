"""A tournament of a run's champions: is the one in force the best of them, as far as items tell?

On a solo suite all are scored on the same items, on a duel each plays each other, both ways. Differences
are paired; their intervals hold together, by Bonferroni's correction for all pairs, and so do ranks: above
each are those that are clearly better, below it those that are clearly worse (Mogstad, Romano, Shaikh and
Wilhelm 2024, "Inference for Ranks"). Nothing is recorded, and no gate or sealed suite can be asked: a look at
those is charged.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flywheel.api import GenerationView, Run
from flywheel.errors import ConfigError, RunError, near_misses
from flywheel.gates.statistics import bounded_mean
from flywheel.lineage.status import bare, read_state
from flywheel.metrics.bradley_terry import bradley_terry
from flywheel.metrics.intervals import TAIL, mean_interval
from flywheel.records import Answer, Interval, Role
from flywheel.runtime.data import recorded_suites
from flywheel.runtime.held_out import Problems
from flywheel.runtime.scoring import item_names, with_clusters
from flywheel.storage.state import RunState
from flywheel.storage.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

_STEPS = 24
"""Halvings by which the end of an interval is found."""


class Entry(Answer, frozen=True):
    """A champion and how it did."""

    generation: int
    weights: str
    """SHA-256."""
    in_force: bool
    score: Interval
    """Mean score of the items; of a duel its mean score in the games against all others."""
    rating: Interval | None
    """Of a duel: Elo points above the champion in force, or the first entry."""
    rank: int
    """By score, or by rating; 1 is the best."""
    best_rank: int
    """1 + how many are clearly better."""
    worst_rank: int
    """As many as there are, without those that are clearly worse."""


class Difference(Answer, frozen=True):
    """Two champions, paired on all items."""

    first: int
    second: int
    difference: Interval
    """Mean score of the first - that of the second; of a duel what the first won - what it lost, a game. The
    intervals of all pairs hold together with 95%."""

    @property
    def better(self) -> int | None:
        """The one that is clearly better; None: neither is."""
        if self.difference.low > 0:
            return self.first
        return self.second if self.difference.high < 0 else None

    def seen_from(self, generation: int) -> Interval:
        """The difference of one of the two and the other one."""
        found = self.difference
        same = generation == self.first
        return found if same else Interval(0.0 - found.value, 0.0 - found.high, 0.0 - found.low, found.unit)


class Tournament(Answer, frozen=True):
    """Who beats whom among a run's champions."""

    run: str
    suite: str
    """The suite's name, or the file of the items."""
    role: str | None
    """``dev`` or ``guard``; None: items of the user's own."""
    duel: bool
    items: int
    clusters: int
    reused: int
    """How many tables of outcomes were recorded, and not evaluated anew."""
    in_force: int | None
    """The champion in force; None: it is not in the tournament."""
    entries: tuple[Entry, ...]
    """The best first."""
    differences: tuple[Difference, ...]
    """Of all pairs."""
    left_out: Mapping[int, str]
    """Former champions that could not take part -> why."""
    sentence: str


@dataclass(frozen=True)
class _Items:
    """What is asked."""

    name: str
    role: Role | None
    duel: bool
    table: pa.Table
    """With the columns ``item`` and ``cluster``."""

    @property
    def clusters(self) -> np.ndarray:
        """The cluster of each item, int64 from 0 on."""
        numbers: np.ndarray = np.unique(self.table["cluster"].to_numpy(), return_inverse=True)[1]
        return numbers


def tournament(
    run: Run,
    *,
    suite: str | None = None,
    items: str | Path | None = None,
    duel: bool = False,
    generations: Sequence[int] | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> Tournament:
    """All champions of a run, or these generations, against each other.

    ``suite``: a dev or guard suite; default: the first there is. ``items``: a file with items of your own in
    its place, ``duel``: on which they are to play each other. What is recorded is not evaluated again.

    Raises ConfigError for a suite that must not be looked at or items that a gate or sealed suite asks,
    RunError if fewer than two can take part, DataError if they cannot be evaluated.
    """
    state = read_state(run.path)
    if suite is not None and items is not None:
        raise ConfigError("Give one of --suite and --items.")
    if duel and items is None:
        raise ConfigError("--duel is for --items; a suite says itself whether it is a duel.")
    players, left_out = _players(run, state, generations)
    asked = _own_items(players[0], items, duel) if items else _suite(run, state, suite)
    played = _Played(run, asked, players, report)
    ours = _in_force(state, players)
    return _answer(run, asked, played, ours, left_out)


def _players(
    run: Run, state: RunState, generations: Sequence[int] | None
) -> tuple[list[GenerationView], dict[int, str]]:
    """Who takes part, and which former champions cannot."""
    if generations is None:
        chosen = [g for g in state.generations if state.can_be_champion(g)]
    else:
        chosen = [run.generation(number).record for number in dict.fromkeys(generations)]
        for generation in chosen:
            if generation.weights is None or generation.weights in state.pruned:
                raise RunError(
                    f"Expected generations with weights, got {generation.number}, which has none or none any "
                    "more. Leave it out of --generations."
                )
    others = {
        g.number: "recalled" if g.recalled else "its weights were pruned"
        for g in state.generations
        if generations is None and str(g.status) == "promoted" and not state.can_be_champion(g)
    }
    if len(chosen) < 2:
        raise RunError(
            f"Expected a run with two champions or more, got {run.path}, which has {len(chosen)} that can "
            "take part. Name others of its generations by --generations 0,3."
        )
    return [GenerationView(run, generation, state) for generation in chosen], others


def _in_force(state: RunState, players: Sequence[GenerationView]) -> int | None:
    """The place of the champion in force among the players."""
    champion = state.champion.number if state.champion else None
    return next((place for place, view in enumerate(players) if view.number == champion), None)


def _suite(run: Run, state: RunState, name: str | None) -> _Items:
    """A suite that may be looked at as often as one likes. Raises ConfigError for another."""
    store = Store(run.path)
    allowed = recorded_suites(state, store, Role.DEV) | recorded_suites(state, store, Role.GUARD)
    hidden = {one: why for one in allowed if (why := _shares(state, one))}
    open_ones = [one for one in allowed if one not in hidden]
    if name is None and not open_ones:
        raise ConfigError(
            f"{run.path} has no dev or guard suite of its own items. Give items of your own: --items FILE."
        )
    chosen = name or open_ones[0]
    remedy = f"Give one of {', '.join(open_ones) or 'none'}, or items of your own: --items FILE."
    if chosen in hidden:
        raise ConfigError(f"Suite {chosen} has {hidden[chosen]}: a look at those is charged. {remedy}")
    if chosen not in allowed:
        role = state.roles.get(chosen)
        if role is None:
            hint = near_misses(chosen, open_ones)
            raise ConfigError(f"There is no suite {chosen!r} in {run.path}.{hint} {remedy}")
        raise ConfigError(
            f"Expected a dev or guard suite, got {chosen}, whose role is {role}: a look at it is charged, "
            f"and none is made here. {remedy}"
        )
    found = allowed[chosen]
    return _Items(chosen, found.role, found.duel, with_clusters(found.items))


def _shares(state: RunState, name: str) -> str:
    """What a suite has in common with one that must not be looked at, in words; empty: nothing is known."""
    seed = next((g.seed for g in state.generations if g.seed), None)
    closed = [suite for suite, role in state.roles.items() if role in (Role.GATE, Role.SEALED)]
    for shared in seed.facts.held_out.shared if seed else ():
        if name in (shared.suite, shared.other) and {shared.suite, shared.other} & set(closed):
            other = shared.other if shared.suite == name else shared.suite
            return f"{shared.items} of {shared.of} items in common with {other}"
    return ""


def _own_items(view: GenerationView, path: str | Path, duel: bool) -> _Items:
    """The items of a file. Raises ConfigError if a gate or sealed suite asks one of them."""
    table, state, store = view.read_items(path), view.state, Store(view.run.path)
    closed = [s for role in (Role.GATE, Role.SEALED) for s in recorded_suites(state, store, role).values()]
    problems = Problems.of(view.task())
    mask = problems.held_out(closed).is_asked(table, "items") if closed else None
    few = problems.few(table).to_pylist()  # exhaustible: they may be asked anywhere
    count = 0 if mask is None else sum(a and not b for a, b in zip(mask.to_pylist(), few, strict=True))
    if count:
        raise ConfigError(
            f"Expected items of your own, got {path}: {count} of {len(table)} are those of gate or sealed "
            "suites, and a look at these is charged. Leave them out."
        )
    return _Items(str(path), None, duel, with_clusters(table))


class _Played:
    """Scores of all players on all items: recorded ones, others evaluated."""

    def __init__(
        self, run: Run, asked: _Items, players: Sequence[GenerationView], report: Callable[[str], None]
    ) -> None:
        self.players, self.asked, self.reused = players, asked, 0
        self._store, self._report = Store(run.path), report
        places = range(len(players))
        self.pairs = list(itertools.combinations(places, 2))
        if asked.duel:
            both = [(self._scores(a, b), self._scores(b, a)) for a, b in self.pairs]
            self.scores = np.array([(one + 1 - other) / 2 for one, other in both])
            """Of the first of each pair, shape (pairs, items); of a solo suite of each player."""
        else:
            self.scores = np.array([self._scores(place, None) for place in places])

    def differences(self) -> Iterator[np.ndarray]:
        """Of each pair, item by item, in [-1, 1]."""
        for number, (a, b) in enumerate(self.pairs):
            yield 2 * self.scores[number] - 1 if self.asked.duel else self.scores[a] - self.scores[b]

    def of_player(self, place: int) -> np.ndarray:
        """Its score on each item; of a duel the mean of its games."""
        if not self.asked.duel:
            own: np.ndarray = self.scores[place]
            return own
        games = [
            self.scores[number] if place == a else 1 - self.scores[number]
            for number, (a, b) in enumerate(self.pairs)
            if place in (a, b)
        ]
        mean: np.ndarray = np.mean(games, axis=0)
        return mean

    def _scores(self, place: int, opponent: int | None) -> np.ndarray:
        view, other = self.players[place], None if opponent is None else self.players[opponent]
        outcomes = self._recorded(view, other)
        if outcomes is None:
            against = f" against generation {other.number}" if other else ""
            self._report(f"generation {view.number}{against}: {len(self.asked.table)} items")
            outcomes = view.evaluate(self.asked.table, other)
        else:
            self.reused += 1
        of_item = dict(zip(item_names(outcomes), outcomes["score"].to_pylist(), strict=True))
        return np.array([of_item[name] for name in item_names(self.asked.table)])

    def _recorded(self, view: GenerationView, opponent: GenerationView | None) -> pa.Table | None:
        """Outcomes on the suite, as a stage recorded them; None: none did, or not any more."""
        import pyarrow.compute as pc

        names = (view.record.output(stage, "outcomes") for stage in ("screen", "evaluate"))
        for name in (one for one in names if self.asked.role and one and one not in view.state.pruned):
            rows = self._store.table(name)
            known = rows["opponent"]
            is_other = pc.equal(known, opponent.weights) if opponent else pc.is_null(known)
            is_own = pc.and_(
                pc.equal(rows["suite"], self.asked.name), pc.equal(rows["subject"], view.weights)
            )
            rows = rows.filter(pc.and_(is_own, pc.fill_null(is_other, False)))
            if len(rows) == len(self.asked.table):
                return rows
        return None


def _answer(
    run: Run, asked: _Items, played: _Played, ours: int | None, left_out: Mapping[int, str]
) -> Tournament:
    players, clusters = played.players, asked.clusters
    tail = TAIL / len(played.pairs)
    found = [paired_interval(items, clusters, tail) for items in played.differences()]
    differences = tuple(
        Difference(players[a].number, players[b].number, one)
        for (a, b), one in zip(played.pairs, found, strict=True)
    )
    ratings = bradley_terry(played.scores, played.pairs, clusters, ours or 0) if asked.duel else None
    entries = []
    for place, view in enumerate(players):
        among = [one for one in differences if view.number in (one.first, one.second)]
        entries.append(
            Entry(
                generation=view.number,
                weights=str(bare(view.weights)),
                in_force=place == ours,
                score=mean_interval(played.of_player(place), clusters),
                rating=ratings[place] if ratings else None,
                rank=0,
                best_rank=1 + sum(one.better not in (None, view.number) for one in among),
                worst_rank=len(players) - sum(one.better == view.number for one in among),
            )
        )
    by = [float(e.rating.value if e.rating else e.score.value) for e in entries]
    order = sorted(range(len(entries)), key=lambda k: (-by[k], -entries[k].generation))
    ranks = {k: 1 + sum(other > by[k] for other in by) for k in order}
    return Tournament(
        run=str(run.path),
        suite=asked.name,
        role=asked.role and str(asked.role),
        duel=asked.duel,
        items=len(asked.table),
        clusters=int(clusters.max()) + 1,
        reused=played.reused,
        in_force=None if ours is None else players[ours].number,
        entries=tuple(_with_rank(entries[k], ranks[k]) for k in order),
        differences=differences,
        left_out=left_out,
        sentence=_sentence(run, players, ours, differences),
    )


def _with_rank(entry: Entry, rank: int) -> Entry:
    from msgspec.structs import replace

    return replace(entry, rank=rank)


def paired_interval(differences: np.ndarray, clusters: np.ndarray, tail: float) -> Interval:
    """The mean of differences in [-1, 1], and between which values the gate's test does not refute it.

    ``tail``: the chance to miss the truth, on either side. ``clusters``: the number of each item's cluster,
    0, 1, ...; clusters are independent. See ``flywheel.gates.statistics.bounded_mean``.
    """
    sums, sizes = np.bincount(clusters, differences), np.bincount(clusters).astype(float)
    mean = float(differences.mean())
    return Interval(mean, _lower_end(sums, sizes, tail), -_lower_end(-sums, sizes, tail))


def _lower_end(sums: np.ndarray, sizes: np.ndarray, tail: float) -> float:
    """The least value of the mean that is not refuted, from below."""
    low, high = -1.0, float(sums.sum() / sizes.sum())
    for _ in range(_STEPS):
        middle = (low + high) / 2
        least = -(1 + middle) * float(sizes.max())
        if least < 0 and bounded_mean(np.maximum(sums - middle * sizes, least), least) <= tail:
            low = middle
        else:
            high = middle
    return low


def _sentence(
    run: Run, players: Sequence[GenerationView], ours: int | None, differences: Sequence[Difference]
) -> str:
    """What they say of the champion in force, plainly."""
    if ours is None:
        return "The champion in force does not take part, so nothing is said of it."
    number = players[ours].number
    against = [one for one in differences if number in (one.first, one.second)]
    better = {one.better: one for one in against if one.better is not None and one.better != number}
    if not better:
        beaten = sum(one.better == number for one in against)
        return (
            f"None is shown to be better than generation {number}, the champion in force. "
            f"It is shown to be better than {beaten} of the {len(against)} other{'s' * (len(against) > 1)}."
        )
    state = players[ours].state
    best = max(better, key=lambda other: better[other].seen_from(other).value)
    texts = [
        f"generation {other} is better by {points_text(one.seen_from(other))}"
        for other, one in better.items()
    ]
    can = state.can_be_champion(state.generations[best])
    name = f"python -m flywheel rollback {run.path} {best} --why TEXT"
    remedy = f" `{name}` makes generation {best} the champion again." if can else ""
    return f"Generation {number}, the champion in force, is not the best: {'; '.join(texts)}.{remedy}"


def points_text(found: Interval) -> str:
    """A difference of scores with its interval, e.g. ``+2.3 points [+0.4, +4.1]``."""
    value, low, high = (100 * float(end) for end in (found.value, found.low, found.high))
    return f"{value:+.1f} points [{low:+.1f}, {high:+.1f}]"
