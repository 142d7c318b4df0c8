"""Which generation of a run is meant."""

from pathlib import Path

import pytest

from flywheel.errors import RunError
from flywheel.lineage.generation import find_generation
from flywheel.lineage.recall import recall
from flywheel.lineage.status import read_state
from flywheel.storage.state import RunState


def test_by_number_champion_or_last(run_copy: Path) -> None:
    recall(run_copy, generation="last", why="flawed", yes=True)
    state = read_state(run_copy)
    newest = len(state.generations) - 1
    assert find_generation(run_copy, state, 1).number == 1
    assert find_generation(run_copy, state, "last").number == newest
    assert find_generation(run_copy, state, "champion") is state.champion
    assert state.champion is not None
    assert state.champion.number < newest


@pytest.mark.parametrize("which", [-1, 99, "1", "first", ""])
def test_what_there_is_not_is_refused(finished_run: Path, which: int | str) -> None:
    with pytest.raises(RunError, match=f"0 to 2, champion, last or final; got {which}"):
        find_generation(finished_run, read_state(finished_run), which)


def test_a_run_without_generations_or_champion_says_so(finished_run: Path) -> None:
    for which in (0, "champion", "last"):
        with pytest.raises(RunError, match="no generation yet"):
            find_generation(finished_run, RunState(), which)
    genesis = read_state(finished_run).generations[0]
    with pytest.raises(RunError, match="no champion yet: name a generation by its number"):
        find_generation(finished_run, RunState(generations=[genesis]), "champion")
