"""What holds of every tuner that searches."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from flywheel.config.components import check_components
from flywheel.config.compose import compose
from flywheel.errors import ConfigError
from flywheel.keys import Key
from flywheel.records import Rung, Study, Trial, TrialResult
from flywheel.space import Dimension, Space
from flywheel.testing import CONFIG_DIR
from flywheel.tuners import Optuna, Random
from flywheel.tuners.search import Search, neighbours
from tests.tuners.views import IN_FORCE, SPACE, peak, result_of, run, view_of

Make = Callable[..., Search]
TUNERS = [pytest.param(Random, id="random"), pytest.param(Optuna, id="optuna")]
all_tuners = pytest.mark.parametrize("tuner", TUNERS)


def settings_of(results: tuple[TrialResult, ...]) -> list[dict[str, Any]]:
    return [result.trial.settings for result in results]


@all_tuners
def test_trial_0_is_what_is_in_force_and_no_point_is_tried_twice(tuner: Make) -> None:
    results = run(partial(tuner, trials=30, least_gain=0))
    assert len(results) == 30
    assert results[0].trial.settings == IN_FORCE
    points = [SPACE.point(settings) for settings in settings_of(results)]
    assert len(set(points)) == 30
    assert all(SPACE.allows(settings) and settings["epochs"] == 3 for settings in settings_of(results))


@all_tuners
@pytest.mark.parametrize("lag", [1, 4])
def test_a_tuner_that_is_built_anew_asks_for_the_same(tuner: Make, lag: int) -> None:
    prior = (Study("generation 1", 1, run(partial(Random, trials=12, least_gain=0), key=Key.root(3))),)
    for studies in ((), prior):
        make = partial(tuner, trials=24, least_gain=0)
        once = run(make, lag=lag, prior=studies)
        assert run(make, lag=lag, prior=studies, fresh=True) == once
        assert run(make, lag=lag, prior=studies) == once


@all_tuners
def test_another_key_gives_other_trials(tuner: Make) -> None:
    make = partial(tuner, trials=6, least_gain=0)
    assert settings_of(run(make))[1:] != settings_of(run(make, key=Key.root(8)))[1:]


@all_tuners
def test_a_tuner_that_goes_on_with_other_results_begins_anew(tuner: Make) -> None:
    make = partial(tuner, trials=12, least_gain=0)
    used = make()
    run(lambda: used)
    other = run(make, lambda number, settings: 1 - peak(number, settings))
    assert run(lambda: used, lambda number, settings: 1 - peak(number, settings)) == other


@all_tuners
def test_infeasible_points_are_never_tried(tuner: Make) -> None:
    space = Space(SPACE.dimensions, ("lr * width <= 1", "width >= 24 or optimizer == 'sgd'"))
    in_force = {**IN_FORCE, "width": 32}
    results = run(partial(tuner, trials=30, least_gain=0), space=space, in_force=in_force)
    assert len(results) == 30
    assert all(space.is_feasible(settings) for settings in settings_of(results))


@all_tuners
def test_settings_in_force_that_are_infeasible_are_not_tried(tuner: Make) -> None:
    space = Space(SPACE.dimensions, ("width >= 32",))
    results = run(partial(tuner, trials=10, least_gain=0), space=space)
    assert all(settings["width"] >= 32 for settings in settings_of(results))
    choice = tuner().choose(view_of(results, space=space))
    assert choice.trial is not None
    assert "the settings in force were not scored" in choice.reason


@all_tuners
def test_settings_in_force_may_lie_outside_the_space(tuner: Make) -> None:
    in_force = {**IN_FORCE, "lr": 30.0, "width": 7, "optimizer": "lion"}
    results = run(partial(tuner, trials=15, least_gain=0), in_force=in_force)
    assert results[0].trial.settings == in_force
    assert len(results) == 15


@all_tuners
def test_a_finite_space_is_exhausted(tuner: Make) -> None:
    space = Space(
        (Dimension("width", low=1, high=3), Dimension("depth", choices=(1, 2))), ("width + depth < 5",)
    )
    in_force = {"width": 1, "depth": 1}
    results = run(
        partial(tuner, trials=50, least_gain=0),
        lambda number, settings: settings["width"] / 10,
        space=space,
        in_force=in_force,
    )
    assert len(results) == 5
    assert len({space.point(settings) for settings in settings_of(results)}) == 5


@all_tuners
def test_a_space_without_a_feasible_point_is_refused(tuner: Make) -> None:
    space = Space(SPACE.dimensions, ("width > 100",))
    with pytest.raises(ConfigError, match="none was found for width > 100"):
        run(tuner, space=space)


@all_tuners
def test_nothing_to_search(tuner: Make) -> None:
    view = view_of(space=Space())
    assert tuner().ask(view) is None
    choice = tuner().choose(view)
    assert (choice.settings, choice.start, choice.trial, choice.share) == (IN_FORCE, "fresh", None, 1.0)
    assert choice.reason == "there is nothing to search"
    assert choice.carry == {"k": 1}


def test_no_trial_was_made() -> None:
    assert Random().choose(view_of()).reason == "no trial was made"


@all_tuners
def test_failed_and_pruned_trials_are_survived(tuner: Make) -> None:
    def score(number: int, settings: dict[str, Any]) -> Any:
        if settings["lr"] > 0.2 or number == 0:
            return None
        if settings["width"] < 32:
            trial = Trial(settings, rungs=(Rung(0.25),))
            return TrialResult(number, trial, 0.1, rungs=(0.1,), pruned=True, share=0.25)
        return float("nan") if number == 9 else peak(number, settings)

    results = run(partial(tuner, trials=25, least_gain=0), score)
    assert len(results) == 25
    choice = tuner().choose(view_of(results))
    chosen = results[choice.trial or 0]
    assert chosen.score == max(r.score for r in results if r.is_whole and r.score == r.score)  # type: ignore[type-var]


@all_tuners
@pytest.mark.parametrize("lag", [1, 3])
def test_all_trials_fail(tuner: Make, lag: int) -> None:
    results = run(partial(tuner, trials=12), lambda number, settings: None, lag=lag)
    assert len(results) == 12
    choice = tuner().choose(view_of(results))
    assert choice.settings == IN_FORCE
    assert "none of 12 trials" in choice.reason


@all_tuners
def test_trials_say_what_they_change(tuner: Make) -> None:
    space = Space(
        (
            Dimension("lr", low=1e-4, high=1.0, log=True),
            Dimension("votes", low=1, high=9, redo_from="curate"),
        )
    )
    in_force = {"lr": 0.01, "votes": 5}
    results = run(
        partial(tuner, trials=20, least_gain=0, start="trial", fidelity=0.5),
        lambda number, settings: settings["votes"] / 10,
        space=space,
        in_force=in_force,
    )
    for result in results:
        is_same = result.trial.settings["votes"] == 5
        assert result.trial.redo_from == ("train" if is_same else "curate")
        assert result.trial.keep_weights == is_same
        assert result.trial.fidelity == 0.5


@all_tuners
def test_weights_of_trials_on_a_share_of_the_data_are_not_kept(tuner: Make) -> None:
    results = run(partial(tuner, trials=3, start="trial", data_share=0.5))
    assert all(not r.trial.keep_weights and r.trial.data_share == 0.5 for r in results)


@all_tuners
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"trials": 0}, "tuner.trials must be at least 1, got 0"),
        ({"fidelity": 0.0}, "tuner.fidelity must be above 0"),
        ({"data_share": 1.5}, "tuner.data_share must be above 0"),
        ({"least_gain": float("nan")}, "tuner.least_gain must be 0 or more"),
        ({"margin": -1.0}, "tuner.margin must be 0 or more"),
        ({"start": "parent"}, "tuner.start must be trial, or null"),
        ({"rungs": (0.5, 0.2)}, "in ascending order"),
        ({"rungs": (0.5, 1.0)}, "between 0 and 1"),
        ({"rungs": (0.5,), "eta": 1}, "tuner.eta must be above 1"),
    ],
)
def test_arguments_are_checked(tuner: Make, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tuner(**arguments)


@pytest.mark.parametrize("name", ["random", "optuna"])
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+tuner.trails=5", r"tuner\.trails is no argument of .*Did you mean trials"),
        ("tuner.trials=0", r"tuner\.trials must be at least 1, got 0"),
        ("tuner.trials=many", r"tuner\.trials.*many"),
        ("tuner.trials=2.5", r"tuner\.trials.*2\.5"),
        ("tuner.startup=true", r"tuner\.startup.*[Tt]rue"),
        ("tuner.margin=null", r"tuner\.margin.*None"),
        ("tuner.hyperband=later", r"tuner\.hyperband must be true or false"),
        ("tuner.rungs=0.5", r"tuner\.rungs"),
        ("tuner.rungs=[a]", r"tuner\.rungs"),
        ("tuner.rungs=[0.5, 0.2]", r"tuner\.rungs must be shares .*\[0\.5, 0\.2\]"),
        ("tuner.memory=7", r"tuner\.memory must be a text"),
    ],
)
def test_arguments_are_checked_at_composition(name: str, override: str, message: str) -> None:
    config = compose(["recipe=moons", f"tuner={name}", override], CONFIG_DIR)
    with pytest.raises(ConfigError, match=message) as raised:
        check_components(config)
    assert "Traceback" not in str(raised.value)


def trials_of(scores: list[float | None], **of_all: Any) -> tuple[TrialResult, ...]:
    """Results with these scores; trial 0 has the settings in force."""
    widths = [16, 8, 24, 32, 40, 48, 56, 64]
    trials = [Trial({**IN_FORCE, "width": width}, **of_all) for width in widths]
    return tuple(
        result_of(k, trial, score, 0.02) for k, (trial, score) in enumerate(zip(trials, scores, strict=False))
    )


@pytest.mark.parametrize(
    ("scores", "margin", "chosen", "reason"),
    [
        ([0.8, 0.9, 0.85], 1.0, 1, "trial 1 of 3: 90.0% on dev, 10.0% more than the settings in force"),
        ([0.8, 0.815, 0.5], 1.0, 0, "tuning bought nothing: trial 1 of 3: 81.5% on dev, 1.5% more than"),
        ([0.8, 0.815, 0.5], 0.0, 1, "trial 1 of 3"),
        ([0.8, 0.7, 0.8], 0.0, 0, "tuning bought nothing: the settings in force are the best of 3 trials"),
        ([None, 0.3, 0.5], 1.0, 2, "trial 2 of 3: 50.0% on dev; the settings in force were not scored"),
        ([0.8, 0.81, 0.79], 1.0, 0, "the scores of 3 trials differ by no more than their noise"),
        ([0.8], 1.0, 0, "the settings in force are the best of 1 trial"),
    ],
)
def test_the_choice(scores: list[float | None], margin: float, chosen: int, reason: str) -> None:
    results = trials_of(scores)
    choice = Random(margin=margin).choose(view_of(results))
    assert choice.trial == chosen
    assert choice.settings == results[chosen].trial.settings
    assert reason in choice.reason
    assert (choice.start, choice.share) == ("fresh", 1.0)


def test_a_pruned_trial_is_not_chosen() -> None:
    results = trials_of([0.8, 0.5])
    trial = Trial({**IN_FORCE, "width": 24}, rungs=(Rung(0.5, 0.99),))
    pruned = TrialResult(2, trial, 0.98, rungs=(0.98,), pruned=True, share=0.5)
    assert Random().choose(view_of((*results, pruned))).trial == 0


@pytest.mark.parametrize(("fidelity", "share"), [(1.0, 0.0), (0.25, 0.75)])
def test_the_candidate_starts_from_the_trial(fidelity: float, share: float) -> None:
    results = trials_of([0.5, 0.9], fidelity=fidelity, keep_weights=True)
    choice = Random(start="trial").choose(view_of(results))
    assert (choice.start, choice.trial, choice.share) == ("trial", 1, share)
    assert Random().choose(view_of(results)).start == "fresh"


def test_only_the_best_trials_weights_are_a_start() -> None:
    """The core keeps no others: here the settings in force stay, and a trial is a little better."""
    choice = Random(start="trial").choose(view_of(trials_of([0.8, 0.81, 0.5], keep_weights=True)))
    assert (choice.start, choice.trial, choice.share) == ("fresh", 0, 1.0)


def test_without_its_weights_it_starts_as_configured() -> None:
    choice = Random(start="trial").choose(view_of(trials_of([0.5, 0.9])))
    assert (choice.start, choice.trial, choice.share) == ("fresh", 1, 1.0)


@all_tuners
def test_a_flat_landscape_ends_at_once(tuner: Make) -> None:
    for score in (lambda number, settings: 0.5, lambda number, settings: 0.5 + 0.001 * (number % 3)):
        results = run(partial(tuner, trials=100, startup=8), score, error=0.01)
        assert len(results) == 8
        choice = tuner().choose(view_of(results))
        assert choice.settings == IN_FORCE
        reason = "tuning bought nothing: the scores of 8 trials differ by no more than their noise"
        assert choice.reason == reason


@all_tuners
def test_a_steep_landscape_goes_on(tuner: Make) -> None:
    assert len(run(partial(tuner, trials=15, startup=4), error=0.001)) == 15


def test_a_cheaper_trial_may_promise_less() -> None:
    whole = run(partial(Random, trials=100, least_gain=0.004))
    short = run(partial(Random, trials=100, least_gain=0.004, fidelity=0.25))
    assert 8 <= len(whole) < len(short)


@all_tuners
def test_prior_studies_of_another_space_are_left_out(tuner: Make) -> None:
    other = [
        {"lr": "high", "width": 16, "optimizer": "adamw", "momentum": 0.5},
        {"lr": 0.1},
        {},
        {**IN_FORCE, "width": 1000},
        {**IN_FORCE, "optimizer": None},
    ]
    results = tuple(result_of(k, Trial(settings), 0.1 * k) for k, settings in enumerate(other))
    prior = (Study("a/b@1", 2, results), Study("generation 0", 1, ()))
    make = partial(tuner, trials=10, least_gain=0, prior_trials=5)
    assert settings_of(run(make, prior=prior)) == settings_of(run(make))


@all_tuners
def test_the_best_of_prior_studies_comes_first(tuner: Make) -> None:
    first = run(partial(Random, trials=20, least_gain=0), key=Key.root(3))
    best = max(first, key=lambda result: result.score or 0)
    results = run(partial(tuner, trials=6, least_gain=0, prior_trials=5), prior=(Study("1", 1, first),))
    assert results[1].trial.settings == best.trial.settings
    without = run(partial(tuner, trials=6, least_gain=0, prior_trials=0), prior=(Study("1", 1, first),))
    assert without[1].trial.settings != best.trial.settings


@all_tuners
def test_misleading_prior_studies_are_dropped(tuner: Make) -> None:
    inverted = run(
        partial(Random, trials=30, least_gain=0),
        lambda number, settings: 1 - peak(number, settings),
        key=Key.root(3),
    )
    prior = (Study("1", 1, inverted),)
    known = {SPACE.point(result.trial.settings) for result in inverted}
    results = run(
        partial(tuner, trials=20, least_gain=0, prior_trials=5), prior=prior, in_force={**IN_FORCE, "lr": 0.1}
    )
    from_prior = [SPACE.point(result.trial.settings) in known for result in results[1:]]
    assert from_prior[:3] == [True] * 3
    assert sum(from_prior) <= 5


def test_what_inverted_studies_say_is_not_followed() -> None:
    make = partial(Optuna, trials=20, least_gain=0)
    inverted = run(
        partial(Random, trials=30, least_gain=0),
        lambda number, settings: 1 - peak(number, settings),
        key=Key.root(3),
    )
    in_force = {**IN_FORCE, "lr": 0.1}
    cold = run(make, in_force=in_force)
    misled = run(make, prior=(Study("1", 1, inverted),), in_force=in_force)
    best = [max(result.score or 0 for result in results) for results in (cold, misled)]
    assert best[1] > best[0] - 0.02


def test_related_studies_lead_to_the_best_point_sooner() -> None:
    space = Space(tuple(Dimension(name, choices=tuple(range(12))) for name in "abcd"))
    in_force = dict.fromkeys("abcd", 0)

    def near(best: int) -> Callable[[int, dict[str, Any]], float]:
        return lambda number, settings: 1 - sum((settings[name] - best) ** 2 for name in "abcd") / 500

    make = partial(Optuna, trials=30, least_gain=0)
    first = run(make, near(8), space=space, in_force=in_force, key=Key.root(3))
    cold = run(make, near(9), space=space, in_force=in_force)
    prior = (Study("1", 1, first),)
    led = run(make, near(9), space=space, in_force=in_force, prior=prior)
    target = max(result.score or 0 for result in cold)
    assert next(k for k, result in enumerate(led) if (result.score or 0) >= target) <= 15
    assert max(result.score or 0 for result in led) == 1


def test_neighbours_are_one_step_away_new_and_feasible() -> None:
    space = Space(
        (
            Dimension("lr", low=0.0, high=1.0),
            Dimension("width", low=8, high=64, step=8),
            Dimension("optimizer", choices=("sgd", "adamw", "lion")),
            Dimension("momentum", low=0.0, high=0.9, when={"optimizer": ("sgd",)}),
        ),
        ("width <= 32",),
    )
    one = {"lr": 0.05, "width": 32, "optimizer": "adamw", "momentum": 0.5, "epochs": 3}
    seen = {space.point({**one, "optimizer": "lion"})}
    found = neighbours(space, [one], seen)
    assert [other["width"] for other in found if other["width"] != 32] == [24]
    assert [other["optimizer"] for other in found if other["optimizer"] != "adamw"] == ["sgd"]
    assert [other["lr"] for other in found if other["lr"] != 0.05] == pytest.approx([0.02, 0.08, 0.15])
    assert all(other["momentum"] == 0.5 and other["epochs"] == 3 for other in found)
    outside = {**one, "optimizer": None, "lr": 2.0}  # as settings in force may be
    assert neighbours(space, [outside], set()) == []
