"""The carries in force: what each part goes on from, and which generation left it."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flywheel.lineage.state import RunState


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


def carries_without(state: RunState, champion: int | None, flagged: Container[int] = ()) -> Carries:
    """The carries in force after a recall that made ``champion`` champion and flagged these generations.

    Of each component the newest that was in force on the champion's line, and that was left by no
    generation that is flagged recalled or suspect: what a part saw is in its carry.
    """
    artifacts, left_by = dict[str, str](), dict[str, int]()
    while champion is not None:
        generation = state.generations[champion]
        for carries in (generation.carry_after, generation.carry_before):
            for component in carries.artifacts.keys() - artifacts.keys():
                number = carries.left_by[component]
                leaver = state.generations[number]
                if number not in flagged and not leaver.recalled and not leaver.suspect:
                    artifacts[component], left_by[component] = carries.artifacts[component], number
        champion = generation.parent
    return Carries(artifacts, left_by)
