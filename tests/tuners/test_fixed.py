from __future__ import annotations

import pytest

from flywheel.tuners.fixed import Fixed


def no_attempt(settings: dict[str, object], fidelity: float) -> float:
    raise AssertionError("nothing is to be tried")


@pytest.mark.parametrize("init", ["parent", "base", "fresh"])
def test_nothing_is_changed_and_nothing_is_tried(init: str) -> None:
    settings, carry = {"lr": 0.1, "width": 4}, {"tried": 3}
    assert Fixed().tune(no_attempt, dict(settings), init, carry) == (settings, init, carry)
