"""Arms with one part off, on real runs of two moons: what is switched off, what is matched, what is said."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import flywheel
from flywheel.config.compose import compose
from flywheel.curators import Confident
from flywheel.errors import ConfigError, RunError
from flywheel.experiments import control_parts, controls
from flywheel.experiments.arms import ARMS, Recipe, chosen_arms
from flywheel.experiments.controls import ArmRun, Contribution, Controls, Experiment
from flywheel.graders import Confidence
from flywheel.keys import Key
from flywheel.records import Action, Alarm, Interval, Role
from flywheel.storage.ledger import read_head
from flywheel.testing import CONFIG_DIR, check_curator, check_grader
from flywheel.testing.moons.task import Moons
from tests.support.loop_runs import quick_folder

SEED = 3
WORDS = ("recipe=moons", "settings.steps=12", "generations=1", "threads=1")


class Halts:
    """A guard that halts at each look."""

    def check(self, view: Any) -> Alarm:
        return Alarm(Action.HALT, "a test")


class Fails(Moons):
    """In turn 2."""

    def prompts(self, generation: int, carry: Any, key: Any) -> pa.Table:
        if generation == 2:
            raise ValueError("a test")
        return super().prompts(generation, carry, key)


class Stops(Moons):
    """Gets Ctrl-C when it first generates."""

    times = 0

    def generate(self, *args: Any) -> dict[str, Any]:
        Stops.times += 1
        if Stops.times == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return super().generate(*args)


class Unsealed(Moons):
    def suites(self) -> Any:
        return [suite for suite in super().suites() if suite.role != Role.SEALED]


class Right:
    """A trusted grader: the lower moon is on the right."""

    def grade(self, samples: pa.Table, load_parent: Any, keys: Any) -> dict[str, Any]:
        right = [float(label) if label else None for label in samples["label"].to_pylist()]
        return {"right": right, "failure": [None if score else "a test" for score in right]}


def experiment(folder: Path, *words: str, **options: Any) -> Experiment:
    options = {"seeds": f"{SEED},", **options}
    return Experiment.of([*WORDS, f"runs_dir={folder}", *words], config_dir=CONFIG_DIR, **options)


@pytest.fixture(scope="module")
def whole() -> Iterator[Experiment]:
    """All arms that moons can have, run."""
    with quick_folder() as folder:
        made = experiment(folder)
        made.run()
        yield made


@pytest.fixture(scope="module")
def answered(whole: Experiment) -> Controls:
    return whole.answer()


def run_of(whole: Experiment, arm: str) -> flywheel.Run:
    return flywheel.open_run(whole.path(arm, SEED), CONFIG_DIR)


def turns_of(whole: Experiment, arm: str) -> list[Any]:
    return [view for view in run_of(whole, arm).generations() if view.number]


def test_every_arm_has_the_compute_of_its_loop(answered: Controls) -> None:
    arms = ["no-generation", "no-grading", "greedy-gate", "more-training", "labels-used"]
    assert [one.arm for one in answered.contributions] == arms
    ratios = {one.arm: one.flops_ratio for one in answered.contributions}
    assert ratios["more-training"] == pytest.approx(1, abs=0.02)
    loop, *others = answered.runs
    assert loop.turns == 1
    for other in others:
        turn = other.flops / (other.turns + 1)
        assert abs(other.flops - loop.flops) <= max(turn, 0.02 * loop.flops)


def test_every_arm_is_compared_on_the_sealed_suite(answered: Controls) -> None:
    assert (answered.suite, answered.metric) == ("sealed", "accuracy")
    for run in answered.runs:
        assert (run.state, run.note) == ("finished", "")
        assert 0 <= run.sealed["sealed"]["accuracy"].value <= 1
    for one in answered.contributions:
        assert one.seeds == (SEED,)
        assert one.score is not None
        assert one.score.difference.value == pytest.approx(one.score.loop - one.score.arm)


def test_reasons_are_given_for_the_arms_that_cannot_be(answered: Controls) -> None:
    reasons = dict(answered.not_applicable)
    assert reasons["no-warm-start"] == "init is fresh already"
    assert reasons["no-tuning"] == "the tuner is Fixed already: nothing is tuned"
    assert {*reasons, *(one.arm for one in answered.contributions)} == set(ARMS)


def test_without_generation_the_corpus_is_of_people(whole: Experiment) -> None:
    origins = [view.record.stages["curate"].facts.by_origin for view in turns_of(whole, "no-generation")]
    assert all(set(origin) == {"human"} for origin in origins)
    assert all("generated" in v.record.stages["curate"].facts.by_origin for v in turns_of(whole, "loop"))


def test_without_grading_all_rows_have_the_same_score(whole: Experiment) -> None:
    made = run_of(whole, "no-grading").samples(1)
    assert made["confidence"].unique().to_pylist() == [1.0]
    assert len(run_of(whole, "loop").samples(1)["confidence"].unique()) > 1


def test_a_greedy_arm_has_no_look(whole: Experiment) -> None:
    looks = {arm: len(run_of(whole, arm).champion().state.looks) for arm in ("loop", "greedy-gate")}
    assert looks["greedy-gate"] == 0 < looks["loop"]


def test_more_training_is_one_long_fit(whole: Experiment) -> None:
    (genesis,) = run_of(whole, "more-training").generations()
    assert genesis.record.stages["train"].facts.steps > 2 * 12
    assert set(genesis.record.stages["curate"].facts.by_origin) == {"human"}


def test_labels_of_dev_and_gate_are_seed_samples_and_all_is_promoted(whole: Experiment) -> None:
    run = run_of(whole, "labels-used")
    labels = run.generation(0).record.stages["seed"].facts.human
    assert labels == 10 + 2 * 200
    assert all(str(view.record.status) == "promoted" for view in run.generations())
    shared = run.status().held_out
    assert shared is not None
    assert {one.suite for one in shared.shared} == {"dev", "gate"}


def test_the_same_command_goes_on_and_makes_nothing_twice(whole: Experiment) -> None:
    paths = [Path(run.run) for run in whole.answer().runs]
    before = [read_head(path) for path in paths]
    shutil.rmtree(whole.path("greedy-gate", SEED))
    said: list[str] = []
    whole.run(said.append)
    assert [text.partition(":")[0] for text in said] == [f"seed {SEED} greedy-gate"]
    after = [read_head(path) for path in paths]
    same = [a == b for a, b in zip(before, after, strict=True)]
    assert same.count(False) == 1


def test_what_is_not_there_is_said_to_be_absent(tmp_path: Path) -> None:
    answer = experiment(tmp_path, arms=["no-grading"]).answer()
    (one,) = answer.contributions
    assert (one.score, one.seeds, one.flops_ratio) == (None, (), None)
    assert "nothing is known yet" in one.sentence
    assert [run.state for run in answer.runs] == ["absent", "absent"]


def test_a_run_that_a_guard_halts_is_scored_by_its_champion(tmp_path: Path) -> None:
    made = experiment(tmp_path, f"+guards.halts._target_={__name__}.Halts", arms=["greedy-gate"])
    made.run()
    loop, greedy = made.answer().runs
    assert (loop.turns, greedy.turns) == (1, 1)
    assert loop.note == "a guard halted it: a test"
    assert loop.sealed
    assert not greedy.note
    made.run(pytest.fail)


def test_a_run_that_fails_is_scored_by_its_champion(tmp_path: Path) -> None:
    made = experiment(tmp_path, f"task._target_={__name__}.Fails", "generations=2", arms=[])
    made.run()
    (loop,) = made.answer().runs
    assert (loop.state, loop.turns) == ("finished", 2)
    assert loop.note == "its generation 2 failed: generate: ValueError: a test"
    assert loop.sealed


def test_a_person_stops_all_and_the_same_command_goes_on(tmp_path: Path) -> None:
    made = experiment(tmp_path, f"task._target_={__name__}.Stops", arms=["no-grading"])
    with pytest.raises(controls.Stopped, match="was stopped: Ctrl-C"):
        made.run()
    assert [run.state for run in made.answer().runs] == ["stopped", "absent"]
    made.run()
    assert [run.state for run in made.answer().runs] == ["finished", "finished"]


def test_a_loop_that_cannot_be_matched_is_refused(tmp_path: Path) -> None:
    made = experiment(tmp_path, "generations=0", arms=["no-grading"])
    with pytest.raises(RunError, match=r"matched to a loop that has turns; .* made none"):
        made.run()


@pytest.mark.parametrize(
    ("words", "options", "says"),
    [
        ((), {"arms": ["no-gradin"]}, r"no arm 'no-gradin'. Did you mean no-grading"),
        ((), {"arms": ["no-tuning"]}, "no-tuning cannot be of recipe moons: the tuner is Fixed already"),
        ((), {"arms": ["trusted-grader"]}, "the recipe has no trusted grader"),
        ((), {"budget": "soon"}, "a time above 0, such as 90s, 2.5m or 1h; it is 'soon'"),
        ((), {"seeds": "5-3"}, "Seeds must be a number of them"),
        ((), {"metric": "gate"}, "--metric must be a sealed suite, or SUITE/METRIC; sealed are sealed"),
        ((), {"jobs": 0}, "--jobs must be 1 or more"),
        (("seed=3",), {}, "Controls set seed of each run themselves. Give --seeds"),
        (("budget.seconds=3",), {}, "Give --budget"),
        (("review._target_=flywheel.reviewers.Nope",), {}, "Controls set review._target_ of each run"),
        (("log=plain",), {}, "Controls set log of each run"),
        (
            (f"task._target_={__name__}.Unsealed",),
            {},
            r"has dev \(dev\), gate \(gate\). Give it a suite with",
        ),
    ],
)
def test_what_cannot_be_is_refused_at_once(
    tmp_path: Path, words: tuple[str, ...], options: Any, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        experiment(tmp_path, *words, **options)
    assert not list(tmp_path.iterdir())


def test_another_patience_is_another_experiment(tmp_path: Path) -> None:
    """It is no part of a run's identity, and ends the loop that all is matched to."""
    folders = [experiment(tmp_path, *words).folder for words in ((), ("patience=1",), ("patience=2",), ())]
    assert folders[0] == folders[3]
    assert len(set(folders)) == 3


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("2.5m", 150), ("1h", 3600)])
def test_a_budget_is_a_time(text: str, seconds: float) -> None:
    assert controls.seconds_of(text) == seconds


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("3", (0, 1, 2)), ("100-102", (100, 101, 102)), ("3,", (3,)), ("7,1-2,7", (7, 1, 2))],
)
def test_seeds_are_counted_or_named(text: str, seeds: tuple[int, ...]) -> None:
    assert controls.seeds_of(text) == seeds


def compared(ours: list[float], theirs: list[float], unit: str | None = None) -> Contribution:
    def run(arm: str, seed: int, value: float) -> ArmRun:
        sealed = {"sealed": {"accuracy": Interval(value, 0, 1, unit)}}
        return ArmRun(arm, seed, arm, "finished", sealed=sealed, flops=2.0, seconds=1.0)

    pairs = [
        (run("loop", seed, a), run("no-grading", seed, b))
        for seed, (a, b) in enumerate(zip(ours, theirs, strict=True))
    ]
    return controls.contribution(ARMS["no-grading"], pairs, ("sealed", "accuracy"), {"sealed": 0.01})


def test_a_difference_is_paired_and_its_interval_students() -> None:
    one = compared([0.9, 0.8, 0.7], [0.8, 0.7, 0.59])
    assert one.score is not None
    found, differences = one.score.difference, np.array([0.1, 0.1, 0.11])
    half = 4.302653 * differences.std(ddof=1) / np.sqrt(3)
    assert (found.low, found.high) == pytest.approx((differences.mean() - half, differences.mean() + half))
    assert one.sentence.startswith("With grading the champion is better, by +10.33 points [")


@pytest.mark.parametrize(
    ("ours", "theirs", "says"),
    [
        ([0.5, 0.5], [0.8, 0.8], "With grading the champion is worse, by -30.00 points ["),
        ([0.9, 0.5], [0.8, 0.6], "Whether the champion is better or worse with grading is not shown by 2"),
        ([0.9], [0.5], "One seed says nothing of chance: with grading the champion differs by +40.00"),
    ],
)
def test_a_sentence_says_what_is_shown(ours: list[float], theirs: list[float], says: str) -> None:
    assert compared(ours, theirs).sentence.startswith(says)


def test_unequal_compute_is_said() -> None:
    pair = [
        ArmRun(arm, 0, arm, "finished", sealed={"sealed": {"accuracy": Interval(0.5, 0, 1)}}, flops=flops)
        for arm, flops in (("loop", 10.0), ("no-grading", 12.0))
    ]
    one = controls.contribution(
        ARMS["no-grading"], [(pair[0], pair[1])], ("sealed", "accuracy"), {"sealed": 0.01}
    )
    assert one.flops_farthest == pytest.approx(1.2)
    assert "compute is not equal: with a seed the arm has 1.20 times the loop's" in one.sentence


def test_parts_of_arms_keep_the_contracts() -> None:
    people = {"prompt": ["p", "q"], "label": [0, 1]}
    answers = {**people, "probability": [0.6, 0.9]}
    check_grader(control_parts.SameScore(Confidence()), answers)
    check_curator(control_parts.HumanOnly(Confident()), people, {**answers, "confidence": [0.6, 0.9]})


def test_levels_are_no_shares() -> None:
    assert "by +20.00 levels [" in compared([30, 31, 30], [10, 11, 10], "level").sentence


def test_an_arm_is_of_the_recipe_as_it_is_configured() -> None:
    tuned = Recipe(("recipe=moons", "tuner=random", "init=parent", "promotion=greedy"), CONFIG_DIR)
    names = {arm.name for arm in chosen_arms(tuned, None)[0]}
    assert {"no-tuning", "no-warm-start"} <= names
    assert "greedy-gate" not in names


def test_the_arm_without_rivals_is_the_recipe_without_them() -> None:
    recipe = Recipe(("recipe=moons", "+rivals.old.generation=0"), CONFIG_DIR)
    ((arm,), _) = chosen_arms(recipe, ["no-rivals"])
    changed = compose(recipe.words, CONFIG_DIR, arm.changes(recipe))
    assert recipe.config["rivals"].keys() == {"old"}
    assert dict(changed.rivals) == {}
    with pytest.raises(ConfigError, match="the recipe has no rivals"):
        chosen_arms(Recipe(("recipe=moons",), CONFIG_DIR), ["no-rivals"])


SAMPLES = pa.table(
    {
        "id": ["a", "b", "c"],
        "origin": ["human", "generated", "human"],
        "made_in": pa.array([0, 1, 0], pa.int32()),
        "probability": [0.1, 0.9, 0.4],
        "label": [0, 1, 0],
    }
)


def test_human_only_shows_its_curator_no_generated_row() -> None:
    decisions, carry = control_parts.HumanOnly(Confident()).curate(SAMPLES, {}, Key.root(0))
    assert decisions["keep"].to_pylist() == [True, False, True]
    assert decisions["count"].to_pylist() == [1, 0, 1]
    assert decisions["reason"].to_pylist() == ["human", "generated: a control", "human"]
    assert carry == {}


def test_the_same_score_is_never_below_any_other() -> None:
    class Points:
        tokens_column = "tokens"
        checked_answer = "label"

        def grade(self, *_: Any) -> dict[str, Any]:
            failures = [None, "it was too long", None]
            return {"points": [3.0, None, 8.5], "tokens": [1, 2, 3], "failure": failures}

    grader = control_parts.SameScore(Points())
    scores = grader.grade(SAMPLES, None, None)  # type: ignore[arg-type]
    assert scores.to_pydict() == {"points": [8.5] * 3, "tokens": [1, 2, 3]}
    assert grader.tokens_column == "tokens"
    assert grader.checked_answer is None, "nor is it tried on negative controls"
    assert not hasattr(grader, "outside_service")


def test_a_trusted_score_has_the_names_of_the_graders_columns() -> None:
    grader = control_parts.TrustedScore(Confidence(), Right())
    scores = grader.grade(SAMPLES, None, None)  # type: ignore[arg-type]
    assert scores["confidence"].to_pylist() == [None, 1.0, None]
    assert scores["failure"].to_pylist() == ["a test", None, "a test"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_arms_may_be_made_side_by_side(tmp_path: Path) -> None:
    made = experiment(tmp_path, seeds="2", arms=["no-grading", "more-training"], jobs=2)
    made.run()
    answer = made.answer()
    assert [run.state for run in answer.runs] == ["finished"] * 6
    alone = experiment(tmp_path / "alone", seeds="2", arms=["no-grading", "more-training"])
    alone.run()
    figures = [[run.sealed["sealed"]["accuracy"].value for run in one.answer().runs] for one in (made, alone)]
    assert figures[0] == figures[1]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_addition_has_its_arms(tmp_path: Path) -> None:
    words = ["recipe=addition", "debug=tiny", "threads=1", "generations=2", f"runs_dir={tmp_path}"]
    made = Experiment.of(words, seeds="2")
    made.run()
    answer = made.answer()
    assert {"no-generation", "no-grading", "no-warm-start", "greedy-gate", "more-training"} <= {
        one.arm for one in answer.contributions
    }
    assert "labels-used" in answer.not_applicable
    for one in answer.contributions:
        assert one.score is not None
        assert one.flops_ratio == pytest.approx(1, abs=0.2)
