"""Trials on several ranks: the same ones as on one rank, each by a rank that works alone."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

import flywheel
from flywheel.runtime.stop import request
from flywheel.storage.store import Store
from tests.support.harness import PROBE, Child, Ended, events, kinds, only_run, wait_until
from tests.support.ranks import fork_ranks, run_ranks
from tests.support.trial_parts import OPTUNA

PARTS = "tests.support.trial_parts"
WORDS = (*PROBE, "name=run", "generations=1", "genesis=fresh", "log=quiet", f"tuner._target_={PARTS}.Follows")
SLOW = pytest.mark.slow


def finish(words: tuple[str, ...], folder: Path, ranks: int, **env: str) -> Path:
    """A run to its end."""
    folder.mkdir(exist_ok=True)
    ended = wait(fork_ranks(words, folder, ranks=ranks, **env))
    assert [rank.code for rank in ended] == [0] * ranks, ended[0].err
    return only_run(folder)


def wait(ranks: list[Child]) -> list[Ended]:
    """How they ended; after an error none is left."""
    try:
        return [rank.wait() for rank in ranks]
    finally:
        for rank in ranks:
            rank.signal(signal.SIGKILL)


def tuned(run: Path) -> tuple[Any, Any]:
    """What the stage left and said."""
    (event,) = events(run, stage="tune")
    return event["outputs"], event["facts"]


@pytest.mark.parametrize(
    ("lag", "ranks"), [(2, 2), *(pytest.param(lag, n, marks=SLOW) for lag in (1, 2, 3) for n in (2, 3))]
)
def test_the_same_trials_and_the_same_choice_on_any_number_of_ranks(
    folder: Path, lag: int, ranks: int
) -> None:
    words = (*WORDS, f"tune.lag={lag}")
    alone, several = finish(words, folder / "1", 1), finish(words, folder / "n", ranks)
    assert tuned(several) == tuned(alone)
    assert tuned(alone)[1]["units"]["count"] == 8
    results = Store(alone).json(tuned(alone)[0]["trials"])
    assert any(result.get("pruned") for result in results)
    assert any(result.get("failure") for result in results)
    assert flywheel.open_run(several).champion().weights == flywheel.open_run(alone).champion().weights


@SLOW
@pytest.mark.parametrize("ranks", [2, 3])
def test_a_search_by_optuna_is_the_same_on_any_number_of_ranks(folder: Path, ranks: int) -> None:
    words = (*WORDS, "tune.lag=2", *OPTUNA)
    alone, several = finish(words, folder / "1", 1), finish(words, folder / "n", ranks)
    assert tuned(several) == tuned(alone)
    assert tuned(alone)[1]["units"]["count"] == 10


@SLOW
@pytest.mark.timeout(300)
def test_another_lag_makes_other_trials_and_torchrun_those_of_a_single_rank(folder: Path) -> None:
    first, second = (finish((*WORDS, f"tune.lag={lag}"), folder / str(lag), 1) for lag in (1, 2))
    assert tuned(first) != tuned(second)
    (folder / "torchrun").mkdir()
    done = run_ranks((*WORDS, "tune.lag=2"), folder / "torchrun", ranks=2)
    assert done.code == 0, done.err
    assert tuned(only_run(folder / "torchrun")) == tuned(second)
    assert flywheel.open_run(second).verify().first_bad is None


CHECKPOINT = "{_target_: lightning.pytorch.callbacks.ModelCheckpoint, monitor: mean_loss, save_top_k: 2}"
EARLY = "{_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: mean_loss, patience: 1}"
ON_ITS_OWN = (
    f"model._target_={PARTS}.Measured",
    "trainer.enable_checkpointing=true",
    f"+trainer.callbacks=[{CHECKPOINT},{EARLY}]",
    "settings.batch_size=2",
    "settings.steps=60",
    "tune.lag=2",
)


@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=SLOW)])
def test_a_trial_on_one_of_several_ranks_knows_of_no_other(folder: Path, ranks: int) -> None:
    """Neither its metrics nor its checkpoints are mixed with those of the trial beside it."""
    words = (*WORDS, *ON_ITS_OWN)
    alone, several = finish(words, folder / "1", 1), finish(words, folder / "n", ranks)
    assert tuned(several) == tuned(alone)
    assert tuned(alone)[1]["units"]["failed"] == 1
    assert not list(folder.rglob("*.ckpt"))


@pytest.mark.parametrize("how", ["stop", pytest.param("SIGTERM", marks=SLOW)])
def test_a_stop_within_a_trial_ends_all_ranks_and_fails_no_trial(folder: Path, how: str) -> None:
    words = (*WORDS, "tune.lag=2", f"model._target_={PARTS}.Endless")
    calm = finish(words, folder / "calm", 2)
    stopped, units = folder / "stopped", folder / "units"
    stopped.mkdir()
    env = {"PROBE_UNITS": str(units), "PROBE_KILLS": ""}
    ranks = fork_ranks(words, stopped, ranks=2, PROBE_FAULT="trial:endless", **env)

    def fits() -> list[str]:
        lines = units.read_text().splitlines() if units.exists() else []
        return [line.split()[2] for line in lines if line.split()[1] == "fit"]

    wait_until(lambda: len(fits()) == 3, "third fit")  # trial 3 is one that fails
    for rank in ranks:
        rank.signal(signal.SIGTERM) if how == "SIGTERM" else request(only_run(stopped))
    assert [rank.code for rank in wait(ranks)] == [3, 3]
    assert kinds(only_run(stopped))[-1] == "run_stopped"
    assert kinds(only_run(stopped)).count("tune") == 0
    done = fits()[:2]
    again = finish(words, stopped, 2, **env)
    assert tuned(again) == tuned(calm)
    assert not set(done) & set(fits()[3:]), "the trials that were finished are not made again"
    assert fits()[2] in fits()[3:], "the one that was cut off is"


@SLOW
@pytest.mark.parametrize("redo_from", ["curate", "grade", "generate"])
def test_trials_that_do_stages_anew_are_the_same_on_two_ranks(folder: Path, redo_from: str) -> None:
    tuner = ("tuner._target_=tests.support.probe_parts.Tuner", "+tuner.rates=[0.1,0.02,0.03,0.2]")
    words = (*WORDS, *tuner, f"+tuner.redo_from={redo_from}", "tune.lag=3", "chunk_size=32")
    alone, several = finish(words, folder / "1", 1), finish(words, folder / "n", 2)
    assert tuned(several) == tuned(alone)
    assert tuned(alone)[1]["units"]["count"] == 4
    assert "failed" not in tuned(alone)[1]["units"]
    costs = [events(run, stage="tune")[-1]["cost"] for run in (alone, several)]
    assert costs[0].get("samples") == costs[1].get("samples")
    assert not (several / "work").exists()
    assert flywheel.open_run(several).verify().first_bad is None
