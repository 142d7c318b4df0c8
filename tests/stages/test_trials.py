"""One trial: its rungs, its weights, and how it may fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flywheel
from flywheel.errors import ExitCode
from flywheel.lineage.graph import Graph
from flywheel.lineage.status import read_state
from flywheel.records import Choice, Rung, Trial, TrialResult
from flywheel.storage.store import Store
from tests.support import trial_parts
from tests.support.harness import events
from tests.support.loop_runs import run_probe
from tests.support.trial_parts import NAN, RAISES, Asks, adopts_first

PARTS = "tests.support.trial_parts"
Tune = Callable[..., flywheel.Run]


@pytest.fixture
def tune(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Tune:
    """A run, each in a folder of its own, whose tuner asks for these trials and chooses so."""
    runs = iter(range(9))

    def run(
        *wanted: Trial, chooses: Callable[[Any], Choice] | None = None, name: str = "", **overrides: Any
    ) -> flywheel.Run:
        monkeypatch.setattr(Asks, "wanted", [*wanted])
        monkeypatch.setattr(Asks, "chooses", [chooses] if chooses else [])
        ours = {"tuner___target_": f"{PARTS}.Asks", "genesis": "fresh", "generations": 1, **overrides}
        return run_probe(folder / (name or str(next(runs))), **ours)

    return run


def tuning(run: flywheel.Run) -> dict[str, Any]:
    """What is recorded of the last turn's trials."""
    return events(run.path, stage="tune")[-1]


def results(run: flywheel.Run) -> list[TrialResult]:
    return [TrialResult.of(value) for value in Store(run.path).json(tuning(run)["outputs"]["trials"])]


NOISY = {"model___target_": f"{PARTS}.Noisy", "task___target_": f"{PARTS}.Draws", "settings__batch_size": 8}
EPOCHS = {"trainer__max_steps": -1, "trainer__max_epochs": 9, "trainer__accumulate_grad_batches": 2}
RUNGS = tuple(Rung(share) for share in (0.05, 0.3, 0.31, 0.9))


@pytest.mark.parametrize(
    "trainer",
    [{}, pytest.param(EPOCHS, marks=pytest.mark.slow)],
)
def test_a_fit_with_rungs_is_to_the_bit_the_one_without(tune: Tune, trainer: dict[str, Any]) -> None:
    """Whatever it draws from, and whichever parts of it are in evaluation mode."""
    plain, climbing = (
        tune(Trial({}, rungs=rungs, keep_weights=True), chooses=adopts_first(0), **NOISY, **trainer)
        for rungs in ((), RUNGS)
    )
    assert tuning(climbing)["outputs"]["weights"] == tuning(plain)["outputs"]["weights"]
    (of_plain,), (of_climbing,) = results(plain), results(climbing)
    assert (of_plain.score, of_plain.suites) == (of_climbing.score, of_climbing.suites)
    assert (of_plain.rungs, len(of_climbing.rungs)) == ((), len(RUNGS))
    assert (of_climbing.pruned, of_climbing.share) == (False, 1.0)


def test_the_error_beside_trial_0_is_known_of_what_was_scored_at_its_end(tune: Tune) -> None:
    pruned = Trial({"lr": 0.02}, rungs=(Rung(0.5, 1.1),))
    wanted = (Trial({}), Trial({"lr": 0.001}), Trial({"lr": NAN}), pruned)
    first, other, failed, ended = results(tune(*wanted, model___target_=f"{PARTS}.Odd"))
    assert (first.error_beside, failed.error_beside, ended.error_beside) == (None, None, None)
    assert first.error is not None
    assert other.error is not None
    assert other.error_beside is not None
    assert 0 < other.error_beside <= first.error + other.error


def test_a_trial_ends_at_the_first_rung_whose_least_it_does_not_reach(tune: Tune) -> None:
    rungs = (Rung(0.25, 0.0), Rung(0.5), Rung(0.75, 1.1), Rung(0.9, 1.1))
    run = tune(
        Trial({}, 0.5, rungs=rungs, keep_weights=True),
        Trial({}, rungs=rungs[:2], keep_weights=True),
        chooses=lambda view: Choice(view.results[1].trial.settings, "trial", trial=1, share=0),
    )
    pruned, whole = results(run)
    assert (pruned.pruned, len(pruned.rungs), pruned.share) == (True, 3, 0.375)
    assert (pruned.score, pruned.is_whole) == (pruned.rungs[-1], False)
    assert (whole.pruned, len(whole.rungs), whole.share) == (False, 2, 1.0)
    assert whole.rungs[-1] != whole.score or whole.rungs[0] != whole.score


def test_weights_of_a_trial_that_was_pruned_cannot_be_chosen(tune: Tune) -> None:
    run = tune(Trial({}, rungs=(Rung(0.5, 1.1),), keep_weights=True), chooses=adopts_first(0))
    assert run.exit_code is ExitCode.FAILED
    assert (
        "a start must be the best trial whose weights were kept"
        in run.status().json()["generations"][1]["reason"]
    )


@pytest.mark.slow
def test_a_fit_that_ends_by_the_clock_has_no_rungs(tune: Tune) -> None:
    timed = {"trainer__max_steps": -1, "trainer__max_epochs": -1, "+trainer__max_time": "00:00:00:01"}
    trial = Trial({}, rungs=(Rung(0.5, 1.1),), keep_weights=True)
    (result,) = results(tune(trial, chooses=adopts_first(0), **timed))
    assert (result.rungs, result.pruned) == ((), False)
    assert result.score is not None


def test_a_trial_that_diverges_raises_or_leaves_is_a_failed_one_and_its_memory_is_free(
    tune: Tune, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside: list[int] = []
    monkeypatch.setattr(trial_parts.Odd, "beside", beside)
    failing = [Trial({"lr": lr}, 0.25, rungs=(Rung(0.5),)) for lr in (NAN, *RAISES)]
    run = tune(*failing, Trial({}, 0.25), model___target_=f"{PARTS}.Odd")
    assert run.exit_code is ExitCode.FINISHED
    *failures, last = [result.failure for result in results(run)]
    assert last is None, "the study goes on"
    assert [str(failure).partition(":")[0] for failure in failures] == [
        "StageFailed",
        "OutOfMemoryError",
        "MemoryError",
        "RuntimeError",
        "RuntimeError",
    ]
    assert "the loss is not finite at step 3" in str(failures[0])
    assert "the recipe left the process: SystemExit: 0" in str(failures[3])
    assert beside == [0] * (len(failing) + 2), "the model of a trial is gone when the next one is fitted"


@pytest.mark.parametrize(("share", "steps"), [pytest.param(0.0, 0, marks=pytest.mark.slow), (0.5, 10)])
def test_a_candidate_goes_on_from_the_weights_of_a_trial(tune: Tune, share: float, steps: int) -> None:
    """And descends from what the trial began with; done again it is the same to the bit."""
    trials = (Trial({"lr": 0.01}, 0.5, "parent", keep_weights=True), Trial({}, 0.05))
    run = tune(*trials, chooses=adopts_first(share), generations=2)
    generation = run.show(2)
    parent = generation.parent
    tuned, trained = tuning(run), events(run.path, stage="train")[-1]
    assert trained["facts"]["start"] == {
        "kind": "trial",
        "origin": parent,
        "weights": tuned["outputs"]["weights"],
    }
    assert (trained["facts"]["steps"], trained["facts"]["share"]) == (steps, share)
    assert (trained["outputs"]["weights"] == tuned["outputs"]["weights"]) == (share == 0)
    init = Graph(Store(run.path), read_state(run.path)).init(read_state(run.path).generations[2])
    assert init is not None
    assert (init.init, init.generation) == ("trial", parent)
    assert generation.settings["lr"] == 0.01
    assert run.reproduce(2).equal
    assert run.verify().first_bad is None


def test_only_a_trial_on_the_corpus_itself_keeps_weights(tune: Tune) -> None:
    keeps = {"keep_weights": True}
    run = tune(
        Trial({}, 0.25, redo_from="grade", **keeps),
        Trial({}, 0.25, data_share=0.5, **keeps),
        Trial({}, 0.25),
    )
    assert run.exit_code is ExitCode.FINISHED
    *refused, whole = results(run)
    reason = "only a trial on the whole corpus of its generation may become a start"
    assert all(reason in str(result.failure) for result in refused)
    assert whole.failure is None


def test_a_refit_begins_with_what_the_champions_trial_began_with(tune: Tune) -> None:
    trial = Trial({}, 0.5, "parent", keep_weights=True)
    run = tune(trial, chooses=adopts_first(0.5), refit=True, init="fresh")
    first, champion, final = (
        e["facts"]["start"] for e in events(run.path) if e.get("stage") in ("adopt", "train")
    )
    assert (champion["kind"], champion["origin"]) == ("trial", 0)
    (adopted,) = events(run.path, stage="adopt")
    assert final == {"kind": "parent", "origin": 0, "weights": adopted["outputs"]["weights"]}
    assert first["kind"] == "fresh"


def test_a_tuner_that_asks_for_other_trials_than_were_made_fails_its_generation(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_parts.Forgets, "sessions", [])
    overrides = {"tuner___target_": f"{PARTS}.Forgets", "genesis": "fresh", "generations": 1}
    assert run_probe(folder, **overrides).exit_code is ExitCode.INTERRUPTED
    run = run_probe(folder, **overrides)
    assert run.exit_code is ExitCode.FAILED
    reason = run.status().json()["generations"][1]["reason"]
    assert "Expected ask() to name trial 0 again as it was made" in reason
