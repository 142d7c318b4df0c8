"""Optuna's samplers as a tuner: multivariate TPE with a constant liar, or a Gaussian process.

Optuna proposes points. What it does not know is done here: no point is tried twice, no point breaks a
constraint, earlier studies give the first proposals, and the search ends when it no longer pays. A sampler is
seeded anew for each trial, as Optuna keeps no state of its generator, so that a resumed run goes on alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flywheel.errors import ConfigError, MissingExtra
from flywheel.protocols import TunerView
from flywheel.records import Scalar, Settings, Trial, TrialResult
from flywheel.space import Dimension, Point, Space
from flywheel.tuners.search import Search, check, draw_new
from flywheel.tuners.surrogate import (
    Process,
    Shape,
    expected_improvement,
    features,
    fit,
    groups,
    most_telling,
    normal_ranks,
    worths,
)
from flywheel.tuners.worth import is_scored

if TYPE_CHECKING:
    import numpy as np
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

SAMPLERS = ("tpe", "gp")
ASKED = 20
"""How often the sampler is asked for a point that is new and feasible, before one is drawn."""
EARLIER = 10
"""So many of the best points of earlier studies are candidates of each trial."""


class Optuna(Search):
    """Search with one of Optuna's samplers; extra ``optuna``.

    Args:
        sampler: ``tpe``: multivariate TPE; ``gp``: Optuna's Gaussian process, which takes far longer (and
            needs SciPy).
        candidates: Of so many proposals of TPE a trial is the one that a Gaussian process over the ranks of
            the scores, and of earlier studies', expects most of; 1: TPE alone.
        draws: So many trials are drawn from the space, less those from earlier studies, before the sampler is
            asked.
        prior_trials: See ``Search``.
        arguments: Those of ``Search``.
    """

    def __init__(
        self,
        *,
        sampler: str = "tpe",
        candidates: int = 8,
        draws: int = 5,
        prior_trials: int = 5,
        **arguments: Any,
    ) -> None:
        super().__init__(prior_trials=prior_trials, **arguments)
        if sampler not in SAMPLERS:
            raise ConfigError(f"tuner.sampler must be tpe or gp, got {sampler}.")
        check("candidates", candidates, candidates >= 1, "1 or more")
        check("draws", draws, draws >= 1, "1 or more")
        self.sampler, self.candidates, self.draws = sampler, candidates, draws
        self._known: Known | None = None
        self._shape: tuple[tuple[TrialResult, ...], Shape] | None = None

    def propose(self, view: TunerView, seen: frozenset[Point]) -> Settings | None:
        """The best of what the sampler proposes, or a random point where it proposes nothing new."""
        if len(view.results) < self.draws:
            return draw_new(view, seen)
        candidates = self._candidates(view, seen)
        if len(candidates) > 1:
            return self._most_promising(view, candidates, seen)
        return candidates[0] if candidates else draw_new(view, seen)

    def _candidates(self, view: TunerView, seen: frozenset[Point]) -> list[Settings]:
        """What the sampler proposes that is new and feasible."""
        wanted = self.candidates if self.sampler == "tpe" else 1
        new: dict[Point, Settings] = {}
        with quiet_optuna():
            if self._known is None or not self._known.extends_to(view):
                self._known = Known(view)
            self._known.add(view.results)
            for k, settings in enumerate(self._known.proposals(self._sampler(view), view)):
                point = view.space.point(settings)
                if point not in seen and view.space.is_feasible(settings):
                    new[point] = settings
                if k + 1 >= wanted and new:
                    break
        return list(new.values())

    def _most_promising(
        self, view: TunerView, candidates: list[Settings], seen: frozenset[Point]
    ) -> Settings:
        """The candidate with the greatest expected improvement."""
        import numpy as np

        own, prior = self._process(view), self.prior(view)
        votes = prior.votes(own, view.key("votes").numpy()) if self.prior_trials else None
        if votes is not None and votes[0] < 1:
            earlier = [one for one in prior.best(EARLIER) if view.space.point(one) not in seen]
            candidates = candidates + [one for one in earlier if one not in candidates]
        points, tried = features(view.space, candidates), own.points
        own = own.with_believed(features(view.space, [trial.settings for trial in view.pending]))
        if votes is not None and votes[0] < 1:
            best = prior.predict(tried, own, votes)[0].max()
            mean, deviation = prior.predict(points, own, votes)
        else:
            best, (mean, deviation) = own.values.max(), own.predict(points)
        return candidates[int(np.argmax(expected_improvement(mean, deviation, float(best))))]

    def _process(self, view: TunerView) -> Process:
        """The Gaussian process of the results; its shape is fitted anew ever less often."""
        fitted = view.results[: _last_fit(len(view.results))]
        if self._shape is None or self._shape[0] != fitted:
            self._shape = (fitted, fit(*observations(view.space, fitted), groups(view.space)))
        return Process.of(self._shape[1], *observations(view.space, view.results))

    def _sampler(self, view: TunerView) -> BaseSampler:
        from optuna.samplers import GPSampler, TPESampler

        seed = view.key("sampler").seed % 2**32
        if self.sampler == "gp":
            return GPSampler(seed=seed, n_startup_trials=0)
        return TPESampler(seed=seed, n_startup_trials=0, constant_liar=True)

    def importance(self, view: TunerView) -> Mapping[str, float]:
        """PED-ANOVA of the whole trials."""
        return importance_of(view.space, view.results)


def observations(space: Space, results: tuple[TrialResult, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Points and normal ranks of the results, of many the most telling."""
    scores = worths(results)
    kept = most_telling(scores)
    return features(space, [results[k].trial.settings for k in kept]), normal_ranks(scores[kept])


def _last_fit(count: int) -> int:
    """The number of results to which the shape was fitted last."""
    step = 1 if count <= 20 else 5 if count <= 100 else 50
    return count - count % step


class Known:
    """An Optuna study of the results of one generation.

    Its trial 0 is the one that is asked for: it is under way for ever, and samplers leave it out.
    """

    def __init__(self, view: TunerView) -> None:
        from optuna import create_study
        from optuna.trial import TrialState, create_trial

        self.space, self.study = view.space, create_study(direction="maximize")
        self.distributions = {d.name: distribution_of(d) for d in view.space.dimensions}
        self.study.add_trial(create_trial(state=TrialState.RUNNING))
        self._results: tuple[TrialResult, ...] = ()

    def extends_to(self, view: TunerView) -> bool:
        """Whether the view has these results, and maybe more."""
        return view.space == self.space and view.results[: len(self._results)] == self._results

    def add(self, results: tuple[TrialResult, ...]) -> None:
        """Add those of the results that are new."""
        for result in results[len(self._results) :]:
            self.study.add_trial(self._finished(result))
        self._results = results

    def proposals(self, sampler: BaseSampler, view: TunerView) -> Iterator[Settings]:
        """What the sampler proposes with these results, and with the pending trials as poor ones."""
        from optuna.trial import TrialState

        first = len(self.study.get_trials(deepcopy=False))
        for trial in view.pending:
            self.study.add_trial(self._running(trial))
        try:
            for _ in range(ASKED):
                yield self._sample(sampler, view.settings)
        finally:
            for number in range(first, first + len(view.pending)):
                self.study.tell(number, state=TrialState.FAIL)  # samplers leave these out

    def _sample(self, sampler: BaseSampler, settings: Settings) -> Settings:
        """Settings by the sampler: what no condition names first, then what is active with it, and so on."""
        current = self.study.get_trials(deepcopy=False)[0]
        values: dict[str, Scalar] = {}
        for level in levels(self.space):
            active = {d.name for d in self.space.active({**settings, **values})}
            searched = {d.name: self.distributions[d.name] for d in level if d.name in active}
            sampled = sampler.sample_relative(self.study, current, searched) if searched else {}
            for dimension in level:
                if dimension.name in active:
                    distribution = self.distributions[dimension.name]
                    if dimension.name not in sampled:
                        sampled[dimension.name] = sampler.sample_independent(
                            self.study, current, dimension.name, distribution
                        )
                    values[dimension.name] = decode(dimension, sampled[dimension.name])
        return self.space.complete(values, settings)

    def _running(self, trial: Trial) -> FrozenTrial:
        from optuna.trial import TrialState, create_trial

        params, distributions = self._params(trial.settings)
        return create_trial(state=TrialState.RUNNING, params=params, distributions=distributions)

    def _finished(self, result: TrialResult) -> FrozenTrial:
        """A pruned trial has its scores at rungs; one that failed has none, and counts as the worst."""
        from optuna.trial import TrialState, create_trial

        params, distributions = self._params(result.trial.settings)
        if is_scored(result):
            return create_trial(value=result.score, params=params, distributions=distributions)
        rungs = {k: score for k, score in enumerate(result.rungs) if result.pruned}
        return create_trial(
            state=TrialState.PRUNED, params=params, distributions=distributions, intermediate_values=rungs
        )

    def _params(self, settings: Settings) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
        """The active dimensions as Optuna sees them, without those whose values lie outside the space."""
        inside = [d for d in self.space.active(settings) if d.allows(settings[d.name])]
        params = {d.name: encode(d, settings[d.name]) for d in inside}
        return params, {d.name: self.distributions[d.name] for d in inside}


def levels(space: Space) -> list[list[Dimension]]:
    """The dimensions by how far up their conditions go: none; those of the first level; and so on."""
    depth: dict[str, int] = {}
    for dimension in space.dimensions:
        depth[dimension.name] = max((depth[name] + 1 for name in dimension.when if name in depth), default=0)
    return [
        [d for d in space.dimensions if depth[d.name] == level]
        for level in range(max(depth.values(), default=-1) + 1)
    ]


def distribution_of(dimension: Dimension) -> BaseDistribution:
    """What Optuna draws: a number of a value, for choices and steps; the value itself of other ranges.

    Choices that are numbers in order have near ones and far ones, so that they are no categories.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if (count := dimension.count) is not None and not is_log_range(dimension):
        if dimension.is_ordered:
            return IntDistribution(0, count - 1)
        return CategoricalDistribution(tuple(range(count)))
    assert dimension.low is not None
    assert dimension.high is not None
    return FloatDistribution(float(dimension.low), float(dimension.high), log=dimension.log)


def is_log_range(dimension: Dimension) -> bool:
    """Whether it is a range in which ratios count, not differences."""
    return dimension.log and not dimension.choices


def encode(dimension: Dimension, value: Scalar) -> Any:
    """The value as Optuna sees it."""
    if dimension.count is not None and not is_log_range(dimension):
        return dimension.position(value)
    return float(value)  # type: ignore[arg-type]


def decode(dimension: Dimension, param: Any) -> Scalar:
    """The value that Optuna means."""
    if dimension.count is not None and not is_log_range(dimension):
        return dimension.value(int(param))
    return dimension.nearest(float(param))


IMPORTANT = 8
"""The fewest whole trials of which importance is said."""


def importance_of(space: Space, results: tuple[TrialResult, ...]) -> dict[str, float]:
    """Setting -> its share of what made scores differ (PED-ANOVA, Watanabe et al., IJCAI 2023).

    Empty where there are fewer than 8 whole trials, where all have the same score, or without Optuna.
    """
    return {}


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Import Optuna, and keep it from telling of each study; its verbosity is as it was afterwards.

    Raises MissingExtra if it is not installed.
    """
    try:
        from optuna import logging
    except ImportError as error:
        raise MissingExtra("optuna", "optuna") from error

    verbosity = logging.get_verbosity()
    logging.set_verbosity(max(verbosity, logging.WARNING))
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
