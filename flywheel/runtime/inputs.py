"""What the loop gives to stages, as far as it follows from the record: settings, starts, sources, trials."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from flywheel import ranks
from flywheel.lineage.status import forked_from
from flywheel.metrics import audits
from flywheel.records import TRIAL, Settings, Start
from flywheel.runtime.runner import StageRunner
from flywheel.storage.events import AuditsBefore, Decided
from flywheel.storage.sources import Source, batch_source, sources_of
from flywheel.storage.state import Generation
from flywheel.tuners import memory

FIRST_TURNS = 4
"""Turns at the beginning of a run that guards may compare a later one with."""


def shown_before(run: StageRunner) -> dict[str, dict[str, Any]]:
    """Of each gate suite, the outcomes and the estimates that were shown last."""
    last = {suite: run.state.generations[number] for suite, number in run.state.shown.items()}
    outcomes = {suite: g.output("evaluate", "outcomes") for suite, g in last.items()}
    figures = {suite: g.evaluate.facts.metrics[suite] for suite, g in last.items() if g.evaluate}
    return {"shown": outcomes, "figures": figures}


def dev_outcomes(generations: Iterable[Generation | None]) -> dict[str, str]:
    """Number -> table with the outcomes on dev, of each of these generations, in their order."""
    return {str(generation.number): str(generation.dev_outcomes) for generation in filter(None, generations)}


def seen_by_guards(run: StageRunner, generation: Generation) -> dict[str, Any]:
    """What guards compare a generation with besides its champion.

    The parent and the first champion with their outcomes; of the first turns that have them, and of this
    one, what was generated, and of the first that were guarded what guards measured. As few as they are, a
    guard costs the same however many turns there were.
    """
    parent, first = run.state.generations[generation.parent or 0], run.state.first_champion
    known = [g for g in (parent, first) if g and not g.recalled]
    outcomes = {
        str(g.number): str(g.output("evaluate", "outcomes") or g.output("screen", "outcomes")) for g in known
    }
    turns = [*islice(_earlier_batches(run, generation), FIRST_TURNS), generation]
    batches = [[g.number, *batch_source(g)] for g in turns]
    guarded = (g for g in run.state.generations[: generation.number] if g.guard and not g.recalled)
    measured = {
        g.number: {alarm.guard: alarm.numbers for alarm in g.guard.facts.alarms if alarm.numbers}
        for g in islice(guarded, FIRST_TURNS)
        if g.guard
    }
    before = {"parent": parent, "first_champion": first, "outcomes": outcomes}
    return {**before, "batches": batches, "measured": measured}


def _earlier_batches(run: StageRunner, generation: Generation) -> Iterator[Generation]:
    """Turns before a generation whose batches are there, the oldest first."""
    for earlier in run.state.generations[: generation.number]:
        names = [earlier.output("generate", "samples"), earlier.output("grade", "scores")]
        if None not in names and not earlier.recalled and not run.state.pruned.keys() & set(names):
            yield earlier


def settings_in_force(run: StageRunner, parent: Generation) -> Settings:
    """The parent's settings; after genesis the configured ones, with what was tuned there.

    What ``genesis_settings`` names is the genesis' own, and ends with it.
    """
    return run.components.settings_after_genesis(parent.settings) if parent.is_genesis else parent.settings


def human_of(run: StageRunner) -> Generation:
    """The generation that recorded the human samples."""
    return next(generation for generation in run.state.generations if generation.seed)


def base_of(run: StageRunner) -> Start | None:
    """The start ``base``, if the run was given weights."""
    base = human_of(run).output("seed", "base")
    return Start("base", base, forked_from(run.state)) if base else None


def rivals_of(run: StageRunner, parent: Generation) -> dict[str, Generation | Start]:
    """Who answers prompts beside the parent, by name: generations, and weights from elsewhere.

    None has the weights of the parent or of another one.
    """
    rivals: dict[str, Generation | Start] = {}
    known, own = {parent.weights}, run.state.rivals
    for name in run.config["rivals"]:
        imported = human_of(run).output("seed", f"rival_{name}")
        rival = Start("rival", imported) if imported else own.get(name)
        if rival is not None and rival.weights not in known:
            rivals[name] = rival
            known.add(rival.weights)
    return rivals


def starts_of_genesis(run: StageRunner) -> dict[str, Start]:
    """What a genesis may start from, by kind."""
    start = base_of(run) or Start("fresh")
    return {start.kind: start}


def starts_of(run: StageRunner, parent: Generation) -> dict[str, Start]:
    """What a turn's candidate may start from, by kind."""
    base = base_of(run)
    starts = [Start("parent", parent.weights, parent.number), Start("fresh"), *([base] if base else [])]
    return {start.kind: start for start in starts}


def chosen_start(run: StageRunner, generation: Generation, starts: Mapping[str, Start]) -> Start:
    """What the candidate starts from: of the kind that the tuner chose, or a trial's weights.

    Those descend from what the trial itself started from.
    """
    tuned = generation.tune
    assert tuned is not None, "tune chooses the start"
    if tuned.facts.start != TRIAL:
        return starts[tuned.facts.start]
    return Start(TRIAL, tuned.outputs["weights"], starts[_start_of_trial(run, generation)].origin)


def _start_of_trial(run: StageRunner, generation: Generation) -> str:
    """The kind of start of the trial that a generation's tuner chose."""
    assert generation.tune is not None
    trials = run.store.json(generation.tune.outputs["trials"])
    return str(trials[generation.tune.facts.trial]["trial"]["start"])


def start_again(run: StageRunner, champion: Generation) -> Start:
    """What a refit of the champion starts from: what it did, or its trial."""
    assert champion.start is not None, "a champion was trained"
    if champion.start.kind != TRIAL:
        return champion.start
    parent = None if champion.parent is None else run.state.generations[champion.parent]
    starts = starts_of(run, parent) if parent else starts_of_genesis(run)
    return starts[_start_of_trial(run, champion)]


def memory_of(run: StageRunner, generation: Generation) -> str | None:
    """The artifact of what the tuner's memory held of other runs when first asked; None: it has none."""
    path = run.components.tuner_memory
    if path is None:
        return None

    def read() -> Decided:
        studies = memory.studies(path, apart_from=_id_of(run))
        return Decided(
            generation=generation.number,
            stage="tune",
            what="memory",
            value=run.store.put_json(studies),
            reason=f"{path.name} holds {len(studies)} studies of other runs",
        )

    return str(run.decide(generation, "memory", read).value)


def remember_trials(run: StageRunner, generation: Generation) -> None:
    """Add the generation's trials to the tuner's memory, once; and retire there what is recalled here."""
    path, trials = run.components.tuner_memory, generation.output("tune", "trials")
    if path is None or trials is None:
        return
    created = run.state.created
    assert created is not None
    of = f"{created.recipe}/{created.name}@{generation.number}"
    results = run.store.json(trials)
    recalled = [g.number for g in run.state.generations if g.are_trials_retired]

    def add() -> None:
        if results:
            memory.add(path, _id_of(run), generation.number, of, results)
        memory.retire(path, _id_of(run), recalled)

    ranks.from_rank_0(add)


def _id_of(run: StageRunner) -> str:
    assert run.state.created is not None
    return run.state.created.hash


def prior_trials(run: StageRunner) -> list[tuple[int, str]] | None:
    """The newest generations whose trials are not retired, the oldest first; and these trials."""
    tried = (run.state.generations[number] for number in run.state.with_trials)
    left = [(g.number, str(g.output("tune", "trials"))) for g in tried if not g.are_trials_retired]
    return left[-memory.NEWEST :] or None


def sources_before(run: StageRunner, parent: Generation) -> list[Source]:
    """Batches that a corpus may draw on besides the newest.

    The human one, those in the parent's corpus, and those of its turns that were rejected or abandoned; none
    that is recalled. None of them was pruned: see ``storage.retention``.
    """
    human = of_people(human_of(run).output("seed", "samples"))
    turns = (run.state.generations[number] for number in parent.turns)
    earlier = [*sources_of(run.store, parent), *map(batch_source, turns)]
    recalled = run.state.recalled_batches
    return [human, *(source for source in earlier if source != human and source[0] not in recalled)]


def stream_before(run: StageRunner, parent: Generation | None) -> str | None:
    """The artifact of how far a curator had come that decides batch by batch; None: nothing was decided so.

    On the batches of the parent's corpus and those of its turns since, as far as there are any: so that none
    is decided on again by each turn that follows.
    """
    if parent is None:
        return None
    turns = [parent, *(run.state.generations[number] for number in parent.turns)]
    return next(filter(None, (turn.output("curate", "stream") for turn in reversed(turns))), None)


def sources_again(run: StageRunner, champion: Generation) -> list[Source]:
    """The human batch, and those that the champion's curator kept something of, its own turn's in any case.

    None of them was pruned, as a champion is kept whole; those that it kept nothing of may be gone.
    """
    human = of_people(human_of(run).output("seed", "samples"))
    own = [batch_source(champion)]
    kept = [source for source in sources_of(run.store, champion) if source not in (human, *own)]
    earlier = [source for source in kept if source[0] not in run.state.recalled_batches]
    return [human, *earlier, *(own if champion.generate else [])]


def of_people(samples: str | None) -> Source:
    """What people made, as a source: it is neither scored nor audited."""
    return [samples, None, None]


def audits_before(run: StageRunner, generation: Generation) -> AuditsBefore | None:
    """What the audits of earlier turns found together, but for those that are recalled."""
    earlier = run.state.generations[: generation.number]
    return audits.before(g.audit.facts for g in earlier if g.audit and not g.recalled)
