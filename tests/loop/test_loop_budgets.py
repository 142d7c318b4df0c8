"""Each limit of the budget stops a real run, and a larger one lets it go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flywheel.errors import ConfigError, ExitCode, RunError
from flywheel.lineage.status import read_state
from flywheel.storage.events import Spent
from flywheel.testing.moons.task import Moons
from flywheel.trackers.event_text import ending_text
from tests.support.harness import events
from tests.support.loop_runs import run_moons, statuses

ROWS, UNIT, TOKENS = 200, 50, 7


class Talks(Moons):
    """Moons that count the tokens of each sample."""

    tokens_column = "tokens"

    def generate(self, *args: Any) -> dict[str, Any]:
        columns = super().generate(*args)
        return columns | {"tokens": [TOKENS] * len(columns["prompt"])}


SMALL = {
    "task._target_": f"{__name__}.Talks",
    "settings.steps": 2,
    "chunk_size": UNIT,
    "generations": 1,
    "name": "run",
}


@pytest.fixture
def moons(folder: Path) -> Any:
    return lambda **more: run_moons(folder / "runs", **(SMALL | more))


def last_of(run: Any) -> dict[str, Any]:
    last: dict[str, Any] = events(run.path)[-1]
    return last


@pytest.mark.parametrize(
    ("key", "limit", "units"),
    [("samples", 120, 3), ("samples", 100, 2), ("tokens", UNIT * TOKENS + 1, 2)],
)
def test_what_is_made_is_held_at_the_next_unit(moons: Any, key: str, limit: int, units: int) -> None:
    run = moons(**{f"budget.{key}": limit})
    assert run.exit_code is ExitCode.STOPPED
    last = last_of(run)
    assert (last["event"], last["reason"]) == ("run_stopped", f"the budget of {limit} {key} is spent")
    assert (last["cost"]["samples"], last["cost"]["tokens"]) == (units * UNIT, units * UNIT * TOKENS)
    run = moons(**{f"budget.{key}": 10 * limit})
    assert run.exit_code is ExitCode.FINISHED
    made = next(e for e in events(run.path) if e.get("stage") == "generate")
    assert made["cost"]["samples"] == ROWS - units * UNIT, "those that were kept are not counted twice"
    assert (run.status().spent.samples, run.status().spent.tokens) == (ROWS, ROWS * TOKENS)


def test_what_was_made_is_still_learned_from_and_judged(moons: Any) -> None:
    run = moons(**{"budget.samples": ROWS, "generations": 2})
    assert run.exit_code is ExitCode.STOPPED
    assert len(statuses(run)) == 2
    assert "unfinished" not in statuses(run)
    assert last_of(run)["reason"] == f"the budget of {ROWS} samples is spent"
    assert moons(**{"budget.samples": ROWS + 1, "generations": 1}).exit_code is ExitCode.FINISHED


@pytest.mark.parametrize(("key", "unit"), [("device_hours", "device hours"), ("money", "in money")])
def test_time_and_money_are_held_before_more_is_begun(moons: Any, key: str, unit: str) -> None:
    price = {"budget.price.device_hour": 3600}
    spent = moons(**price, generations=0).status().spent
    assert spent.money == pytest.approx(spent.seconds, abs=1e-3)
    assert spent.device_hours == pytest.approx(spent.seconds / 3600, abs=1e-5)
    limit = getattr(spent, key) / 2
    run = moons(**price, **{f"budget.{key}": limit})
    assert run.exit_code is ExitCode.STOPPED
    assert last_of(run)["reason"] == f"the budget of {limit:g} {unit} is spent"
    assert statuses(run) == ["promoted"]
    assert moons(**price, **{f"budget.{key}": 1000}).exit_code is ExitCode.FINISHED


def test_money_is_at_the_price_of_its_time(moons: Any) -> None:
    run = moons(**{"budget.price.thousand_tokens": 2.0})
    assert run.status().spent.money == pytest.approx(2.0 * ROWS * TOKENS / 1000)
    again = moons(**{"budget.price.thousand_tokens": 50.0, "generations": 2})
    assert again.status().spent.money == pytest.approx(52.0 * ROWS * TOKENS / 1000)


def test_flops_are_counted_and_held_at_the_next_step(moons: Any) -> None:
    run = moons(**{"settings.steps": 6})
    status = run.status()
    trained = [g.record.stages["train"].facts.flops for g in run.generations()]
    assert trained[0] > 0
    assert status.spent.flops == sum(trained)
    assert [g.cost.flops for g in status.generations] == trained
    step = trained[0] / 6
    cut = moons(name="cut", **{"settings.steps": 6, "budget.flops": 2.5 * step})
    assert cut.exit_code is ExitCode.STOPPED
    assert last_of(cut)["reason"] == f"the budget of {2.5 * step:g} FLOPs is spent"
    assert last_of(cut)["cost"]["flops"] == 3 * step
    assert moons(name="cut", **{"settings.steps": 6}).exit_code is ExitCode.FINISHED
    assert cut.status().spent.flops == sum(trained) + 3 * step, "what was cut off is done again, and counted"


def test_flops_of_trials_are_counted(moons: Any) -> None:
    tuner = {"tuner": "random", "tuner.trials": 2, "tune.genesis": False, "tuner.start": None}
    run = moons(**tuner, **{"tune.space": {"lr": {"low": 0.001, "high": 0.1}}})
    tuned, fit = (run.generation(1).record.stages[stage].cost.flops for stage in ("tune", "train"))
    assert tuned == 2 * fit > 0


def test_a_run_may_finish_at_its_limit(moons: Any) -> None:
    genesis, turn = (generation.cost.flops for generation in moons().status().generations)
    limit = {"budget.at_limit": "finish", "budget.flops": genesis + 1.6 * turn}
    finish = {"generations": 9, "seal": "keep", **limit}
    run = moons(name="other", **finish)
    assert run.exit_code is ExitCode.FINISHED
    assert (last_of(run)["event"], last_of(run)["reason"]) == ("run_finished", "budget")
    assert len(statuses(run)) == 3
    assert "unfinished" not in statuses(run)
    assert run.status().spent.flops == genesis + 2 * turn
    assert run.champion().state.sealed, "its sealed suites are looked at"
    before = last_of(run)
    assert moons(name="other", **finish).exit_code is ExitCode.FINISHED
    assert last_of(run) == before, "it is over"
    with pytest.raises(RunError, match="A run ends when its sealed suites are opened"):
        moons(name="other", **finish | {"budget.flops": 9 * turn})


def test_a_run_finishes_with_the_turn_that_ends_nearest_to_its_limit(moons: Any) -> None:
    genesis, turn = (generation.cost.flops for generation in moons().status().generations)
    for name, share, turns in (("below", 2.4, 2), ("above", 2.6, 3)):
        limit = {"budget.at_limit": "finish", "budget.flops": genesis + share * turn}
        assert len(statuses(moons(name=name, generations=9, **limit))) == 1 + turns


def test_a_run_that_may_finish_is_cut_off_nowhere(moons: Any) -> None:
    run = moons(**{"budget.at_limit": "finish", "budget.seconds": 1e-6, "budget.samples": 1})
    assert run.exit_code is ExitCode.FINISHED
    assert statuses(run) == ["promoted"]


def test_the_remedy_names_the_limit(moons: Any) -> None:
    run = moons(**{"budget.samples": 1})
    state = read_state(run.path)
    assert state.last is not None
    assert ending_text(state.last, state) == (
        "stopped: the budget of 1 samples is spent. With a larger budget.samples the same command goes on."
    )


def test_no_recall_gives_anything_back(moons: Any) -> None:
    run = moons()
    before: Spent = run.status().spent
    run.recall(generation=1, why="a test", yes=True)
    assert run.status().spent == before


@pytest.mark.parametrize("key", ["budget.tokens", "budget.price.thousand_tokens"])
def test_tokens_that_nobody_reports_are_refused(moons: Any, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key} needs a task or a grader that counts tokens"):
        moons(**{"task._target_": "flywheel.testing.moons.task.Moons", key: 5})
