from __future__ import annotations

from flywheel.storage.rules import Carries, carries_without
from flywheel.storage.state import Generation, RunState, Status


def test_what_the_champion_began_with_was_in_force_on_its_line() -> None:
    """A rejected turn may leave a carry too, which its champion did not."""
    first = Carries({"curator": "a"}, {"curator": 0})
    state = RunState(generations=[Generation(0, None, Status.PROMOTED, carry_after=first)])
    before, after = Carries({"curator": "b"}, {"curator": 2}), Carries({"curator": "c"}, {"curator": 1})
    state.generations.append(Generation(1, 0, Status.PROMOTED, carry_before=before, carry_after=after))
    state.generations.append(Generation(2, 0, Status.REJECTED))
    assert carries_without(state, 1).artifacts == {"curator": "c"}
    assert carries_without(state, 1, {1}).artifacts == {"curator": "b"}
    assert carries_without(state, 1, {1, 2}).artifacts == {"curator": "a"}
