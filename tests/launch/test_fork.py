"""A fork is a run of its own that says where it comes from."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

import flywheel
from flywheel.cli.commands.recall import lines
from flywheel.config.identity import differences
from flywheel.errors import ConfigError, IdentityError, RunError
from flywheel.launch.fork import command_of
from flywheel.lineage import forks
from flywheel.lineage.forks import recalled_in_origins
from flywheel.lineage.status import read_state
from flywheel.storage.ledger import canonical
from flywheel.storage.store import Store
from flywheel.testing import CONFIG_DIR
from tests.support.loop_runs import run_moons


@pytest.fixture
def old(finished_run: Path, tmp_path: Path) -> flywheel.Run:
    """A finished run of two turns, alone among its runs."""
    copy = shutil.copytree(finished_run, tmp_path / "beside" / "moons" / "old")
    return flywheel.open_run(copy, CONFIG_DIR)


def beside(old: flywheel.Run, **more: object) -> list[str]:
    """Overrides of a fork that lies beside its source, if no other place is given."""
    own = {
        "runs_dir": old.path.parent.parent,
        "generations": 1,
        "threads": 1,
        "log": "quiet",
        "seal": "reopen",
    } | more
    return [f"{key}={value}" for key, value in own.items()]


def test_a_fork_may_promote_by_another_rule(frontier_run: Path, tmp_path: Path) -> None:
    """From what has advanced and was abandoned, too: it has weights and is not recalled."""
    run = flywheel.open_run(frontier_run, CONFIG_DIR)
    fork = run.fork(3, beside(run, runs_dir=tmp_path, promotion="greedy"))
    assert (fork.status().promotion.rule, fork.status().promotion.every) == ("greedy", None)
    assert fork.generation(0).weights == run.generation(3).weights
    again = flywheel.open_run(fork.path, CONFIG_DIR).fork(0, beside(fork, promotion="frontier", name="again"))
    assert again.status().promotion.rule == "frontier"


def test_a_fork_of_a_genesis_has_what_was_tuned_there(tmp_path: Path) -> None:
    """Else its weights would not fit the model, or what they learn from then on would be another thing."""
    searched = {"tuner": "random", "tuner.trials": 4, "tuner.margin": 0.0, "tuner.least_gain": 0.0}
    space = {"tune.space": {"width": {"low": 65, "high": 128, "shape": True}}}
    run = run_moons(tmp_path / "run", generations=0, **searched, **space)
    width = run.generation(0).record.settings["width"]
    assert width > 64, "the configured one"
    fork = run.fork(0, beside(run, runs_dir=tmp_path / "fork", tuner="fixed"))
    assert [g.record.settings["width"] for g in fork.generations()] == [width, width]


def test_a_fork_goes_on_without_the_run_that_it_came_from(old: flywheel.Run, tmp_path: Path) -> None:
    old.recall(where="prompt = 'human-1'", why="wrong", strict=False)  # a dry run changes nothing
    head, weights = old.status().json()["head"], old.generation(0).weights
    fork = old.fork(0, beside(old, runs_dir=tmp_path / "runs", seed=5))
    assert fork.status().json()["forked_from"] | {"run": ""} == {
        "run": "",
        "generation": 0,
        "head": head,
        "weights": weights,
        "recalled": None,
    }
    assert fork.generation(0).weights == weights
    shutil.rmtree(old.path)
    assert fork.verify().first_bad is None
    words = shlex.split(command_of(fork.path, CONFIG_DIR))[3:]
    assert words == ["resume", str(fork.path), "--config-dir", CONFIG_DIR]
    again = flywheel.open_run(words[1], words[3]).resume({"generations": 2, "seal": "reopen"})
    assert again.path == fork.path
    assert len(again.generations()) == 3
    with pytest.raises(RunError, match="weights from elsewhere"):
        again.recall(generation=0, why="flawed")


@pytest.mark.parametrize("override", ["recipe=other", "base=x", "genesis=fresh", "debug=tiny", "++base=x"])
def test_what_a_fork_decides_itself_is_not_to_be_given(old: flywheel.Run, override: str) -> None:
    with pytest.raises(ConfigError, match="are fixed, got"):
        old.fork(0, [override])


def test_a_model_that_the_weights_do_not_fit_is_refused(old: flywheel.Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="do not fit"):
        old.fork(0, [*beside(old, runs_dir=tmp_path / "runs"), "settings.width=3"])
    assert not (tmp_path / "runs").exists()


def test_only_clean_generations_with_weights_are_forked(old: flywheel.Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="champion, last or final; got 9"):
        old.fork(9, beside(old, runs_dir=tmp_path / "runs", seed=5))
    old.recall(generation=1, why="flawed", yes=True)
    with pytest.raises(RunError, match="not recalled; generation 1"):
        old.fork(1, beside(old, runs_dir=tmp_path / "runs", seed=5))


def test_what_is_recalled_stays_recalled_in_a_fork(old: flywheel.Run, tmp_path: Path) -> None:
    old.recall(generation=2, why="flawed", yes=True)
    fork = old.fork(0, beside(old, runs_dir=tmp_path / "runs", seed=5))
    inputs = fork.generation(1).record.curate.inputs
    assert inputs["recalled"] == fork.status().json()["forked_from"]["recalled"] is not None


def test_a_recall_and_a_trace_name_the_forks_that_descend_from_the_flaw(old: flywheel.Run) -> None:
    fork = old.fork(2, beside(old, generations=0, name="fork"))
    nested = fork.fork(0, beside(old, generations=0, name="nested"))
    old.fork(0, beside(old, generations=0, name="clean"))
    origin = {"of": str(old.path), "generation": 2, "by": "init", "generations": [0]}
    named = [{"run": str(run.path)} | origin for run in (fork, nested)]  # the same weights
    assert old.trace(generation=1).json()["down"]["forks"] == named
    report = old.recall(generation=1, why="flawed")
    assert (report.json()["forks"], report.unread) == (named, ())
    assert f"fork         {fork.path} descends from generation 2" in "\n".join(lines(report))
    (nested.path / "ledger.jsonl").write_bytes(b"damaged\n")  # a neighbour's matter
    report = old.recall(generation=1, why="flawed")
    assert (report.json()["forks"], report.unread[0].run) == (named[:1], str(nested.path))
    assert f"not asked    {nested.path}, which cannot be read" in "\n".join(lines(report))


def test_a_run_that_drew_flawed_samples_is_named_though_it_started_from_none(
    old: flywheel.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twins make the same samples; a fork makes others, and is not even asked."""
    asked: list[str] = []
    real = forks._asked
    monkeypatch.setattr(forks, "_asked", lambda *words: asked.append(words[0].name) or real(*words))
    twin = flywheel.run(["recipe=moons", *beside(old, name="twin")], config_dir=CONFIG_DIR)
    old.fork(0, beside(old, name="clean", generations=0))
    drawn = [row for row in old.generation(1).corpus().to_pylist() if row["origin"] == "generated"]
    report = old.recall(where=f"id = '{drawn[0]['id']}'", why="wrong")
    entry = {"of": str(old.path), "generation": None, "by": "trained_on", "generations": [1]}
    assert report.json()["forks"] == [{"run": str(twin.path)} | entry]
    assert f"{twin.path} learned from flawed samples, generations 1: recall" in "\n".join(lines(report))
    assert set(asked) == {"twin"}


def test_what_reaches_the_genesis_reaches_every_run_on_those_samples(old: flywheel.Run) -> None:
    fork = old.fork(0, beside(old, name="fork"))
    (name,) = [row["id"] for row in old.samples(0).to_pylist() if row["prompt"] == "human-1"]
    found = old.trace(sample=name).json()["down"]["forks"]
    assert [(entry["run"], entry["generations"]) for entry in found] == [(str(fork.path), [0, 1])]


def test_forking_again_after_a_recall_does_not_go_on_with_the_old_fork(old: flywheel.Run) -> None:
    (made,) = old.samples(1).slice(0, 1).to_pylist()
    fork = old.fork(0, beside(old, name="fork"))
    again = old.fork(0, beside(old, name="fork", generations=2))
    assert (again.path, len(again.generations())) == (fork.path, 3)
    old.recall(where=f"id = '{made['id']}'", why="wrong", yes=True)
    before = (fork.path / "ledger.jsonl").read_bytes()
    with pytest.raises(IdentityError, match=r"0 samples when .*fork was begun, \d+ in .* now.*another name="):
        old.fork(0, beside(old, name="fork", generations=3))
    assert (fork.path / "ledger.jsonl").read_bytes() == before
    new = old.fork(0, beside(old, name="new"))
    assert new.status().json()["forked_from"]["recalled"] is not None


def test_another_run_of_that_name_is_not_taken_for_the_fork(old: flywheel.Run) -> None:
    old.fork(0, beside(old, name="taken", generations=0))
    with pytest.raises(IdentityError, match=r"made with other|is a fork of"):
        old.fork(1, beside(old, name="taken", generations=0))


def test_forks_of_forks_are_found_whatever_the_clocks_said(
    old: flywheel.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(10**9, 0, -1000))
    monkeypatch.setattr("flywheel.storage.ledger.time.time", lambda: float(next(clock)))
    first = old.fork(1, beside(old, name="z-first"))
    second = first.fork(1, beside(old, name="m-second"))
    third = second.fork(1, beside(old, name="a-third", generations=0))
    named = old.recall(generation=1, why="flawed").json()["forks"]
    assert [(fork["run"], fork["of"], fork["generation"]) for fork in named] == [
        (str(third.path), str(second.path), 1),
        (str(second.path), str(first.path), 1),
        (str(first.path), str(old.path), 1),
    ]


def test_a_run_that_was_given_flawed_weights_as_its_base_is_found(old: flywheel.Run) -> None:
    given = ["recipe=moons", f"base={old.generation(1).file}", *beside(old, name="given", generations=0)]
    ways = [[f"genesis={way}", f"name={way}"] for way in ("load", "train")]
    based = [flywheel.run([*given, *way], config_dir=CONFIG_DIR) for way in ways]
    named = old.recall(generation=1, why="flawed").json()["forks"]
    assert [(fork["run"], fork["generations"]) for fork in named] == [(str(run.path), [0]) for run in based]


def test_a_fork_of_a_fork_learns_nothing_that_the_first_run_has_recalled_since(old: flywheel.Run) -> None:
    """The fork in between cannot know; forking can, as long as its source is there."""
    fork = old.fork(0, beside(old, name="fork"))
    assert not [*recalled_in_origins(fork.path, read_state(fork.path))]
    old.recall(where="prompt = 'human-1'", why="wrong", yes=True)
    reached = recalled_in_origins(fork.path, read_state(fork.path))
    assert reached == {0: str(old.path), 1: str(old.path)}
    with pytest.raises(RunError, match=r"generation 1 of .* learned from what .* has recalled since"):
        fork.fork(1, beside(old, name="nested"))


def test_a_fork_of_a_fork_inherits_what_the_first_run_has_recalled_since(old: flywheel.Run) -> None:
    fork = old.fork(0, beside(old, name="fork"))
    old.recall(generation=2, why="wrong", yes=True)
    nested = fork.fork(0, beside(old, name="nested", generations=0))
    inherited = Store(nested.path).table(nested.status().json()["forked_from"]["recalled"])["id"].to_pylist()
    assert set(inherited) == set(old.samples(2)["id"].to_pylist())


def test_what_a_fork_makes_is_nothing_of_what_was_recalled(old: flywheel.Run, tmp_path: Path) -> None:
    """The same weights in the same turn would otherwise make the same samples, and learn from none."""
    recalled = set(old.samples(1)["id"].to_pylist())
    old.recall(generation=1, why="flawed", yes=True)
    fork = old.fork(0, beside(old, runs_dir=tmp_path / "runs"))
    corpus = fork.generation(1).corpus()
    assert "generated" in corpus["origin"].to_pylist()
    assert not recalled & set(corpus["id"].to_pylist())
    assert fork.reproduce(1).weights_equal
    name = old.generation(0).state.created.name
    assert [fork.show(n).json()["init"]["forked_from"] for n in (0, 1)] == [f"moons/{name}@0", None]


def test_what_a_fork_keeps_is_the_same_json(old: flywheel.Run) -> None:
    """Steps stay 40.0 where the run had 40.0: 40 would be another identity."""
    run = flywheel.run(["recipe=moons", "trainer.max_steps=40.0", *beside(old)], config_dir=CONFIG_DIR)
    fork = run.fork(0, [*beside(old, generations=0, name="fork"), "review=none"])
    configs = [one.generation(0).state.created.config for one in (run, fork)]
    differ = differences(*configs)
    assert set(differ) == {"base", "genesis"}, differ
    assert canonical(configs[1]["trainer"]["max_steps"]) == b"40.0"
