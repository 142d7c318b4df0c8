"""What the report says: controls, long runs, samples that are read in part."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import flywheel
from benchmarks.ledger import synthetic_run
from benchmarks.report import SUITES, batch, outcomes
from flywheel.lineage.record import Record
from flywheel.lineage.status import difference, read_state
from flywheel.records import Interval
from flywheel.report import charts
from flywheel.report.controls import control_tables
from flywheel.report.facts import run_facts
from flywheel.report.figures import gains
from flywheel.report.generations import MOST_SHOWN
from flywheel.report.page import run_page
from flywheel.report.samples import PER_SIDE, samples_of
from flywheel.storage.store import Store


def beside_controls(runs: Path, run: Path, loop: Path, arm: Path) -> Path:
    """A run beside an experiment of one seed; its directory."""
    folder = runs / "controls" / "2turns-0a1b2c3d" / "moons"
    shutil.copytree(loop, folder / "loop-seed0")
    shutil.copytree(arm, folder / "greedy-gate-seed0")
    return Path(shutil.copytree(run, runs / "moons" / "run"))


def test_controls_of_the_same_configuration_are_found(
    finished_run: Path, greedy_run: Path, tmp_path: Path
) -> None:
    run = beside_controls(tmp_path, finished_run, finished_run, greedy_run)
    (table,) = control_tables(run, read_state(run))
    (row,) = table.rows
    sealed = {path: flywheel.open_run(path).champion().metrics for path in (finished_run, greedy_run)}
    ours, theirs = (
        float(sealed[path][table.suite][table.metric].value) for path in (finished_run, greedy_run)
    )
    assert (table.budget, row.arm, row.seeds) == ("2turns", "greedy-gate", 1)
    assert (row.loop, row.mean, row.difference.value) == pytest.approx((ours, theirs, ours - theirs))
    assert charts.controls(table).to_dict()
    assert "loop beside arms" in run_page(run_facts(run))


def test_controls_of_another_configuration_are_not(
    finished_run: Path, frontier_run: Path, greedy_run: Path, tmp_path: Path
) -> None:
    run = beside_controls(tmp_path, finished_run, frontier_run, greedy_run)
    assert control_tables(run, read_state(run)) == ()


def test_a_long_run_has_a_bounded_page(tmp_path: Path) -> None:
    """And what matters most is among the generations that have a section."""

    def few(store: Store, folder: Path, number: int, maker: str) -> dict[str, str]:
        rng = np.random.default_rng(number)
        made = batch(number, 4, maker, rng) | {"outcomes": outcomes(rng)}
        return {name: store.put_table(table) for name, table in made.items()}

    run = synthetic_run(tmp_path, 150, few)
    facts = run_facts(run)
    shown = [detail.number for detail in facts.details]
    assert len(shown) <= MOST_SHOWN + 1
    assert {0, 150} <= set(shown)
    assert set(range(131, 151)) <= set(shown)
    page = run_page(facts)
    assert len(page) < 4 << 20
    assert f"{len(shown)} of 151" in page


def test_samples_are_shown_without_reading_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def large(store: Store, folder: Path, number: int, maker: str) -> dict[str, str]:
        made = batch(number, 3000, maker, np.random.default_rng(number))
        return {name: store.put_table(table) for name, table in made.items()}

    record = Record.read(synthetic_run(tmp_path, 1, large, **{name: name for name in SUITES}))
    monkeypatch.setattr(Store, "table", lambda *_: pytest.fail("a whole table was read"))
    found = samples_of(record, record.state.generations[1])
    assert [len(found.kept), len(found.dropped)] == [PER_SIDE, PER_SIDE]
    for sample in (*found.kept, *found.dropped):
        assert sample.kept == (sample.reason == "top 0.7 by confidence")
        assert sample.scores.startswith("confidence ")
        assert "prompt: prompt" in sample.view.text


def test_sealed_items_are_compared_one_by_one(finished_run: Path) -> None:
    """Against a reference that joins the items by itself; where they differ most, none is shown as paired."""
    record = Record.read(finished_run)
    first, champion = record.state.first_champion, record.state.champion
    assert first is not None
    assert champion is not None
    assert first is not champion

    def scores(number: int) -> dict[tuple[str, str], float]:
        table = record.store.table(record.state.sealed[number].outputs["outcomes"])
        return {(row["suite"], row["item"]): row["score"] for row in table.to_pylist()}

    before, after = scores(first.number), scores(champion.number)
    paired = [gain for gain in gains(record.state, record.store) if gain.is_paired]
    assert {gain.role for gain in paired} == {"sealed"}
    for gain in paired:
        own = [after[key] - before[key] for key in before if key[0] == gain.suite]
        assert gain.difference.value == pytest.approx(sum(own) / len(own))
        assert gain.difference.low < gain.difference.value < gain.difference.high
        as_if_apart = difference(gain.after, gain.before)
        assert gain.difference.low >= as_if_apart.low, "the items' own differences say more"


def test_of_gate_items_nothing_is_shown_and_of_sealed_ones_how_many_flipped(finished_run: Path) -> None:
    flips = [one for detail in run_facts(finished_run).details for one in detail.flips]
    assert {one.suite for one in flips if one.gained_items or one.lost_items} == {"dev"}
    assert {one.suite for one in flips} == {"dev", "sealed"}
    assert any(one.gained + one.lost for one in flips if one.suite == "sealed")


def test_of_a_metric_that_is_no_mean_no_items_are_compared(finished_run: Path) -> None:
    record = Record.read(finished_run)
    assert record.state.champion is not None
    for by_metric in record.state.sealed[record.state.champion.number].facts.metrics.values():
        by_metric.update({name: Interval(0.5, 0.4, 0.6) for name in by_metric})
    assert not any(gain.is_paired for gain in gains(record.state, record.store))
