"""Which settings a generation begins with."""

from __future__ import annotations

from typing import ClassVar

import pytest

from flywheel.protocols import TunerView
from flywheel.records import Choice, Settings
from tests.support.loop_runs import Probe

HERE = "tests.loop.test_loop_settings"


class Doubles:
    """Chooses twice the learning rate and one step more, and notes what was in force."""

    in_force: ClassVar[list[Settings]] = []

    def ask(self, view: TunerView) -> None:
        self.in_force.append(dict(view.settings))

    def choose(self, view: TunerView) -> Choice:
        lr, steps = view.settings["lr"], view.settings["steps"]
        return Choice({**view.settings, "lr": lr * 2, "steps": steps + 1}, view.init)


@pytest.mark.parametrize(
    ("genesis_settings", "genesis", "first"),
    [({}, (0.1, 4), (0.2, 5)), ({"steps": 9}, (0.1, 9), (0.2, 4)), ({"lr": 0.5}, (0.5, 4), (0.1, 5))],
    ids=["none of its own", "steps of its own", "rate of its own"],
)
def test_what_genesis_tunes_goes_on_but_for_settings_of_its_own(
    probe: Probe,
    monkeypatch: pytest.MonkeyPatch,
    genesis_settings: Settings,
    genesis: tuple[float, int],
    first: tuple[float, int],
) -> None:
    import importlib

    noted = importlib.import_module(HERE).Doubles  # as the run imports it
    monkeypatch.setattr(noted, "in_force", [])
    own = {f"+genesis_settings.{name}": value for name, value in genesis_settings.items()}
    run = probe(
        tuner___target_=f"{HERE}.Doubles",
        generations=2,
        settings__lr=0.1,
        settings__steps=4,
        **own,
    )
    assert run.status().champion is not None
    values = [(settings["lr"], settings["steps"]) for settings in noted.in_force]
    is_promoted = run.show(1).status == "promoted"
    assert values[:2] == [genesis, first]
    if is_promoted:
        assert values[2] == (first[0] * 2, first[1] + 1), "and those of a turn, if it was promoted"
