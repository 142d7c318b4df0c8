"""Champions against each other, on real runs of two moons whose last champion has forgotten a class."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from msgspec.structs import replace
from pyarrow import parquet
from scipy import stats

import flywheel
from flywheel.cli.commands import run as subcommand
from flywheel.errors import ConfigError, RunError
from flywheel.experiments.tournament import Difference, paired_interval, points_text, tournament
from flywheel.metrics.bradley_terry import bradley_terry
from flywheel.metrics.intervals import TAIL
from flywheel.records import Interval, Role, Suite
from flywheel.testing.moons.task import Moons
from tests.support.loop_runs import quick_folder, run_moons, table_of

HERE = "tests.experiments.test_tournament"
FORGETS = {
    "curator._target_": "tests.support.one_class.OnlyClass0",
    "gate": {"_target_": "flywheel.experiments.control_parts.PromoteAll"},
    "+guards.guard_suites": None,
}
"""Every candidate is promoted, and none but the first champion knows class 1."""


@dataclass(kw_only=True)
class Games(Moons):
    """A guard suite of games, won by who alone knows the label, else drawn; who begins has an advantage."""

    def suites(self) -> list[Suite]:
        suites = super().suites()
        games = replace(self._suite(Role.GUARD), name="games", duel=True)
        shared = Suite("again", Role.GUARD, suites[1].items)  # the gate's
        return [*suites, games, shared]

    def evaluate(self, model: Any, opponent: Any, items: pa.Table, keys: Any) -> np.ndarray:
        ours = super().evaluate(model, None, items, keys)
        if opponent is None:
            return ours
        theirs = super().evaluate(opponent, None, items, keys)
        return np.clip((1 + ours - theirs) / 2 + 0.2, 0, 1)


@pytest.fixture(scope="module")
def run() -> Iterator[flywheel.Run]:
    with quick_folder() as folder:
        made = run_moons(
            folder, name="run", generations=2, settings__steps=30, task___target_=f"{HERE}.Games", **FORGETS
        )
        assert [str(g.status) for g in made.status().generations] == ["promoted"] * 3
        yield made


def dev_scores(run: flywheel.Run, number: int) -> np.ndarray:
    stage = "screen" if run.generation(number).record.screen else "evaluate"
    outcomes = table_of(run, number, stage, "outcomes")
    scores: np.ndarray = outcomes.filter(np.equal(outcomes["suite"].to_numpy(), "dev"))["score"].to_numpy()
    return scores


def test_an_older_champion_that_is_better_is_named_with_what_makes_it_champion_again(
    run: flywheel.Run,
) -> None:
    before = run.status().head
    found = tournament(run)
    assert (found.suite, found.role, found.duel, found.in_force) == ("dev", "dev", False, 2)
    assert found.reused == 3, "dev was recorded"
    assert [entry.generation for entry in found.entries] == [0, 1, 2]
    assert [(e.rank, e.best_rank, e.worst_rank) for e in found.entries] == [(1, 1, 1), (2, 2, 2), (3, 3, 3)]
    assert {(one.first, one.second) for one in found.differences} == {(0, 1), (0, 2), (1, 2)}
    for one in found.differences:
        pairs = dev_scores(run, one.first) - dev_scores(run, one.second)
        assert one.difference == paired_interval(pairs, np.arange(len(pairs)), TAIL / 3)
        assert one.better == one.first
    says = "Generation 2, the champion in force, is not the best: generation 0 is better by +"
    assert found.sentence.startswith(says)
    assert "; generation 1 is better by +" in found.sentence
    assert f"`python -m flywheel rollback {run.path} 0 --why TEXT`" in found.sentence
    assert run.status().head == before, "nothing is recorded"


def test_where_none_is_better_that_is_said(run: flywheel.Run, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "copy")
    copy = flywheel.open_run(tmp_path / "copy", run.config_dir, run.trusted)
    copy.rollback(0, why="the tournament")
    found = tournament(copy)
    assert found.in_force == 0
    says = (
        "None is shown to be better than generation 0, the champion in force. It is shown to be better than "
    )
    assert found.sentence == f"{says}2 of the 2 others."
    copy.recall(generation=1, why="it forgot a class", yes=True)
    assert tournament(copy, generations=[0, 1]).in_force == 0
    with pytest.raises(RunError, match="which has 1 that can take part"):
        tournament(copy)
    without = tournament(run, generations=[0, 1])
    assert without.in_force is None
    assert "does not take part" in without.sentence


def test_items_of_ones_own_are_scored_by_all(run: flywheel.Run, tmp_path: Path) -> None:
    items = Games(seed_value=99, items=120).suites()[0].items
    parquet.write_table(items, tmp_path / "own.parquet")
    found = tournament(run, items=tmp_path / "own.parquet")
    assert (found.role, found.reused, found.items) == (None, 0, 120)
    for entry in found.entries:
        scores = run.generation(entry.generation).evaluate(items)["score"].to_numpy()
        assert entry.score.value == pytest.approx(scores.mean())
    duel = tournament(run, items=tmp_path / "own.parquet", duel=True, generations=[0, 2])
    assert duel.duel
    assert duel.entries[0].generation == 0


def test_in_a_duel_each_plays_each_both_ways_and_is_rated(run: flywheel.Run) -> None:
    found = tournament(run, suite="games")
    assert found.duel
    views, items = (
        [run.generation(number) for number in range(3)],
        run.generation(0).task().suites()[-2].items,
    )
    right = [view.task().evaluate(view.load(), None, items, None) for view in views]
    pairs = list(itertools.combinations(range(3), 2))
    scores = np.array([(1 + right[a] - right[b]) / 2 for a, b in pairs])
    expected = np.where(scores == 1, 0.9, np.where(scores == 0, 0.1, 0.5))  # as the advantage is cut off at 1
    for one, own in zip(found.differences, expected, strict=True):
        assert one.difference.value == pytest.approx(2 * own.mean() - 1), "who begins has no advantage"
    ratings = bradley_terry(expected, pairs, range(len(items)), reference=2)
    assert {e.generation: e.rating.value for e in found.entries if e.rating} == {
        number: pytest.approx(rating.value) for number, rating in enumerate(ratings)
    }
    assert found.entries[0].generation == 0
    assert found.reused == 2, "1 and 2 played against the champion before them"


def test_what_is_charged_is_not_looked_at(run: flywheel.Run, tmp_path: Path) -> None:
    for suite in ("gate", "sealed"):
        with pytest.raises(ConfigError, match=f"got {suite}, whose role is {suite}: a look at it is charged"):
            tournament(run, suite=suite)
    with pytest.raises(ConfigError, match="Suite again has 200 of 200 items in common with gate"):
        tournament(run, suite="again")
    task = run.generation(0).task()
    parquet.write_table(task.suites()[1].items.slice(0, 7), tmp_path / "gate.parquet")
    with pytest.raises(ConfigError, match="7 of 7 are those of gate or sealed suites"):
        tournament(run, items=tmp_path / "gate.parquet")


def test_other_wrong_calls_are_refused(run: flywheel.Run) -> None:
    with pytest.raises(ConfigError, match=r"no suite 'dv'.*Give one of dev, games"):
        tournament(run, suite="dv")
    with pytest.raises(ConfigError, match="one of --suite and --items"):
        tournament(run, suite="dev", items="own.csv")
    with pytest.raises(ConfigError, match="--duel is for --items"):
        tournament(run, duel=True)
    with pytest.raises(RunError, match="which has 1 that can take part"):
        tournament(run, generations=[1])


def test_the_command_prints_a_table(run: flywheel.Run, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(run.path), "--suite", "games"]
    assert subcommand("tournament", words) == 0
    text = capsys.readouterr().out
    assert "each against each, both ways" in text
    assert "Elo [95%]" in text
    assert "*2" in text
    assert subcommand("tournament", [str(run.path), "--json", "--generations", "0,2"]) == 0
    assert json.loads(capsys.readouterr().out) == tournament(run, generations=[0, 2]).json()


def test_no_difference_has_no_sign() -> None:
    same = Difference(3, 0, Interval(0.0, -0.1, 0.1))
    assert [points_text(same.seen_from(number)) for number in (3, 0)] == ["+0.0 points [-10.0, +10.0]"] * 2


def test_the_interval_is_where_the_gates_test_does_not_refute() -> None:
    """Of wins and losses alone that is the exact test of McNemar; nothing else is left to be seen."""
    wins, losses = 9, 2
    differences = np.repeat([1.0, -1.0, 0.0], [wins, losses, 60])
    found = paired_interval(differences, np.arange(71), TAIL)
    assert found.value == pytest.approx(7 / 71)
    p_value = stats.binomtest(wins, wins + losses, alternative="greater").pvalue
    assert (found.low > 0) == (p_value <= TAIL)
    edge = paired_interval(differences, np.arange(71), p_value * 1.001)
    assert edge.low == pytest.approx(0, abs=1e-3)
    assert edge.low > 0 > paired_interval(differences, np.arange(71), p_value * 0.999).low
    mirrored = paired_interval(-differences, np.arange(71), TAIL)
    assert (mirrored.low, mirrored.high) == (-found.high, -found.low)
    assert paired_interval(np.zeros(50), np.arange(50), TAIL).low < -0.01, "no interval has zero width"


def test_a_cluster_is_one_piece() -> None:
    differences = np.repeat([1.0, 1.0, 1.0, 0.0, 0.0, 0.0], 20)
    apart = paired_interval(differences, np.arange(120), TAIL)
    together = paired_interval(differences, np.repeat(np.arange(6), 20), TAIL)
    assert apart.low > 0 > together.low
