from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pytest
from msgspec.structs import replace

import flywheel
from flywheel.errors import RunError
from flywheel.experiments.looks import Decider, RecordedLook, joined, recorded_looks
from flywheel.experiments.report import Summary, report_of_run, summary_of_run
from flywheel.experiments.self_check import check_looks
from flywheel.gates import Paired
from flywheel.records import Differences, GateResult, Role
from flywheel.testing import CONFIG_DIR
from flywheel.testing.moons.task import Moons

LEVEL = 0.0025


class Normal:
    """A z-test over items, as many gates are: it errs under skew."""

    def test(self, evidence, level, carry, key):
        items = np.concatenate([evidence.differences(suite).items for suite in evidence.suites])
        error = max(float(items.std(ddof=1)), 1e-9) / np.sqrt(len(items))
        return GateResult("z", p_value=1 - NormalDist().cdf(float(items.mean()) / error)), {}


def look(differences, clusters=None, copies=None, gate=None, number=1, level=LEVEL):
    alone = np.arange(len(differences))
    clusters = alone if clusters is None else clusters
    return RecordedLook(
        generation=number,
        champion="one",
        level=level,
        decider=Decider(gate or Paired(), {}),
        differences={"gate": Differences(np.asarray(differences, float), clusters)},
        copies={"gate": clusters if copies is None else copies},
    )


def zero_one(rng, items=400):
    return rng.choice([1.0, -1.0, 0.0], items, p=[0.06, 0.05, 0.89])


def skewed(rng, items=750):
    """All gain a little, 1% lose nearly all: the mean is 0."""
    return rng.permutation(np.where(np.arange(items) < items // 100, -0.99, 0.01))


SOUND = {
    "0/1 scores": lambda rng: look(zero_one(rng)),
    "skewed scores": lambda rng: look(skewed(rng)),
    "clusters": lambda rng: look(np.repeat(zero_one(rng, 80), 5), np.repeat(np.arange(80), 5)),
}


@pytest.mark.parametrize("kind", SOUND)
def test_nothing_is_said_of_a_gate_that_keeps_its_promise(kind):
    rng = np.random.default_rng(0)
    checked = check_looks([SOUND[kind](rng) for _ in range(3)], 1200)
    assert checked.faults == ()
    assert [one.draws for one in checked.looks] == [200] * 3


def test_a_gate_that_errs_under_skew_is_caught_by_name():
    rng = np.random.default_rng(0)
    looks = [look(skewed(rng), gate=Normal(), number=k) for k in range(1, 4)]
    (fault,) = check_looks(looks).faults
    assert "on this run's own differences Normal promotes" in fault
    assert "where the level is 0.25%" in fault


def test_it_is_caught_in_the_other_direction_too():
    (fault,) = check_looks([look(-skewed(np.random.default_rng(0)), gate=Normal())]).faults
    assert "Normal promotes" in fault


def test_a_gate_that_errs_at_one_look_only_is_caught_there():
    rng = np.random.default_rng(0)
    looks = [look(zero_one(rng), number=k) for k in range(1, 6)]
    (fault,) = check_looks([*looks, look(skewed(rng), gate=Normal(), number=6, level=0.0001)]).faults
    assert "at generation 6" in fault


def test_items_that_are_copies_with_clusters_of_their_own_are_caught_by_name():
    rng = np.random.default_rng(0)
    numbers = np.repeat(np.arange(80), 5)
    copied = look(zero_one(rng, 80)[numbers], copies=numbers)
    checked = check_looks([copied])
    assert checked.copies == {"gate": 320}
    (fault,) = checked.faults
    assert "320 clusters of suite gate have items that ask what an item of another cluster asks" in fault
    right = look(zero_one(rng, 80)[numbers], numbers)
    assert check_looks([right]).faults == ()


def test_differences_of_one_sign_are_not_checked():
    checked = check_looks([look([1.0, 0, 0, 1])])
    assert [one.draws for one in checked.looks] == [0]
    assert checked.faults == ()


def test_units_join_what_shares_a_cluster_or_asks_the_same():
    clusters = np.array([0, 0, 1, 2, 3, 4])
    asked = np.array([0, 1, 1, 2, 3, 2])
    assert joined(clusters, asked).tolist() == [0, 0, 0, 1, 2, 1]
    assert joined(clusters, np.arange(6)).tolist() == clusters.tolist()


class Copied(Moons):
    """Its gate asks each item five times, by other names; who solves one is a matter of luck."""

    def evaluate(self, model, opponent, items, keys):
        weights = float(sum(parameter.abs().sum() for parameter in model.parameters()))
        points = np.stack(items["point"].to_numpy()).sum(axis=1)
        return (np.sin(1e3 * weights * points) > 0).astype(float)

    def suites(self):
        suites = super().suites()
        return [
            replace(
                suite,
                items=suite.items.take(np.repeat(np.arange(80), 5)).set_column(
                    0, "item", [[f"item-{k}" for k in range(400)]]
                ),
            )
            if suite.role == Role.GATE
            else suite
            for suite in suites
        ]


def test_a_run_reports_on_its_own_pairs(folder):
    config = {"recipe": "moons", "log": "quiet", "threads": 1, "runs_dir": str(folder), "generations": 2}
    run = flywheel.run(config, config_dir=CONFIG_DIR, task=Copied())
    report = report_of_run(run, 0.02)
    assert report == report_of_run(run, 0.02)
    assert [one.generation for one in report.check.looks] == [1, 2]
    assert report.check.copies == {"gate": 320}
    assert len(report.check.faults) == 1
    assert report.power.items == 400
    assert report.power.own_looks == 2
    summary = summary_of_run(run, most_seconds=1000)
    assert "With 400 items a gain of 1 point is seen" in summary.power
    assert len(summary.faults) == 1
    assert summary_of_run(run, most_seconds=0) == Summary(None, ())


def test_a_run_with_a_frontier_reports_on_its_looks_alone(tmp_path, frontier_run):
    ours = {"promotion": "frontier", "promotion.every": 1, "+gate.min_effect": 0.9, "generations": 2}
    ours["promotion.harm"] = 0.07
    common = {"recipe": "moons", "log": "quiet", "threads": 1, "runs_dir": str(tmp_path)}
    run = flywheel.run({**common, **ours}, config_dir=CONFIG_DIR)
    assert [one.generation for one in report_of_run(run, 0.01).check.looks] == [1]
    summary = summary_of_run(run, most_seconds=1000)
    assert summary.power == "With 200 items a gain of 1 point is seen 0% of the time."
    promoted = flywheel.open_run(frontier_run, CONFIG_DIR)
    assert [one.generation for one in report_of_run(promoted, 0.01).check.looks] == [1, 3, 5]
    assert summary_of_run(promoted, most_seconds=1000).power is None


def test_a_look_is_read_with_the_carry_that_its_gate_was_given(tmp_path):
    """What the gate left at the look before."""
    ours = {"promotion": "frontier", "promotion.every": 1, "generations": 3, "promotion.patience": 9}
    common = {"recipe": "moons", "log": "quiet", "threads": 1, "runs_dir": str(tmp_path)}
    run = flywheel.run({**common, **ours}, config_dir=CONFIG_DIR, gate=Counting())
    looks = recorded_looks(run)
    assert [look.decider.carry for look in looks] == [{"tests": n} if n else {} for n in range(len(looks))]
    assert len(looks) > 1


@dataclass(kw_only=True)
class Counting(Paired):
    """Promotes nothing, and counts its tests."""

    carry_kept = "always"

    def test(self, evidence, level, carry, key):
        return GateResult("no", p_value=1.0), {"tests": carry.get("tests", 0) + 1}


def test_a_run_without_a_test_has_no_power(greedy_run):
    run = flywheel.open_run(greedy_run, CONFIG_DIR)
    with pytest.raises(RunError, match="promotion=greedy is no test"):
        report_of_run(run, 0.01)
    assert summary_of_run(run) == Summary(None, ())
