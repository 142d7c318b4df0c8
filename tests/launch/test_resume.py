"""A run goes on from what it recorded; no recipe's YAML is read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import flywheel
from flywheel.errors import ConfigError, ExitCode, IdentityError, RunError
from flywheel.launch.recorded import recorded_config
from flywheel.storage import ledger
from flywheel.storage.events import SessionStarted
from flywheel.testing import CONFIG_DIR


@pytest.fixture
def run(tmp_path: Path) -> flywheel.Run:
    """A run of genesis alone, whose recipe is removed afterwards."""
    conf = shutil.copytree(CONFIG_DIR, tmp_path / "conf")
    small = {"recipe": "moons", "log": "quiet", "threads": 1, "generations": 0, "settings.steps": 2}
    places = {"runs_dir": tmp_path / "runs", "name": "1.10"}
    table = {"+task.table": {2: "b", 10: "a"}, "task._target_": "tests.launch.test_resume.WithTable"}
    made = flywheel.run({**small, **places, **table}, config_dir=str(conf))
    shutil.rmtree(conf)
    return made


def WithTable(table: dict[int, str], **arguments: int) -> object:  # noqa: N802 - as a class
    """Moons with a mapping whose keys JSON would lose."""
    from flywheel.testing.moons.task import Moons

    assert list(table.items()) == [(2, "b"), (10, "a")]
    return Moons(**arguments)


def test_a_run_goes_on_without_its_recipe_and_remains_what_it_was(run: flywheel.Run) -> None:
    trusted = set(run.trusted)
    again = flywheel.open_run(run.path, trusted=trusted).resume(
        {"generations": 1, "trainer.devices": 1, "seal": "reopen"}
    )
    assert (again.path, again.exit_code) == (run.path, ExitCode.FINISHED)
    assert len(again.generations()) == 2
    assert again.champion().load() is not None
    sessions = [event for event in ledger.read(run.path) if isinstance(event, SessionStarted)]
    configs = [recorded_config(run.path, session) for session in sessions]
    assert [config["generations"] for config in configs] == [0, 1]
    assert configs[1]["name"] == "1.10"
    assert configs[1]["task"]["seed_value"] == "${seed}", "references stay references"


def test_a_moved_run_goes_on_where_it_is(run: flywheel.Run, tmp_path: Path) -> None:
    moved = run.path.rename(tmp_path / "elsewhere")
    again = flywheel.open_run(moved, trusted=run.trusted).resume(
        ["generations=1", "budget.seconds=600", "seal=reopen"]
    )
    assert (again.path, again.exit_code) == (moved, ExitCode.FINISHED)


@pytest.mark.parametrize(
    "override",
    ["settings.steps=3", "name=x", "runs_dir=y", "recipe=moons", "trainer.max_steps=2", "gate=paired"],
)
def test_what_is_its_identity_or_place_is_not_to_be_given(run: flywheel.Run, override: str) -> None:
    before = (run.path / "ledger.jsonl").read_bytes()
    with pytest.raises(ConfigError, match="Keys that can: base, budget, generations"):
        run.resume([override])
    assert (run.path / "ledger.jsonl").read_bytes() == before


def test_a_key_that_is_misspelt_is_named(run: flywheel.Run) -> None:
    with pytest.raises(ConfigError, match=r"budget\.second.*Did you mean budget\.seconds"):
        flywheel.open_run(run.path).resume(["budget.second=3"])


def test_only_trusted_classes_are_built(run: flywheel.Run, tmp_path: Path) -> None:
    stranger = flywheel.Run(run.path)
    with pytest.raises(RunError, match=r"WithTable.*trusted"):
        stranger.resume({"generations": 1})


def test_base_weights_that_have_moved_are_named_again(run: flywheel.Run, tmp_path: Path) -> None:
    base, other = tmp_path / "base.safetensors", tmp_path / "other.safetensors"
    shutil.copy(run.champion().file, base)
    small = {"recipe": "moons", "log": "quiet", "threads": 1, "generations": 0, "settings.steps": 2}
    given = {"base": base, "genesis": "load", "runs_dir": tmp_path / "runs"}
    based = flywheel.run({**small, **given}, config_dir=CONFIG_DIR)
    base.rename(other)
    with pytest.raises(ConfigError, match="base must be an existing"):
        based.resume({"generations": 1})
    assert based.resume({"generations": 1, "base": other, "seal": "reopen"}).exit_code is ExitCode.FINISHED
    other.write_bytes(other.read_bytes() + b" ")
    with pytest.raises(IdentityError, match="base: "):
        based.resume({"generations": 2, "base": other, "seal": "reopen"})
