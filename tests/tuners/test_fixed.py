from __future__ import annotations

import pytest

from flywheel.keys import Key
from flywheel.protocols import TunerView
from flywheel.records import Choice, Start
from flywheel.tuners import Fixed


@pytest.mark.parametrize("init", ["parent", "base", "fresh"])
def test_nothing_is_changed_and_nothing_is_tried(init: str) -> None:
    settings, carry = {"lr": 0.1, "width": 4}, {"tried": 3}
    view = TunerView(settings, {init: Start(init)}, init, (), (), carry, Key.root(0))
    assert Fixed().ask(view) is None
    assert Fixed().choose(view) == Choice(settings, init, carry)
