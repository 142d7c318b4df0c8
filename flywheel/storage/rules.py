"""The rules of a ledger: which events may be written now.

Also what a recall or rollback goes back to: the champion, the frontier, and the carries in force.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flywheel.records import Action, Role
from flywheel.storage import accountant
from flywheel.storage.events import (
    Consented,
    Decided,
    Event,
    FellBack,
    GenerationEnded,
    GenerationStarted,
    Look,
    Pruned,
    Recalled,
    RolledBack,
    RunCreated,
    RunEnded,
    StageDone,
    Status,
)
from flywheel.storage.policy import EACH, FRONTIER, GREEDY, Promotion

if TYPE_CHECKING:
    from flywheel.storage.state import Generation, RunState

_READ_SUITES = ("screen", "evaluate", "gate")
"""Stages that read suites, in a turn."""
_GIVEN_UP = "a frontier whose looks have failed is given up first"


def why_not(state: RunState, event: Event) -> str | None:
    """The rule that an event would break now; None: it breaks none."""
    match event:
        case StageDone():
            return _why_not_do(state, event)
        case Decided():
            return _why_not_decide(state, event)
        case RunCreated():
            return _why_not_create(state, event)
        case GenerationStarted():
            return _why_not_start(state, event)
        case Look(role=Role.SEALED):
            return _why_not_open(state, event)
        case Look():
            return _why_not_charge(state, event)
        case GenerationEnded():
            return _why_not_end(state, event)
        case RunEnded():
            is_lost = event.cost and not _has(state, event.generation)
            return "a stage that was cut off is a generation's" if is_lost else None
        case FellBack():
            return _why_not_fall_back(state, event)
        case Recalled() | RolledBack():
            return _why_not_recall(state, event)
        case Pruned():
            return _why_not_prune(state, event.objects, event.slim)
        case Consented():
            is_asked = state.asked is not None and event.manifest == state.asked
            return None if is_asked else "an answer is to what the run asks"
    return None


def _why_not_create(state: RunState, event: RunCreated) -> str | None:
    try:
        Promotion.of(event.config)
    except (TypeError, ValueError) as error:
        return f"a run promotes by a rule that is known: {error}"
    return "a run is created once" if state.created else None


def _why_not_do(state: RunState, event: StageDone[Any]) -> str | None:
    is_look = event.stage == "sealed"
    rule = _why_not_look(state, event.generation) if is_look else _why_not_under_way(state, event.generation)
    if rule:
        return rule
    if state.current and event.stage in state.current.stages:
        return "a stage is done once"
    if event.stage == "labels" and state.generations[event.generation].refit_of is None:
        return "only a refit is given the labels of dev and gate"
    if event.stage in _READ_SUITES and (rule := _why_not_read(state, event) or _why_not_show(state, event)):
        return rule
    if state.pruned and (gone := state.pruned.keys() & event.inputs.values()):
        return f"what was pruned cannot be used, as {min(gone)} was"
    return None


def _why_not_decide(state: RunState, event: Decided) -> str | None:
    if rule := _why_not_under_way(state, event.generation):
        return rule
    generation = state.generations[event.generation]
    if event.stage in generation.stages or event.what in generation.decisions:
        return "a stage decides a thing once, before it is done"
    return None


def _why_not_open(state: RunState, opening: Look) -> str | None:
    if state.current or state.champion is None or opening.generation != state.champion.number:
        return "sealed suites are opened for the champion, between generations"
    if not state.champions_to_look_at:
        return "a champion is looked at once"
    if opening.number != len(state.openings) + 1:
        return f"openings are numbered in order, the next is {len(state.openings) + 1}"
    return None if opening.level is None else "an opening has no level"


def _why_not_charge(state: RunState, look: Look) -> str | None:
    if look.role is not Role.GATE:
        return "only looks at gate and sealed suites are charged"
    if state.promotion.rule == GREEDY:
        return "with promotion=greedy nothing is tested"
    is_frontier = state.frontier is not None and look.generation == state.frontier.number
    if state.promotion.rule == FRONTIER and (state.current or not is_frontier):
        return "with promotion=frontier that one is looked at, between generations"
    if state.must_fall_back:
        return _GIVEN_UP
    if state.promotion.rule == EACH and (rule := _why_not_under_way(state, look.generation)):
        return rule
    generation = state.generations[look.generation]
    if not generation.is_turn or generation.look:
        return "a turn is looked at once, a genesis and a refit never"
    if look.number != len(state.looks) + 1:
        return f"looks are numbered in order, the next is {len(state.looks) + 1}"
    due = accountant.level_due(state)
    return None if look.level == due else f"the accountant gives the level, which is {due}"


def _why_not_read(state: RunState, event: StageDone[Any]) -> str | None:
    """The rule that outcomes on gate items, or a verdict on them, would break."""
    generation = state.generations[event.generation]
    if event.stage == "screen" and {state.roles.get(suite) for suite in event.facts.metrics} - {Role.DEV}:
        return "a candidate is screened on dev alone"
    if event.stage == "screen" or generation.is_genesis:
        return None
    look = generation.look
    if look is None:
        return "a look is charged before there are outcomes"
    if event.stage == "gate" and event.facts.verdict.level != look.level:
        return "a gate decides at the level of its look"
    return None


def _why_not_show(state: RunState, event: StageDone[Any]) -> str | None:
    for suite in getattr(event.facts, "repeated", ()):
        last = state.generations[state.shown[suite]].evaluate if suite in state.shown else None
        if last is None or event.facts.metrics.get(suite) != last.facts.metrics[suite]:
            return "what is repeated is what was shown last"
    return None


def _why_not_under_way(state: RunState, number: int) -> str | None:
    is_current = state.current is not None and state.current.number == number
    return None if is_current else "it is not the one under way"


def _why_not_end(state: RunState, event: GenerationEnded) -> str | None:
    if rule := _why_not_under_way(state, event.generation):
        return rule
    candidate = state.generations[event.generation]
    if candidate.refit_of is not None:
        return _why_not_end_refit(candidate, event)
    if event.status in (Status.UNFINISHED, Status.FINAL):
        return "it may end as failed, promoted, rejected, advanced"
    if event.status is Status.REJECTED and candidate.status is Status.ADVANCED:
        return None if _is_refused(candidate) else "only a guard or a review rejects what has advanced"
    if event.status is Status.ADVANCED:
        return _why_not_advance(state, candidate)
    return _why_not_promote(state, candidate) if event.status is Status.PROMOTED else None


def _why_not_advance(state: RunState, candidate: Generation) -> str | None:
    if state.promotion.rule != FRONTIER or not candidate.is_turn:
        return "only with promotion=frontier a turn's candidate advances"
    is_there = candidate.weights is not None and _advances(state, candidate)
    return None if is_there else "what advances has done no shown harm on dev"


def _advances(state: RunState, candidate: Generation) -> bool:
    """Whether the screening, of the right comparisons, lets a candidate go on."""
    if candidate.screen is None:
        return False
    facts, ahead = candidate.screen.facts, state.best_ahead
    is_looked_at = candidate.status is Status.ADVANCED  # then it is the best ahead itself, perhaps
    due = [g.number for g in (state.champion, ahead) if g]
    is_right = is_looked_at or [one.generation for one in facts.against] == due
    return is_right and facts.advance and state.promotion.advances(facts.against)


def _why_not_fall_back(state: RunState, event: FellBack) -> str | None:
    if not state.must_fall_back:
        return "a frontier is given up between generations, once its looks have failed"
    if event.champion != (state.champion.number if state.champion else None):
        return "a frontier falls back to the champion"
    abandoned = tuple(g.number for g in state.ahead)
    return None if event.generations == abandoned else f"what is abandoned is {list(abandoned)}"


def _why_not_end_refit(refit: Generation, event: GenerationEnded) -> str | None:
    if event.status not in (Status.FINAL, Status.FAILED):
        return "a refit is neither promoted nor rejected: it may end as final, failed"
    if event.carry:
        return "a refit leaves no carry"
    return "a final has weights" if event.status is Status.FINAL and not refit.weights else None


def _has(state: RunState, number: int | None) -> bool:
    return number is not None and 0 <= number < len(state.generations)


def _why_not_look(state: RunState, number: int) -> str | None:
    if number in state.sealed:
        return "a champion is looked at once"
    return None if number in state.unsealed else "sealed suites are opened for a champion first"


def _why_not_start(state: RunState, event: GenerationStarted) -> str | None:
    if state.current:
        return "one generation at a time"
    if event.generation != len(state.generations):
        return f"generations are numbered in order, the next is {len(state.generations)}"
    if event.champion != (state.champion.number if state.champion else None):
        return "the champion is the one in force"
    if event.refit:
        return _why_not_refit(state, event)
    if state.must_fall_back:
        return _GIVEN_UP
    frontier = state.frontier.number if state.frontier else None
    return None if event.parent == frontier else "the frontier is the parent"


def _why_not_refit(state: RunState, event: GenerationStarted) -> str | None:
    if state.champion is None or event.parent != state.champion.parent:
        return "a refit is of the champion, and has the parent that it has"
    return "a champion has one final" if state.final else None


def _why_not_promote(state: RunState, candidate: Generation) -> str | None:
    if not candidate.weights:
        return "a champion has weights"
    consent = candidate.review is not None and candidate.review.facts.consent
    if not candidate.is_genesis and not (_is_better(state, candidate) and consent):
        return "a promotion needs the gate's verdict and the review's consent"
    if _is_refused(candidate):
        return "what a guard rejects, or halts the run for, is not promoted"
    return None


def _is_better(state: RunState, candidate: Generation) -> bool:
    """Whether the gate found it to be; with ``promotion=greedy`` its mean on dev, which is no test."""
    if state.promotion.rule == GREEDY:
        return _advances(state, candidate)
    return candidate.gate is not None and candidate.gate.facts.verdict.promote


def _why_not_prune(state: RunState, names: Mapping[str, int], slim: Mapping[str, str]) -> str | None:
    if not names or state.pruned.keys() & names.keys():
        return "what is pruned is there"
    if not names.keys().isdisjoint(slim.values()) or not state.replacements.isdisjoint(names):
        return "what stands in for something stays"
    used = (state.champion, state.first_champion, state.final, state.current, state.frontier)
    stay = {generation.weights for generation in used if generation}
    rule = "the weights of champions, of the final and of the frontier stay"
    return rule if stay & names.keys() else None


def _is_refused(candidate: Generation) -> bool:
    """Whether a guard rejected it, or halted the run, or the review said no."""
    alarms = candidate.guard.facts.alarms if candidate.guard else ()
    consent = candidate.review is None or candidate.review.facts.consent
    return not consent or any(alarm.action in (Action.REJECT, Action.HALT) for alarm in alarms)


def _why_not_recall(state: RunState, event: Recalled | RolledBack) -> str | None:
    """The rule that such an event would break now; None: it breaks none."""
    if isinstance(event, RolledBack):
        return _why_not_go_back(state, event.champion, frontier=event.champion)
    recalled, suspect = set(event.generations), set(event.suspect)
    if not recalled | suspect <= set(range(len(state.generations))) or recalled & suspect:
        return "recalled and suspect generations are different ones that there are"
    if event.champion != champion_without(state, recalled):
        return "the champion goes back to its newest ancestor that is not recalled and has its weights"
    frontier = frontier_without(state, event.champion, recalled)
    if frontier != (event.champion if event.frontier is None else event.frontier):
        return "the frontier goes back to its newest ancestor that is not recalled and has its weights"
    if event.carry != carries_without(state, frontier, recalled | suspect).artifacts:
        return "the carries go back to the newest ones that nothing recalled or suspect left"
    return _why_not_go_back(state, event.champion, recalled, suspect, frontier)


def _why_not_go_back(
    state: RunState,
    number: int | None,
    recalled: Collection[int] = (),
    suspect: Collection[int] = (),
    frontier: int | None = None,
) -> str | None:
    under_way = state.current
    if under_way and (under_way.number in {*recalled, *suspect} or not goes_on(under_way, number, frontier)):
        return "a generation under way that is flagged, or not the new champion's, is ended first"
    if number is None:
        return None
    if number not in range(len(state.generations)):
        return "a champion is a generation of the run"
    chosen = state.generations[number]
    if chosen.status != "promoted" or chosen.recalled or number in recalled:
        return "a champion was promoted and is not recalled"
    if chosen.weights in state.pruned:
        return "a champion has weights, and these were pruned"
    return None


@dataclass(frozen=True, slots=True)
class Carries:
    """The carries in force at a time, by component. Never changed, so that they can be shared."""

    artifacts: Mapping[str, str] = field(default_factory=dict)
    """What each component goes on from."""
    left_by: Mapping[str, int] = field(default_factory=dict)
    """The generation that left it."""

    def updated(self, artifacts: Mapping[str, str], generation: int) -> Carries:
        """Those in force once a generation has left some."""
        if not artifacts:
            return self
        left_by = dict.fromkeys(artifacts, generation)
        return Carries({**self.artifacts, **artifacts}, {**self.left_by, **left_by})


def carries_without(state: RunState, frontier: int | None, flagged: Container[int] = ()) -> Carries:
    """The carries in force after a recall that made this the frontier and flagged these generations.

    Of each component the newest that was in force on the frontier's line, and that was left by no
    generation that is flagged recalled or suspect: what a part saw is in its carry.
    """
    artifacts, left_by = dict[str, str](), dict[str, int]()
    while frontier is not None:
        generation = state.generations[frontier]
        for carries in (generation.carry_after, generation.carry_before):
            for component in carries.artifacts.keys() - artifacts.keys():
                number = carries.left_by[component]
                leaver = state.generations[number]
                if number not in flagged and not leaver.recalled and not leaver.suspect:
                    artifacts[component], left_by[component] = carries.artifacts[component], number
        frontier = generation.parent
    return Carries(artifacts, left_by)


def frontier_without(state: RunState, champion: int | None, flagged: Container[int] = ()) -> int | None:
    """The frontier, or the newest that it descends from, that can be one and is none of these.

    ``champion``: the one from now on, beyond which nobody goes back.
    """
    at = state.frontier
    while at and champion is not None and at.number != champion:
        if at.number not in flagged and state.can_be_frontier(at):
            return at.number
        at = None if at.parent is None else state.generations[at.parent]
    return champion


def goes_on(under_way: Generation, champion: int | None, frontier: int | None) -> bool:
    """Whether a generation under way can go on where these are the champion and the frontier now."""
    if under_way.champion != champion:
        return False
    return not under_way.is_turn or frontier in (under_way.parent, under_way.number)


def champion_without(state: RunState, recalled: Container[int]) -> int | None:
    """The champion, or the newest champion that it descends from, that is not recalled or pruned; or None."""
    chosen = state.champion
    while chosen and (chosen.number in recalled or not state.can_be_champion(chosen)):
        chosen = None if chosen.parent is None else state.generations[chosen.parent]
    return chosen.number if chosen else None
