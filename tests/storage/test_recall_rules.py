"""Which carries are in force, who left them, and what a recall puts back."""

from __future__ import annotations

import pickle
from pathlib import Path

from flywheel.lineage.graph import EMPTY_CARRY, Graph
from flywheel.lineage.status import read_state
from flywheel.storage.recall_rules import Carries, carries_without
from flywheel.storage.state import Generation, RunState, Status
from flywheel.storage.store import Store


def line(*left: dict[str, str]) -> RunState:
    """A state whose generations were all promoted, each on the one before, and left these carries."""
    state, carries = RunState(), Carries()
    for number, artifacts in enumerate(left):
        g = Generation(number, number - 1 if number else None, Status.PROMOTED, carry_before=carries)
        carries = g.carry_after = carries.updated(artifacts, number)
        g.stages["curate"] = {"outputs": {}}
        state.generations.append(g)
    state.champion, state.carries = state.generations[-1], carries
    return state


def test_each_component_goes_back_to_the_newest_that_nothing_flagged_left() -> None:
    state = line({"curator": "a", "gate": "b"}, {"tuner": "c"}, {"curator": "d", "gate": "e"})
    assert carries_without(state, 2) == state.carries
    assert carries_without(state, 2, {2}).artifacts == {"curator": "a", "tuner": "c", "gate": "b"}
    assert carries_without(state, 2, {2}).left_by == {"curator": 0, "tuner": 1, "gate": 0}
    assert carries_without(state, 2, {0, 2}).artifacts == {"tuner": "c"}
    assert carries_without(state, None).artifacts == {}


def test_flags_of_earlier_recalls_count() -> None:
    state = line({"curator": "a"}, {"curator": "b"}, {"curator": "c"})
    state.generations[2].suspect = state.generations[1].recalled = True
    assert carries_without(state, 2).artifacts == {"curator": "a"}


def test_what_the_champion_began_with_was_in_force_on_its_line() -> None:
    """A rejected turn may leave a carry too, which its champion did not."""
    state = line({"curator": "a"}, {"curator": "c"})
    state.generations[1].carry_before = Carries({"curator": "b"}, {"curator": 7})
    state.generations += [Generation(n, 0, Status.REJECTED) for n in range(2, 8)]
    assert carries_without(state, 1, {1}).artifacts == {"curator": "b"}
    assert carries_without(state, 1, {1, 7}).artifacts == {"curator": "a"}


def settings_from(state: RunState, number: int) -> list[int]:
    edges = Graph(Store(Path()), state).settings_from(state.generations[number])
    return [edge.generation for edge in edges]


def test_the_same_content_left_by_two_is_left_by_the_newer() -> None:
    state = line({"curator": "a"}, {"curator": "a"}, {})
    assert settings_from(state, 2) == [1]


def test_a_tuners_carry_chose_settings_and_a_gates_counted_comparisons() -> None:
    state = line({"tuner": "a", "gate": "b"}, {"gate": "c"}, {})
    assert settings_from(state, 1) == [0]
    assert settings_from(state, 2) == [0, 1], "its parent, and who left the tuner's"


def test_an_empty_carry_chose_nothing() -> None:
    state = line({"curator": EMPTY_CARRY, "tuner": EMPTY_CARRY}, {}, {})
    assert settings_from(state, 1) == []
    assert EMPTY_CARRY == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a.json"


def test_they_travel_to_another_rank_with_the_state(finished_run) -> None:
    state = read_state(finished_run)
    sent = pickle.loads(pickle.dumps(state))
    assert sent.generations == state.generations
    assert sent.carries == state.carries
