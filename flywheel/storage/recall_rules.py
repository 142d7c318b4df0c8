"""What may be recalled and rolled back to, and the carries in force before and after.

The rules of the events ``recalled`` and ``rolled_back``.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flywheel.storage.events import Recalled, RolledBack

if TYPE_CHECKING:
    from flywheel.storage.state import Generation, RunState


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


def why_not(state: RunState, event: Recalled | RolledBack) -> str | None:
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
