"""A fork is a run of its own that says where it comes from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import flywheel
from flywheel.commands.recall import lines
from flywheel.components import identity_part
from flywheel.compose import compose
from flywheel.errors import ConfigError, RunError
from flywheel.fork import _recorded_overrides, command_of
from flywheel.lineage.ledger import canonical
from flywheel.testing import CONFIG_DIR


@pytest.fixture
def old(run_copy: Path) -> flywheel.Run:
    return flywheel.open_run(run_copy, CONFIG_DIR)


def overrides(tmp_path: Path) -> list[str]:
    return [f"runs_dir={tmp_path / 'runs'}", "generations=1", "threads=1", "log=quiet", "seed=5"]


def test_a_fork_goes_on_without_the_run_that_it_came_from(old: flywheel.Run, tmp_path: Path) -> None:
    old.recall(where="prompt = 'human-1'", why="wrong", strict=False)  # a dry run changes nothing
    head, weights = old.status()["head"], old.generation(0).weights
    fork = old.fork(0, overrides(tmp_path))
    assert fork.status()["forked_from"] | {"run": ""} == {
        "run": "",
        "generation": 0,
        "head": head,
        "weights": weights,
        "recalled": None,
    }
    assert fork.generation(0).weights == weights
    shutil.rmtree(old.path)
    assert fork.verify().first_bad is None
    words = command_of(fork.path, CONFIG_DIR).split()[3:]
    assert words[:2] == ["--config-dir", CONFIG_DIR]
    more = [*words[2:], "generations=2", "threads=1", "log=quiet"]
    again = flywheel.run(more, config_dir=CONFIG_DIR)
    assert again.path == fork.path
    assert len(again.generations()) == 3
    with pytest.raises(RunError, match="weights from elsewhere"):
        again.recall(generation=0, why="flawed")


@pytest.mark.parametrize("override", ["recipe=other", "base=x", "genesis=fresh", "debug=tiny", "++base=x"])
def test_what_a_fork_decides_itself_is_not_to_be_given(old: flywheel.Run, override: str) -> None:
    with pytest.raises(ConfigError, match="not to be given"):
        old.fork(0, [override])


def test_a_model_that_the_weights_do_not_fit_is_refused(old: flywheel.Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="do not fit"):
        old.fork(0, [*overrides(tmp_path), "settings.width=3"])
    assert not (tmp_path / "runs").exists()


def test_only_clean_generations_with_weights_are_forked(old: flywheel.Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no 9"):
        old.fork(9, overrides(tmp_path))
    old.recall(generation=1, why="flawed", yes=True)
    with pytest.raises(RunError, match="not recalled; generation 1"):
        old.fork(1, overrides(tmp_path))


def test_what_is_recalled_stays_recalled_in_a_fork(old: flywheel.Run, tmp_path: Path) -> None:
    old.recall(generation=2, why="flawed", yes=True)
    fork = old.fork(0, overrides(tmp_path))
    inputs = fork.generation(1).record.stages["curate"]["inputs"]
    assert inputs["recalled"] == fork.status()["forked_from"]["recalled"] is not None


def test_a_recall_and_a_trace_name_the_forks_that_descend_from_the_flaw(old: flywheel.Run) -> None:
    beside = [f"runs_dir={old.path.parent.parent}", "generations=0", "threads=1", "log=quiet"]
    fork = old.fork(2, [*beside, "name=fork"])
    nested = fork.fork(0, [*beside, "name=nested"])
    old.fork(0, [*beside, "name=clean"])
    named = [
        {"run": str(fork.path), "of": str(old.path), "generation": 2},
        {"run": str(nested.path), "of": str(old.path), "generation": 2},  # the same weights
    ]
    assert old.trace(generation=1)["down"]["forks"] == named
    report = old.recall(generation=1, why="flawed")
    assert report["forks"] == named
    assert f"fork         {fork.path} descends from generation 2" in "\n".join(lines(report))
    (nested.path / "ledger.jsonl").write_bytes(b"damaged\n")  # a neighbour's matter
    assert old.recall(generation=1, why="flawed")["forks"] == named[:1]


def test_what_a_fork_makes_is_nothing_of_what_was_recalled(old: flywheel.Run, tmp_path: Path) -> None:
    """The same weights in the same turn would otherwise make the same samples, and learn from none."""
    recalled = set(old.samples(1)["id"].to_pylist())
    old.recall(generation=1, why="flawed", yes=True)
    fork = old.fork(0, [f"runs_dir={tmp_path / 'runs'}", "generations=1", "threads=1", "log=quiet"])
    corpus = fork.generation(1).corpus()
    assert "generated" in corpus["origin"].to_pylist()
    assert not recalled & set(corpus["id"].to_pylist())
    assert fork.reproduce(1).weights_equal
    name = (old.generation(0).state.created or {})["name"]
    assert [fork.show(n)["init"]["forked_from"] for n in (0, 1)] == [f"moons/{name}@0", None]


def test_what_a_fork_keeps_is_the_same_json(tmp_path: Path) -> None:
    """The recipe has 40 steps where the run had 40.0: another identity."""
    config = identity_part(compose(["recipe=moons", "trainer.max_steps=40.0"], CONFIG_DIR))
    words = _recorded_overrides(tmp_path, config, CONFIG_DIR)
    composed = identity_part(compose(words, CONFIG_DIR))
    assert canonical(composed["trainer"]) == canonical(config["trainer"])
