"""What is Optuna's own: samplers, conditions, importance, and what happens without it."""

from __future__ import annotations

import logging
import subprocess
import sys
from functools import partial
from typing import Any

import numpy as np
import pytest

from flywheel.config.components import check_components
from flywheel.config.compose import compose
from flywheel.errors import ConfigError, MissingExtra
from flywheel.records import Trial
from flywheel.space import Dimension, Space
from flywheel.testing import CONFIG_DIR
from flywheel.tuners import Optuna, Random
from flywheel.tuners.proposals import decode, distribution_of, encode, importance_of, levels
from flywheel.tuners.surrogate import Process, Shape, features, fit, groups, most_telling, normal_ranks
from tests.tuners.views import IN_FORCE, SPACE, peak, result_of, run, view_of


def test_it_comes_nearer_to_the_best_than_random_search() -> None:
    def best(make: Any, seed: int) -> float:
        from flywheel.keys import Key

        return max(r.score or 0 for r in run(partial(make, trials=30, least_gain=0), key=Key.root(seed)))

    gains = [best(Optuna, seed) - best(Random, seed) for seed in range(5)]
    assert np.mean(gains) > 0
    assert min(best(Optuna, seed) for seed in range(2)) > 0.89


def test_a_condition_is_kept_by_every_proposal() -> None:
    results = run(partial(Optuna, trials=30, least_gain=0))
    momenta = {r.trial.settings["optimizer"]: set[Any]() for r in results}
    for result in results:
        momenta[result.trial.settings["optimizer"]].add(result.trial.settings["momentum"])
    assert momenta["adamw"] == {IN_FORCE["momentum"]}
    assert len(momenta["sgd"]) > 5


def test_a_condition_on_a_condition() -> None:
    space = Space(
        (
            Dimension("a", choices=("x", "y")),
            Dimension("b", low=1, high=9, when={"a": ("x",)}),
            Dimension("c", low=0.0, high=1.0, when={"b": (7, 8, 9)}),
        )
    )
    assert [[d.name for d in level] for level in levels(space)] == [["a"], ["b"], ["c"]]
    in_force = {"a": "y", "b": 1, "c": 0.5}
    score = lambda number, settings: (settings["a"] == "x") * (settings["b"] + settings["c"]) / 10  # noqa: E731
    results = run(partial(Optuna, trials=40, least_gain=0), score, space=space, in_force=in_force)
    assert all(space.allows(r.trial.settings) for r in results)
    assert max(r.score or 0 for r in results) > 0.9


@pytest.mark.parametrize("space", [SPACE, Space(SPACE.dimensions[:2])], ids=["conditions", "plain"])
def test_the_gaussian_process_of_optuna(space: Space) -> None:
    in_force = {**IN_FORCE, "lr": 30.0}
    make = partial(Optuna, trials=7, least_gain=0, sampler="gp", draws=4)
    results = run(make, space=space, in_force=in_force, lag=2)
    assert len({space.point(r.trial.settings) for r in results}) == 7
    assert run(make, space=space, in_force=in_force, lag=2, fresh=True) == results


def test_an_unknown_sampler_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"tuner\.sampler must be tpe or gp, got cmaes"):
        Optuna(sampler="cmaes")


def test_pending_trials_keep_others_away() -> None:
    results = run(partial(Optuna, trials=12, least_gain=0))
    tuner, pending = Optuna(trials=99, least_gain=0), list[Trial]()
    for _ in range(6):
        trial = tuner.ask(view_of(results, tuple(pending)))
        assert trial is not None
        pending.append(trial)
    assert len({SPACE.point(trial.settings) for trial in pending}) == 6


def test_many_results_are_thinned_alike_in_a_new_process() -> None:
    results = run(partial(Random, trials=206, least_gain=0), most=206)
    used = Optuna(trials=999, least_gain=0)
    for count in range(195, 206):
        view = view_of(results[:count])
        assert used.ask(view) == Optuna(trials=999, least_gain=0).ask(view)


def test_optuna_keeps_its_verbosity(caplog: pytest.LogCaptureFixture) -> None:
    import optuna

    before = optuna.logging.get_verbosity()
    with caplog.at_level(logging.INFO):
        run(partial(Optuna, trials=8, least_gain=0))
    assert optuna.logging.get_verbosity() == before
    assert caplog.records == []


def test_without_optuna_it_says_what_to_install_at_composition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtra, match=r'pip install "flywheel\[optuna\]"'):
        check_components(compose(["recipe=moons", "tuner=optuna"], CONFIG_DIR))
    results = run(partial(Random, trials=12, least_gain=0))
    assert Random().choose(view_of(results)).importance == {}


def test_importing_the_tuners_imports_neither_optuna_nor_numpy() -> None:
    program = "import sys, flywheel.tuners; print({'optuna', 'numpy', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_importance() -> None:
    results = run(partial(Random, trials=60, least_gain=0), lambda number, settings: settings["width"] / 64)
    importance = importance_of(SPACE, results)
    assert sum(importance.values()) == pytest.approx(1)
    assert max(importance, key=lambda name: importance[name]) == "width"
    assert importance["width"] > 0.5
    assert Random().choose(view_of(results)).importance == importance
    assert importance_of(SPACE, results[:7]) == {}
    assert importance_of(SPACE, tuple(result_of(r.number, r.trial, 0.5) for r in results)) == {}


@pytest.mark.parametrize(
    "dimension",
    [
        Dimension("n", low=2, high=9, step=2),
        Dimension("n", low=1, high=1000, log=True),
        Dimension("n", low=0.0, high=1.0, step=0.1),
        Dimension("n", choices=(8, 16, 64)),
        Dimension("n", choices=(None, True, "a", 1)),
    ],
)
def test_values_survive_optuna(dimension: Dimension) -> None:
    distribution = distribution_of(dimension)
    values = dimension.values() or ()
    for value in values:
        param = encode(dimension, value)
        assert distribution._contains(distribution.to_internal_repr(param))
        assert decode(dimension, param) == value
    assert isinstance(distribution.to_internal_repr(encode(dimension, values[0])), int | float)


def test_ranks_are_normal_quantiles() -> None:
    ranks = normal_ranks(np.array([3.0, -np.inf, 5.0, -np.inf, 4.0]))
    assert ranks == pytest.approx([0.0, -0.841621, 1.281552, -0.841621, 0.524401], abs=1e-5)


def test_a_process_predicts_what_it_saw_and_is_unsure_elsewhere() -> None:
    points = np.linspace(0, 0.5, 12)[:, None]
    values = np.sin(6 * points[:, 0])
    process = Process.of(fit(points, values, np.zeros(1, int)), points, values)
    mean, deviation = process.predict(np.array([[0.27], [3.0]]))
    assert mean[0] == pytest.approx(np.sin(6 * 0.27), abs=0.1)
    assert deviation[0] < 0.3 < 0.9 < deviation[1]


class Slope:
    """The opinion that values grow with the first feature."""

    def of(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return points[:, 0], points[:, :1]


@pytest.mark.parametrize("slope", [1.0, 0.0, -1.0])
def test_observations_teach_whether_an_opinion_is_right(slope: float) -> None:
    points = np.random.default_rng(0).random((8, 3))
    values = slope * points[:, 0]
    far = np.array([[3.0, 9.0, 9.0]])  # the opinion alone says something of it
    untaught = Process.of(Shape(np.full(3, 0.4), 0.01, 0.1), points[:1], values[:1], Slope())
    taught = Process.of(Shape(np.full(3, 0.4), 0.01, 0.1), points, values, Slope())
    means, deviations = zip(*(process.predict(far) for process in (untaught, taught)), strict=True)
    assert abs(means[1][0] - 3 * slope) < 0.5
    assert abs(means[1][0] - 3 * slope) <= abs(means[0][0] - 3 * slope) + 0.05
    assert deviations[1][0] < deviations[0][0]


def test_without_opinions_the_mean_alone_is_the_same() -> None:
    rng = np.random.default_rng(0)
    points, values = rng.random((9, 2)), rng.normal(size=9)
    process = Process.of(Shape(np.array([0.4, 0.8]), 0.1), points, values)
    assert process.mean(points) == pytest.approx(process.predict(points)[0])


def test_features_of_settings_that_are_not_active_or_outside() -> None:
    settings = [IN_FORCE, {**IN_FORCE, "optimizer": "sgd", "lr": 50.0, "width": 64}]
    assert groups(SPACE).tolist() == [0, 1, 2, 2, 3]
    root = 0.5**0.5
    expected = [[0.5, 1 / 7, 0, root, 0.5], [0.5, 1, root, 0, 0.5 / 0.9]]
    assert features(SPACE, settings) == pytest.approx(np.array(expected))


def test_the_most_telling_are_the_best_and_the_last() -> None:
    scores = np.arange(300)[::-1].astype(float)
    kept = most_telling(scores)
    assert kept.tolist() == [*range(60), *range(260, 300)]
    assert most_telling(scores[:100]).tolist() == list(range(100))


def test_a_steep_function_is_climbed_whatever_the_lag() -> None:
    for lag in (1, 5):
        results = run(partial(Optuna, trials=40, least_gain=0), peak, lag=lag)
        assert max(result.score or 0 for result in results) > 0.88
