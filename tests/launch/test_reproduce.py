"""Training a generation again: equal to the bit here, and a clear answer where it is not."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from msgspec.structs import replace

import flywheel
from flywheel.errors import IdentityError, PrunedError, RunError
from flywheel.keys import Key
from flywheel.launch import reproduce
from flywheel.records import Role, Suite
from flywheel.runtime import environment
from flywheel.storage import ledger
from flywheel.storage.state import RunState
from flywheel.testing import CONFIG_DIR
from flywheel.testing.moons.task import Moons

SMALL = {"recipe": "moons", "log": "quiet", "threads": 1, "generations": 1, "settings.steps": 3}


def listing(run: Path) -> dict[str, str]:
    files = (path for path in sorted(run.rglob("*")) if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def run(finished_run: Path) -> flywheel.Run:
    return flywheel.open_run(finished_run, CONFIG_DIR)


@pytest.fixture
def other_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Randomness that is not the recorded one, in place of another machine's last bits."""
    monkeypatch.setattr(RunState, "key", Key.root(12345))


@pytest.mark.parametrize("number", [0, 2])
def test_a_generation_is_reproduced_to_the_bit_and_the_run_not_touched(
    run: flywheel.Run, number: int, tmp_path: Path
) -> None:
    before = listing(run.path)
    found = run.reproduce(number, tmp_path / "into")
    assert found.equal
    assert (found.max_abs, found.relative_l2, found.flipped, found.items) == (0, 0, 0, 400)
    assert found.differences == {}
    assert listing(run.path) == before
    weights = (tmp_path / "into" / reproduce.WEIGHTS).read_bytes()
    assert run.generation(number).weights == hashlib.sha256(weights).hexdigest() + ".safetensors"
    recorded = run.generation(number).record.output("evaluate", "outcomes")
    outcomes = pq.read_table(tmp_path / "into" / reproduce.OUTCOMES)
    assert outcomes.equals(pq.read_table(run.path / "objects" / recorded[:2] / recorded[2:]))


@pytest.mark.parametrize(
    "overrides", [{"genesis": "fresh"}, {"init": "parent"}, {"+genesis_settings.steps": 2}], ids=str
)
def test_every_kind_of_start_is_reproduced(overrides: dict[str, object], tmp_path: Path) -> None:
    made = flywheel.run({**SMALL, **overrides, "runs_dir": str(tmp_path)}, config_dir=CONFIG_DIR)
    assert made.exit_code == 0
    assert [made.reproduce(number).equal for number in (0, 1)] == [True, True]


@pytest.mark.parametrize(("number", "items"), [(2, 200), (3, 400), (5, 400)])
def test_what_was_only_screened_is_screened_again(frontier_run: Path, number: int, items: int) -> None:
    """Generation 2 had no look."""
    again = flywheel.open_run(frontier_run, CONFIG_DIR).reproduce(number)
    assert (again.equal, again.items) == (True, items)


def test_a_champion_without_a_test_is_reproduced_by_its_screening(greedy_run: Path) -> None:
    again = flywheel.open_run(greedy_run, CONFIG_DIR).reproduce(1)
    assert (again.equal, again.by_suite) == (True, {"dev": 0})


def test_a_duel_is_fought_again_with_the_champion_not_the_parent(tmp_path: Path) -> None:
    frontier = {"promotion": "frontier", "promotion.every": 2, "+gate.min_effect": 0.9, "generations": 2}
    duels = {"task._target_": f"{__name__}.Duels"}
    made = flywheel.run({**SMALL, **frontier, **duels, "runs_dir": str(tmp_path)}, config_dir=CONFIG_DIR)
    ahead = made.generation(2).record
    assert (made.exit_code, ahead.parent, ahead.champion) == (0, 1, 0), "its look is not beside its parent"
    for number in (1, 2):
        assert made.reproduce(number).equal


class Duels(Moons):
    """The gate and dev suites are duels, won where only one of the two is right."""

    def suites(self) -> list[Suite]:
        return [replace(s, duel=s.role is not Role.SEALED) for s in super().suites()]

    def evaluate(self, model: Any, opponent: Any, items: pa.Table, keys: Any) -> Any:
        ours = super().evaluate(model, None, items, keys)
        if opponent is None:
            return ours
        return (1 + ours - super().evaluate(opponent, None, items, keys)) / 2


@pytest.mark.usefixtures("other_seed")
def test_what_differs_is_measured(run: flywheel.Run) -> None:
    found = run.reproduce(1)
    assert not found.equal
    assert found.max_abs > 0
    assert 0 < found.relative_l2 < 2
    assert found.json()["same_conditions"]
    assert sum(found.by_suite.values()) == found.flipped <= found.items
    assert "the weights differ by at most" in str(found)
    assert "the recipe is not repeatable" in str(found)


def test_conditions_that_differ_are_named(run: flywheel.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "cpu", lambda: "Abacus 9000")
    found = run.reproduce(1)
    assert list(found.differences) == ["cpu"]
    assert f"cpu: {environment.compute({})['cpu']}" not in found.differences["cpu"][0]
    assert "Abacus 9000 now" in str(found)


def test_the_session_that_trained_it_counts_not_the_last(tmp_path: Path) -> None:
    config = {**SMALL, "generations": 0, "runs_dir": str(tmp_path), "name": "run"}
    flywheel.run(config, config_dir=CONFIG_DIR)
    made = flywheel.run({**config, "generations": 1, "threads": 2, "seal": "reopen"}, config_dir=CONFIG_DIR)
    events = ledger.read(made.path)
    generations = RunState.replay(events).generations
    assert [reproduce.session_of(events, generation).threads for generation in generations] == [1, 2]
    assert [made.reproduce(number).differences for number in (0, 1)] == [{}, {}]


def test_other_data_are_refused(run: flywheel.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = Moons.seed
    monkeypatch.setattr(Moons, "seed", lambda self: pa.table(seed(self)).slice(1))
    with pytest.raises(IdentityError, match="was made with other data"):
        run.reproduce(1)


def test_a_class_that_no_recipe_names_is_not_built(
    run: flywheel.Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))  # whoever opens it did not start it
    with pytest.raises(RunError, match="Only classes that a recipe on the search path names are built"):
        flywheel.open_run(run.path).reproduce(1)


def test_a_folder_with_files_is_not_written_to(run: flywheel.Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="must be a new or an empty folder"):
        run.reproduce(1, tmp_path)


def test_recorded_weights_that_were_pruned_are_compared_by_their_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rejected generation's weights go; its batch stays, as the next corpus may draw on it."""
    strict = {**SMALL, "error_budget.alpha": 1e-9, "runs_dir": str(tmp_path)}
    run = flywheel.run(strict, config_dir=CONFIG_DIR)
    run.prune(last=0, yes=True)
    with pytest.raises(PrunedError):
        run.generation(1).load()
    assert run.reproduce(1).equal
    monkeypatch.setattr(RunState, "key", Key.root(12345))
    found = run.reproduce(1)
    assert (found.equal, found.max_abs) == (False, None)
    assert "the recorded ones were pruned" in str(found)


def test_the_distance_of_weights_takes_every_kind_of_number() -> None:
    inf = float("inf")
    ours = {"w": torch.tensor([3.0, -inf]), "z": torch.tensor([1j]), "n": torch.tensor([2])}
    theirs = {"w": torch.tensor([3.5, -inf]), "z": torch.tensor([1 + 1j]), "n": torch.tensor([2])}
    far = reproduce.distance(ours, theirs)
    assert far["max_abs"] == 1
    assert far["relative_l2"] == pytest.approx((1.25 / (3.5**2 + 2 + 4)) ** 0.5)
