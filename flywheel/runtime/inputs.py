"""What the loop gives to stages, as far as it follows from the record: settings, starts, sources, trials."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flywheel.lineage.status import forked_from
from flywheel.records import Settings, Start
from flywheel.runtime.runner import StageRunner
from flywheel.storage.sources import Source, sources_of
from flywheel.storage.state import Generation


def shown_before(run: StageRunner) -> dict[str, dict[str, Any]]:
    """Of each gate suite, the outcomes and the estimates that were shown last."""
    last = {suite: run.state.generations[number] for suite, number in run.state.shown.items()}
    outcomes = {suite: g.output("evaluate", "outcomes") for suite, g in last.items()}
    figures = {suite: g.evaluate.facts.metrics[suite] for suite, g in last.items() if g.evaluate}
    return {"shown": outcomes, "figures": figures}


def dev_outcomes(generations: Iterable[Generation | None]) -> dict[str, str]:
    """Number -> table with the outcomes on dev, of each of these generations, in their order."""
    outcomes: dict[str, str] = {}
    for generation in filter(None, generations):
        name = generation.output("screen", "outcomes") or generation.output("evaluate", "outcomes")
        outcomes[str(generation.number)] = str(name)
    return outcomes


def settings_in_force(run: StageRunner, parent: Generation) -> Settings:
    """The parent's settings; after genesis, whose settings are its own, the configured ones."""
    return run.components.settings() if parent.is_genesis else parent.settings


def human_of(run: StageRunner) -> Generation:
    """The generation that recorded the human samples."""
    return next(generation for generation in run.state.generations if generation.seed)


def base_of(run: StageRunner) -> Start | None:
    """The start ``base``, if the run was given weights."""
    base = human_of(run).output("seed", "base")
    return Start("base", base, forked_from(run.state)) if base else None


def starts_of(run: StageRunner, parent: Generation) -> dict[str, Start]:
    """What a turn's candidate may start from, by kind."""
    base = base_of(run)
    starts = [Start("parent", parent.weights, parent.number), Start("fresh"), *([base] if base else [])]
    return {start.kind: start for start in starts}


def prior_trials(run: StageRunner) -> list[tuple[int, str]] | None:
    """The generations with trials, but for those that are recalled, and the artifacts of these."""
    tried = [run.state.generations[number] for number in run.state.with_trials]
    return [(g.number, str(g.output("tune", "trials"))) for g in tried if not g.recalled] or None


def sources_before(run: StageRunner, parent: Generation) -> list[Source]:
    """Batches that a corpus may draw on besides the newest.

    The human one, those in the parent's corpus, and those of its turns that were rejected or abandoned; none
    that is recalled. None of them was pruned: see ``storage.retention``.
    """
    human = [human_of(run).output("seed", "samples"), None]
    turns = (run.state.generations[number] for number in parent.turns)
    batches = [[g.output("generate", "samples"), g.output("grade", "scores")] for g in turns]
    earlier = [*sources_of(run.store, parent), *batches]
    recalled = run.state.recalled_batches
    return [human, *(source for source in earlier if source != human and source[0] not in recalled)]


def sources_again(run: StageRunner, champion: Generation) -> list[Source]:
    """The human batch, and those that the champion's curator kept something of, its own turn's in any case.

    None of them was pruned, as a champion is kept whole; those that it kept nothing of may be gone.
    """
    human = [human_of(run).output("seed", "samples"), None]
    own = [[champion.output("generate", "samples"), champion.output("grade", "scores")]]
    kept = [source for source in sources_of(run.store, champion) if source not in (human, *own)]
    earlier = [source for source in kept if source[0] not in run.state.recalled_batches]
    return [human, *earlier, *(own if champion.generate else [])]
