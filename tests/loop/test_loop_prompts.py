"""Prompts that see the parent's results on dev by slice, and the floor of human rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from flywheel.curators import Confident
from flywheel.errors import DataError, ExitCode
from flywheel.prompting import Even
from flywheel.testing import check_recipe
from flywheel.testing.moons.task import Moons
from tests.support.harness import events
from tests.support.loop_runs import Probe, run_moons, table_of, unsealed

SEEN: list[tuple[int, pa.Table | None]] = []


@dataclass(kw_only=True)
class Directed(Moons):
    """Moons that asks of each side, left or right, as its policy says."""

    slice_columns = ("side",)
    policy: Even | None = None

    def suites(self) -> Any:
        return [with_sides(suite) for suite in super().suites()]

    def prompts(self, generation: int, carry: Any, key: Any, results: pa.Table | None = None) -> pa.Table:
        SEEN.append((generation, results))
        table = super().prompts(generation, carry, key)
        counts = (self.policy or Even()).counts(60, results, ["left", "right"], key)
        sides = side_of(table)
        return pa.concat_tables(
            table.filter(pc.equal(sides, side)).slice(0, count) for side, count in counts.items()
        )


def side_of(table: pa.Table) -> pa.Array:
    points = table["point"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return pa.array(np.where(points.reshape(-1, 2)[:, 0] > 0.5, "right", "left"))


def with_sides(suite: Any) -> Any:
    from msgspec.structs import replace

    return replace(suite, items=suite.items.append_column("side", side_of(suite.items)))


DIRECTED = {
    "task._target_": f"{__name__}.Directed",
    "+task.policy._target_": "flywheel.prompting.WeakSpots",
    "settings.steps": 5,
}


@pytest.fixture
def moons(folder: Path) -> Probe:
    SEEN.clear()
    return lambda **overrides: run_moons(folder / "runs", **overrides)


def test_prompts_are_shown_the_parents_results_on_dev_by_slice(moons: Probe) -> None:
    run = moons(**DIRECTED, generations=2, promotion="frontier")
    assert run.exit_code is ExitCode.FINISHED
    for turn, results in SEEN:
        assert results is not None
        parent = run.generation(run.generation(turn).record.parent).record
        stage = "screen" if parent.number else "evaluate"
        outcomes = table_of(run, parent.number, stage, "outcomes")
        dev = outcomes.filter(pc.equal(outcomes["suite"], "dev"))
        assert results.column_names == ["side", "items", "score"]
        assert results["side"].to_pylist() == ["left", "right"]
        assert sum(results["items"].to_pylist()) == len(dev)
        mean = np.average(results["score"].to_numpy(), weights=results["items"].to_numpy())
        assert mean == pytest.approx(np.mean(dev["score"].to_numpy()))
    assert [turn for turn, _ in SEEN] == [1, 2]


def test_a_resumed_run_draws_the_same_prompts_and_checks_that_it_does(moons: Probe, folder: Path) -> None:
    whole = run_moons(folder / "whole", **DIRECTED, generations=2)
    moons(**DIRECTED, generations=1)
    assert unsealed(moons(**DIRECTED, generations=2).path) == unsealed(whole.path)


def test_slices_must_be_columns_of_a_dev_suite(moons: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Directed, "slice_columns", ("colour",))
    with pytest.raises(DataError, match=r"slice_columns must be .*\['colour'\] are not: dev has item, point"):
        moons(**DIRECTED, generations=1)
    monkeypatch.setattr(Directed, "slice_columns", "side")
    with pytest.raises(DataError, match="must be names of columns"):
        moons(**DIRECTED, generations=1)


def test_a_directed_recipe_keeps_the_contracts() -> None:
    from flywheel.testing import CONFIG_DIR

    overrides = [f"{key}={value}" for key, value in DIRECTED.items() if not key.startswith("settings")]
    check_recipe("moons", CONFIG_DIR, ["debug=fast_dev_run", *overrides])


@dataclass(kw_only=True)
class NoHuman(Confident):
    """Keeps nothing of what people gave, once there is anything else."""

    def curate(self, samples: pa.Table, carry: Any, key: Any) -> Any:
        decisions, carry = super().curate(samples, carry, key)
        generated = np.equal(samples["origin"].to_numpy(), "generated")
        keep = np.asarray(decisions["keep"]) & (generated | (not generated.any()))
        return {**decisions, "keep": keep}, carry


def draws(run: Any, number: int) -> dict[str, int]:
    """Draws of a corpus by the origin of its rows."""
    corpus = table_of(run, number, "curate", "corpus")
    human = set(table_of(run, 0, "seed", "samples")["id"].to_pylist())
    own = np.isin(corpus["id"].to_numpy(zero_copy_only=False).astype(str), list(human))
    counts = corpus["count"].to_numpy()
    return {"human": int(counts[own].sum()), "others": int(counts[~own].sum())}


def test_human_rows_are_drawn_more_often_up_to_their_floor(moons: Probe) -> None:
    run = moons(human_share=0.4, generations=1, settings__steps=5)
    drawn = draws(run, 1)
    assert drawn["human"] / sum(drawn.values()) == pytest.approx(0.4, abs=1 / sum(drawn.values()))
    assert drawn["human"] >= 0.4 * sum(drawn.values())
    facts = [e["facts"] for e in events(run.path) if e.get("stage") == "curate"]
    assert facts[1]["human_share"] == pytest.approx(drawn["human"] / sum(drawn.values()))
    assert facts[0]["human_share"] == 1.0


def test_a_floor_that_is_met_changes_nothing(moons: Probe, folder: Path) -> None:
    low, none = moons(human_share=0.01, generations=1), run_moons(folder / "none", generations=1)
    assert table_of(low, 1, "curate", "corpus").equals(table_of(none, 1, "curate", "corpus"))
    assert "human_share" not in [e for e in events(none.path) if e.get("stage") == "curate"][1]["facts"]


def test_a_floor_that_no_human_row_can_reach_fails_by_name(moons: Probe) -> None:
    run = moons(human_share=0.2, generations=1, curator___target_=f"{__name__}.NoHuman")
    assert run.exit_code is ExitCode.FAILED
    assert "human_share=0.2 must be reached by human rows" in run.status().generations[1].reason
