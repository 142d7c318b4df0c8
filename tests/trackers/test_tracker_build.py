"""What is no tracker is refused before any data is read: the rule, the value, the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger

from flywheel.errors import ConfigError
from flywheel.testing.moons.task import Moons
from flywheel.trackers import NoTracker
from tests.support.loop_runs import run_moons

LOGGERS = "lightning.pytorch.loggers"


class Picky(NoTracker):
    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"size must be 1 or more; it is {size}")


class Lacking(NoTracker):
    def __init__(self) -> None:
        raise ModuleNotFoundError("No module named 'dashboards'")


class OnlyEvents:
    def event(self, event: Any, state: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("tracker", "words"),
    [
        ({"tracker": "wandbb"}, ["no tracker 'wandbb'. Did you mean wandb? Known: csv, none, wandb"]),
        (
            {"tracker": ["wandb", "nonne"]},
            ["no tracker 'nonne'. Did you mean none? Known: csv, none"],
        ),
        ({"+tracker.x._target_": "flywheel.trackers.NoTrackr"}, ["Did you mean NoTracker"]),
        (
            {"+tracker.x._target_": "mlfloww.Nope"},
            ["No module named 'mlfloww'. Install its package"],
        ),
        (
            {"+tracker.x._target_": f"{__name__}.OnlyEvents"},
            ["tracker.x must be a tracker, which has open, ", "OnlyEvents has no open", "NoTracker."],
        ),
        ({"+tracker._target_": f"{__name__}.Picky", "+tracker.size": 0}, ["tracker.size must be 1 or more"]),
        ({"+tracker.x._target_": f"{__name__}.Lacking"}, ["tracker.x needs a package", "'dashboards'"]),
        ({"+tracker.x._target_": f"{LOGGERS}.CSVLogger"}, ["tracker.x lacks save_dir"]),
    ],
)
def test_bad_trackers_are_refused_before_data_is_read(
    tracker: dict[str, Any], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Moons, "seed", lambda self: pytest.fail("data was read"))
    with pytest.raises(ConfigError) as caught:
        run_moons(tmp_path / "runs", **tracker)
    assert all(word in str(caught.value) for word in words), caught.value
    assert "Traceback" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


class ClearLogger(CSVLogger):
    """Has a task of its own, as ClearML's loggers have."""

    @property
    def task(self) -> str:
        return "a task of the dashboard"


def test_a_logger_s_own_task_is_not_the_recipe_s(tmp_path: Path) -> None:
    own = {"+tracker.x._target_": f"{__name__}.ClearLogger", "+tracker.x.save_dir": str(tmp_path / "logs")}
    run_moons(tmp_path / "runs", generations=0, **own)
    assert list(tmp_path.glob("logs/**/metrics.csv"))
