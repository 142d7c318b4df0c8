"""Which generation of a run is meant: by its number, or as ``champion``, ``last`` or ``final``."""

from __future__ import annotations

from pathlib import Path

from flywheel.errors import RunError
from flywheel.records import CHAMPION, FINAL, LAST
from flywheel.storage.state import Generation, RunState

Which = int | str
"""A generation as users name it: its number, ``champion``, ``last``, or ``final``: the champion's refit."""


def find_generation(directory: Path, state: RunState, which: Which) -> Generation:
    """The generation that is meant. Raises RunError if there is none."""
    known = state.generations
    if not known:
        raise RunError(f"{directory} has no generation yet.")
    if which == CHAMPION and state.champion is None:
        raise RunError(f"{directory} has no champion yet: name a generation by its number.")
    if which == CHAMPION and state.champion:
        return state.champion
    if which == FINAL:
        return _final(directory, state)
    number = known[-1].number if which == LAST else which
    if isinstance(number, str) or not 0 <= number < len(known):
        raise RunError(
            f"Expected a generation of {directory}: 0 to {len(known) - 1}, champion, last or final; "
            f"got {which}."
        )
    return known[number]


def _final(directory: Path, state: RunState) -> Generation:
    if state.final is None:
        raise RunError(
            f"{directory} has no final: the champion was not trained again with the labels of dev and gate. "
            "`resume` it with refit=true."
        )
    return state.final
