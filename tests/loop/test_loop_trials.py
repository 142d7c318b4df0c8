"""Trials: units of the stage tune, which a tuner asks for and is told of."""

from __future__ import annotations

import importlib
import signal
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import flywheel
from flywheel.errors import ExitCode
from flywheel.lineage.graph import Graph
from flywheel.lineage.status import read_state
from flywheel.protocols import TunerView
from flywheel.records import Choice, Trial, TrialResult
from flywheel.storage.store import Store
from flywheel.testing.moons.task import Moons
from tests.support.harness import PROBE, events, only_run, shared_fork_server
from tests.support.loop_runs import Probe
from tests.support.ranks import run_ranks

HERE = "tests.loop.test_loop_trials"
WORDS = (*PROBE, "name=run", "generations=1", "genesis=fresh", "log=quiet", "+tuner.rates=[0.1,0.2,0.3]")


def tunings(run: Path) -> list[dict[str, Any]]:
    return [e for e in events(run) if e.get("stage") == "tune"]


def results(run: Path, tuning: dict[str, Any]) -> list[TrialResult]:
    return [TrialResult.of(value) for value in Store(run).json(tuning["outputs"]["trials"])]


def fits(folder: Path, attempt: int) -> list[str]:
    """The learning rates of the fits that were begun."""
    lines = (line.split() for line in (folder / "units").read_text().splitlines())
    return [rate for number, name, rate in lines if (number, name) == (str(attempt), "fit")]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_finished_trial_outlives_a_kill(folder: Path, ranks: int) -> None:
    calm, killed = folder / "calm", folder / "killed"
    environment = {"PROBE_UNITS": str(folder / "units"), "PROBE_KILLS": "fit 0.3"}
    calm.mkdir()
    killed.mkdir()
    if ranks == 1:
        server = shared_fork_server()
        assert server.run(WORDS, calm).code == 0
        assert server.run(WORDS, killed, env=environment).code == -signal.SIGKILL
        assert fits(folder, 0) == ["0.1", "0.2", "0.3"]
        (kept,) = killed.glob("**/work/tune")
        assert len(list(kept.glob("*.arrow"))) == 2
        assert server.run(WORDS, killed, env={**environment, "PROBE_ATTEMPT": "1"}).code == 0
    else:
        assert run_ranks(WORDS, calm, ranks=ranks).code == 0
        options = ("--standalone", "--max-restarts=1")
        assert run_ranks(WORDS, killed, ranks=ranks, options=options, **environment).code == 0
    assert fits(folder, 1)[0] == "0.3", "the trials before it were not made again"
    (ours,), (theirs,) = (tunings(only_run(at)) for at in (killed, calm))
    assert (ours["outputs"], ours["facts"]) == (theirs["outputs"], theirs["facts"])
    assert ours["facts"]["units"]["count"] == 3
    assert not (only_run(killed) / "work").exists()


class Tries:
    """Asks for three trials, of which the first cannot be made, and chooses the best."""

    def ask(self, view: TunerView) -> Trial | None:
        trials = (
            Trial({**view.settings, "momentum": 0.9}),
            Trial({**view.settings, "lr": np.float64(0.05)}, 0.5),
            Trial({**view.settings, "lr": view.key.numpy().uniform(0.01, 0.1)}, 0.5, "fresh"),
            None,
        )
        return trials[len(view.results) + len(view.pending)]

    def choose(self, view: TunerView) -> Choice:
        best = max(view.results, key=lambda result: result.score or 0.0)
        seen = {study.of: [study.age, len(study.results)] for study in view.prior}
        return Choice(best.trial.settings, best.trial.start, {"seen": seen})


def test_a_trial_that_fails_is_a_result(probe: Probe) -> None:
    run = probe(tuner___target_=f"{HERE}.Tries", generations=2)
    assert run.exit_code is ExitCode.FINISHED
    for tuning in tunings(run.path):
        failed, *made = results(run.path, tuning)
        assert failed.score is None
        assert failed.failure is not None
        assert "there is no setting 'momentum'" in failed.failure
        assert [result.number for result in made] == [1, 2]
        assert all(result.score is not None and result.failure is None for result in made)
        assert (tuning["facts"]["units"]["count"], tuning["facts"]["units"]["failed"]) == (3, 1)
        assert tuning["facts"]["settings"]["lr"] in [result.trial.settings["lr"] for result in made]
    seen = [Store(run.path).json(tuning["outputs"]["carry"])["seen"] for tuning in tunings(run.path)]
    assert seen == [{}, {"generation 0": [1, 3]}, {"generation 0": [2, 3], "generation 1": [1, 3]}]
    state = read_state(run.path)
    edges = [Graph(Store(run.path), state).settings_from(g) for g in state.generations]
    assert [[edge.generation for edge in of] for of in edges] == [[], [0], [0, 1]]
    assert run.show(2).trials == tuple(results(run.path, tunings(run.path)[2]))


class Hopeless:
    """Asks for trials of which none can be made."""

    def ask(self, view: TunerView) -> Trial | None:
        names = ["momentum", "depth", "momentum"][len(view.results) :]
        return Trial({**view.settings, names[0]: 1}) if names else None


def test_a_generation_fails_where_all_trials_do_with_the_commonest_reason(probe: Probe) -> None:
    run = probe(tuner___target_=f"{HERE}.Hopeless", generations=0)
    assert run.exit_code is ExitCode.FAILED
    reason = run.status().json()["generations"][0]["reason"]
    assert "all 3 trials failed, 2 of them so" in reason
    assert "there is no setting 'momentum'" in reason


class Reaches:
    """Wants the gate's own argument to be another one."""

    def ask(self, view: TunerView) -> None:
        pass

    def choose(self, view: TunerView) -> Choice:
        return Choice({**view.settings, "batch_size": 7}, view.init)


def test_no_tuner_changes_what_the_gate_goes_by(probe: Probe) -> None:
    reached = {"tuner___target_": f"{HERE}.Reaches", "+gate.promote": "${settings.batch_size}"}
    run = probe(**reached, generations=0, settings__batch_size=1)
    assert run.exit_code is ExitCode.FAILED
    reason = run.status().json()["generations"][0]["reason"]
    assert "settings.batch_size is used by gate.promote, which no tuner may change" in reason


class Answers(Moons):
    """Notes with which settings it generates and trains."""

    generated: ClassVar[list[int]] = []
    trained: ClassVar[list[tuple[int, int]]] = []

    def generate(self, model: Any, prompts: Any, settings: Any, keys: Any) -> Any:
        self.generated.append(settings["steps"])
        return super().generate(model, prompts, settings, keys)

    def data(self, corpus: Any, settings: Any) -> Any:
        self.trained.append((settings["steps"], len(corpus)))
        return super().data(corpus, settings)


class Regenerates:
    """Tries other steps, for which samples are generated, graded and curated anew."""

    redo_from = "generate"

    def ask(self, view: TunerView) -> Trial | None:
        steps = (3, 5)[len(view.results) :]
        if "parent" in view.starts and steps:
            return Trial({**view.settings, "steps": steps[0]}, 1.0, redo_from=self.redo_from)
        return None

    def choose(self, view: TunerView) -> Choice:
        return Choice(view.settings, view.init)


def test_a_trial_may_generate_data_anew(probe: Probe, monkeypatch: Any) -> None:
    noted = importlib.import_module(HERE).Answers  # as the run imports it
    monkeypatch.setattr(noted, "generated", [])
    monkeypatch.setattr(noted, "trained", [])
    parts = {"task___target_": f"{HERE}.Answers", "tuner___target_": f"{HERE}.Regenerates"}
    run = probe(**parts, generations=1, chunk_size=512)
    assert run.exit_code is ExitCode.FINISHED
    steps = run.show(1).settings["steps"]
    assert noted.generated == [steps, 3, 5], "the turn's batch, and one for each trial"
    assert [of for of, _ in noted.trained] == [steps, 3, 5, steps]
    assert len({rows for _, rows in noted.trained[1:3]}) == 1, "the same draws"
    tried = results(run.path, tunings(run.path)[1])
    assert [(r.trial.redo_from, r.failure) for r in tried] == [("generate", None)] * 2
    costs = {e["stage"]: e["cost"].get("samples", 0) for e in events(run.path) if e["event"] == "stage"}
    assert costs["tune"] == 2 * costs["generate"] > 0, "what a trial made counts against the budget"
    assert costs["train"] == 0
    named = {name for e in events(run.path) for name in e.get("outputs", {}).values()}
    there = {path.parent.name + path.name for path in run.path.glob("objects/*/*.parquet")}
    assert there <= named, "what a trial made is forgotten"
    assert flywheel.open_run(run.path).verify().first_bad is None
