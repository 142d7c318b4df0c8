"""One generation in detail: why it was promoted or not, what it was trained on, its settings and cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flywheel.lineage.diff import flips
from flywheel.lineage.record import Record
from flywheel.lineage.status import Cost, cost, kept_from_people, metrics
from flywheel.lineage.text import estimate_text, number_text
from flywheel.records import Action, Role
from flywheel.report.figures import note_of
from flywheel.report.samples import BY_COLUMNS, Samples, samples_of
from flywheel.storage.events import UNITS, GuardAlarm, Spent
from flywheel.storage.ids import batch_of, made_in
from flywheel.storage.state import Generation, RunState, Status
from flywheel.views import View, Viewer

MOST_SHOWN = 60
"""Generations with a section of their own."""
_NEWEST = 20
"""Of these, at least so many of the newest."""
_FLIPS = 4
"""Items that are shown of those that flipped, on either side."""


@dataclass(frozen=True, slots=True)
class Source:
    """Rows of a corpus from one turn's batch."""

    made_in: int
    maker: str
    """``people``, ``generation 3``, ``generation 3 and the rival teacher``."""
    maker_generation: int | None
    rows: int
    share: float
    """Of the corpus's rows."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting, and what its parent had."""

    name: str
    value: str
    before: str | None
    """None: the same."""


@dataclass(frozen=True, slots=True)
class Figure:
    """An estimate beside the parent's."""

    suite: str
    metric: str
    role: str
    text: str
    parent: str
    """``-`` where it has none."""


@dataclass(frozen=True, slots=True)
class FlippedItem:
    """An item whose score is not the parent's."""

    item: str
    before: str
    after: str
    view: View | None
    """What it asks; None: it is not there."""


@dataclass(frozen=True, slots=True)
class Flips:
    """What changed on a suite against the parent."""

    suite: str
    compared: int
    gained: int
    lost: int
    gained_items: tuple[FlippedItem, ...]
    """A few of them; none of a sealed suite's."""
    lost_items: tuple[FlippedItem, ...]


@dataclass(frozen=True)
class GenerationDetail:
    """A generation's section."""

    number: int
    status: str
    note: str
    """What is said beside the status, e.g. ``in force``."""
    reason: str
    parent: int | None
    champion: int | None
    """The one that it is compared with."""
    refit_of: int | None
    start: str
    """What its fit began from, e.g. ``the weights of its parent``."""
    evidence: tuple[tuple[str, str], ...]
    """What the gate, dev, guards, an audit and a reviewer said: who, and what."""
    figures: tuple[Figure, ...]
    sources: tuple[Source, ...]
    rows: int
    """Of its corpus."""
    by_reason: Mapping[str, int]
    """Samples that were decided on, by rule."""
    settings: tuple[Setting, ...]
    tuned: str
    cost: Cost
    spent: Spent
    weights: str
    """SHA-256, or empty."""
    corpus: str
    samples: Samples = field(default_factory=Samples)
    flips: tuple[Flips, ...] = ()

    @property
    def other_cost(self) -> str:
        """Beside its time, e.g. ``0.003 device hours, 6,597 samples``."""
        return cost_text(self.spent)

    @property
    def changed(self) -> list[Setting]:
        """The settings that its parent had otherwise."""
        return [setting for setting in self.settings if setting.before is not None]


def chosen(state: RunState, most: int = MOST_SHOWN) -> list[Generation]:
    """The generations that are shown in detail: all, or of many those that matter and some between them."""
    every = state.generations
    if len(every) <= most:
        return every
    champion = {state.champion.number} if state.champion else set()
    wanted = champion | {0, *range(len(every) - _NEWEST, len(every))}
    promoted = [g.number for g in every if g.status is Status.PROMOTED]
    flagged = [g.number for g in every if g.recalled or g.status is Status.FAILED]
    for candidates in (promoted[::-1], flagged[::-1], list(range(0, len(every), -(-len(every) // most)))):
        wanted |= set(candidates[: max(0, most - len(wanted))])
    return [every[number] for number in sorted(wanted)]


class Details:
    """Makes the sections of a run's generations."""

    def __init__(self, record: Record, viewer: Viewer = BY_COLUMNS) -> None:
        self._record, self._viewer = record, viewer
        self._turns = {name: g for g in reversed(record.state.generations) if (name := batch_of(g))}
        self._items = cache(self._suite_items)

    def of(self, generation: Generation) -> GenerationDetail:
        """A generation's section."""
        g, state = generation, self._record.state
        parent = None if g.parent is None else state.generations[g.parent]
        curated = g.curate.facts if g.curate else None
        spent = Spent()
        for event in g.stages.values():
            spent = spent.after(event.cost)
        return GenerationDetail(
            number=g.number,
            status=str(g.status),
            note=note_of(g, state),
            reason=g.reason or ("It is under way." if g.status is Status.UNFINISHED else ""),
            parent=g.parent,
            champion=g.champion,
            refit_of=g.refit_of,
            start=_start(g),
            evidence=tuple(_evidence(g)),
            figures=tuple(_figures(g, parent, state)),
            sources=tuple(self._sources(g)),
            rows=curated.rows if curated else 0,
            by_reason=_largest(curated.by_reason if curated else {}),
            settings=tuple(_settings(g, parent)),
            tuned=g.tune.facts.reason if g.tune else "",
            cost=cost(g),
            spent=spent,
            weights=(g.weights or "").partition(".")[0],
            corpus=curated.corpus if curated else "",
            samples=samples_of(self._record, g, self._viewer),
            flips=tuple(self._flips(parent, g)) if parent else (),
        )

    def _sources(self, generation: Generation) -> Iterator[Source]:
        """Rows by the turn that brought them, from the list of sources alone: no batch is read."""
        name, state = generation.output("curate", "sources"), self._record.state
        sources = self._record.store.json(name) if name else []
        total = sum(source[-1] for source in sources) or 1
        for samples, *_, rows in sources:
            turn = self._turns.get(samples)
            if turn is None or not rows:
                continue
            makers = state.makers_of(turn) if turn.generate else {}
            number = next((n for n in makers.values() if n is not None), None)
            yield Source(made_in(turn), _maker(turn, number), number, rows, rows / total)

    def _flips(self, before: Generation, after: Generation) -> Iterator[Flips]:
        """On all suites but those of which people see no more than figures."""
        hidden = kept_from_people(self._record.state)
        for suite, one in flips(self._record, before, self._record, after).items():
            role, counts = self._record.state.roles.get(suite), one.items
            if suite in hidden:
                continue
            named = () if role == Role.SEALED else one.flipped  # nor are their names for anybody's eyes
            gained = [flip for flip in named if flip.b > flip.a][:_FLIPS]
            lost = [flip for flip in named if flip.b < flip.a][:_FLIPS]
            views = self._views(suite, [flip.item for flip in (*gained, *lost)])
            sides = (
                tuple(
                    FlippedItem(flip.item, number_text(flip.a), number_text(flip.b), views.get(flip.item))
                    for flip in side
                )
                for side in (gained, lost)
            )
            if counts.compared:
                yield Flips(suite, counts.compared, one.gained, one.lost, *sides)

    def _views(self, suite: str, names: Sequence[str]) -> Mapping[str, View]:
        """What items ask."""
        items = self._items(suite) if names else None
        if items is None:
            return {}
        rows = items.filter(pc.is_in(items["item"], value_set=pa.array(names, pa.string()))).to_pylist()
        hidden = ("item", "cluster")
        return {row["item"]: BY_COLUMNS({k: v for k, v in row.items() if k not in hidden}) for row in rows}

    def _suite_items(self, suite: str) -> pa.Table | None:
        seeds = (g.output("seed", f"suite_{suite}") for g in self._record.state.generations)
        return self._record.table(next((name for name in seeds if name), None))


def cost_text(spent: Spent) -> str:
    """What is not 0 beside the time, e.g. ``0.0437 device hours, 43,320 samples, 4.76e+12 FLOPs``."""
    texts = (
        f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
        for value in (getattr(spent, key) for key in UNITS)
    )
    named = [
        f"{text} {unit}" for text, (key, unit) in zip(texts, UNITS.items(), strict=True) if key != "seconds"
    ]
    return ", ".join(text for text in named if not text.startswith("0 "))


def _maker(turn: Generation, number: int | None) -> str:
    if not turn.generate:
        return "people"
    rivals = [f"the rival {name}" for name in turn.rivals]
    return " and ".join([f"generation {number}" if number is not None else "weights from elsewhere", *rivals])


_STARTS = {"fresh": "weights drawn anew", "base": "the base model", "trial": "a trial's weights"}


def _start(generation: Generation) -> str:
    start = generation.start
    if start is None:
        return "not trained"
    whose = f"generation {start.origin}" if isinstance(start.origin, int) else str(start.origin or "")
    text = "the weights of its parent" if start.kind == "parent" else _STARTS.get(start.kind, start.kind)
    return f"{text} ({whose})" if whose else text


def _evidence(g: Generation) -> Iterator[tuple[str, str]]:
    """Who said what of it, in the order of the stages."""
    if g.audit:
        facts = g.audit.facts
        share = estimate_text(facts.precision) if facts.precision else "an unknown share"
        fault = f"; {facts.fault}" if facts.fault else ""
        yield (
            "audit",
            f"{share} of the kept samples are right, {facts.kept.graded} graded by {facts.grader}{fault}",
        )
    if g.screen:
        yield "dev", g.screen.facts.reason
    if g.gate:
        verdict = g.gate.facts.verdict
        yield "gate", f"{'passed' if verdict.promote else 'not passed'}: {verdict.reason}"
    for alarm in g.guard.facts.alarms if g.guard else ():
        yield f"guard {alarm.guard}", alarm_text(alarm)
    if g.review:
        facts_ = g.review.facts
        yield "review", f"{'consent' if facts_.consent else 'no consent'} by {facts_.reviewer}"


def alarm_text(alarm: GuardAlarm) -> str:
    """``passed: ...``, ``warns: ...``."""
    word = {
        Action.PASS: "passed",
        Action.WARN: "warns",
        Action.ASK: "asks for consent",
        Action.REJECT: "rejects",
        Action.HALT: "halts the run",
    }[alarm.action]
    return f"{word}: {alarm.reason}" if alarm.reason else word


def _figures(g: Generation, parent: Generation | None, state: RunState) -> Iterator[Figure]:
    theirs = metrics(parent, state) if parent else {}
    for suite, by_metric in metrics(g, state).items():
        for metric, estimate in by_metric.items():
            before = theirs.get(suite, {}).get(metric)
            text = estimate_text(before) if before else "-"
            yield Figure(suite, metric, state.roles.get(suite, ""), estimate_text(estimate), text)


def _settings(g: Generation, parent: Generation | None) -> Iterator[Setting]:
    before = parent.settings if parent else {}
    for name, value in g.settings.items():
        old = before.get(name, value)
        yield Setting(name, value_text(value), value_text(old) if parent and old != value else None)


def value_text(value: Any) -> str:
    """A setting for people."""
    return number_text(value) if isinstance(value, float) else str(value)


def _largest(counts: Mapping[str, int], most: int = 8) -> Mapping[str, int]:
    return dict(sorted(counts.items(), key=lambda pair: -pair[1])[:most])
