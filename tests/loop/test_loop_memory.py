"""A memory that the tuners of several runs share, and what a recall retires there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flywheel
from flywheel.cli.commands import recall as recall_command
from flywheel.errors import ExitCode
from flywheel.tuners import memory
from tests.support.harness import events
from tests.support.loop_runs import run_moons, run_probe, signal_at, table_of


def run_with(folder: Path, seed: int, **overrides: Any) -> flywheel.Run:
    own = {"seed": seed, "name": f"seed{seed}", "generations": 1, "settings__steps": 4}
    shared = {"+tuner.memory": str(folder / "memory"), "+tuner.rates": [0.1, 0.2]}
    return run_probe(folder / "runs", **own, **shared, **overrides)


def shown(run: flywheel.Run, number: int) -> str:
    """The studies that the tuner of a generation was shown: the probe's says them in its reason."""
    tuned = run.show(number).tuned
    assert tuned is not None
    return tuned.reason


def test_a_tuner_is_shown_the_trials_of_the_runs_that_share_its_memory(tmp_path: Path) -> None:
    first = run_with(tmp_path, 1)
    second = run_with(tmp_path, 2)
    assert [shown(first, number) for number in (0, 1)] == ["", "generation 0 1"]
    others = "probe/seed1@0 {}, probe/seed1@1 {}"
    assert shown(second, 0) == others.format(2, 1)
    assert shown(second, 1) == f"{others.format(3, 2)}, generation 0 1"
    assert second.show(1).tuned.prior == ("probe/seed1@0", "probe/seed1@1", "generation 0")
    assert [study["of"] for study in memory.studies(tmp_path / "memory", apart_from="")] == [
        f"probe/seed{seed}@{number}" for seed in (1, 2) for number in (0, 1)
    ]
    assert second.verify().first_bad is None


def test_what_a_memory_held_is_decided_once(tmp_path: Path) -> None:
    run_with(tmp_path, 1)
    cut_off = signal_at(stage="tune", generation=0)  # which the event names, too
    assert run_with(tmp_path, 2, **cut_off).exit_code is ExitCode.STOPPED
    memory.add(tmp_path / "memory", "another", 0, "probe/another@0", [])
    resumed = run_with(tmp_path, 2)
    assert resumed.exit_code is ExitCode.FINISHED
    assert "another" not in shown(resumed, 0), "it has read the memory before"
    decided = [event for event in events(resumed.path) if event["event"] == "decided"]
    assert [(event["generation"], event["what"]) for event in decided] == [(0, "memory"), (1, "memory")]
    assert "holds 2 studies" in decided[0]["reason"]


def test_a_recall_retires_the_trials_that_descend_from_the_flaw(tmp_path: Path) -> None:
    first = run_with(tmp_path, 1)
    planned = first.recall(why="a flaw", generation=1)
    assert planned.memory is not None
    assert planned.memory.generations == (1,)
    assert len(memory.studies(tmp_path / "memory", apart_from="")) == 2, "a dry run"
    done = first.recall(why="a flaw", generation=1, yes=True)
    assert done.memory == planned.memory
    assert any(line.endswith(": the trials of generation 1") for line in recall_command.lines(done))
    assert shown(run_with(tmp_path, 2), 0) == "probe/seed1@0 1"
    again = first.recall(why="a flaw", generation=1, yes=True)
    assert again.memory is not None
    assert again.memory.generations == ()


def test_a_recall_says_where_the_memory_is_not_there(tmp_path: Path) -> None:
    run = run_with(tmp_path, 1)
    (tmp_path / "memory").rename(tmp_path / "moved")
    report = run.recall(why="a flaw", generation=1, yes=True)
    assert any(
        "is not there: the trials in it are not retired" in line for line in recall_command.lines(report)
    )
    (tmp_path / "moved").rename(tmp_path / "memory")
    run_with(tmp_path, 1)
    retired = [s["of"] for s in memory.studies(tmp_path / "memory", apart_from="")]
    assert "probe/seed1@1" not in retired, "the next session makes up for it"


TUNED = {"+tuner.rates": [0.1, 0.2], "settings__steps": 4, "generations": 1}
FLAWED = {"where": "made_in = 1 and origin = 'generated'", "why": "wrong"}


def test_trials_on_flawed_samples_are_given_up_though_their_generation_has_no_corpus_yet(
    tmp_path: Path,
) -> None:
    stopped = run_probe(tmp_path, **TUNED, **signal_at(stage="tune", generation=1))
    assert stopped.exit_code is ExitCode.STOPPED
    assert stopped.generation(1).record.output("tune", "trials")
    assert not stopped.generation(1).record.output("curate", "corpus")
    report = stopped.recall(**FLAWED, yes=True)
    assert report.ends == 1
    assert {reached.generation: reached.by for reached in report.suspect} == {1: ("saw",)}
    resumed = run_probe(tmp_path, **TUNED)
    assert shown(resumed, 2) == "generation 0 1"


def test_who_chose_by_trials_on_samples_that_turn_out_flawed_is_suspect(tmp_path: Path) -> None:
    space = {"tune.space.lr": {"low": 0.001, "high": 0.1}, "tuner": "random", "tuner.trials": 2}
    run = run_moons(tmp_path, **space, generations=1, settings__steps=8)  # its curator leaves no carry
    corpus = set(table_of(run, 1, "curate", "corpus")["id"].to_pylist())
    left = [id for id in table_of(run, 1, "generate", "samples")["id"].to_pylist() if id not in corpus]
    assert left, "or nothing is left out"
    report = run.recall(where=f"id = '{left[0]}'", why="wrong")
    assert not report.generations
    assert {reached.generation: reached.by for reached in report.suspect} == {1: ("saw",)}
