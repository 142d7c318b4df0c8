"""Optuna's side of the tuner ``Optuna``: its study of the trials, what a sampler proposes, importance.

Values are given to Optuna as it can use them: choices and steps by their number, other ranges as they are.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flywheel.errors import MissingExtra
from flywheel.protocols import TunerView
from flywheel.records import Scalar, Settings, Trial, TrialResult
from flywheel.space import Dimension, Space
from flywheel.tuners.surrogate import most_telling, worths
from flywheel.tuners.worth import is_scored, whole_of

if TYPE_CHECKING:
    import numpy as np
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler, TPESampler
    from optuna.trial import FrozenTrial

DRAWS = 24
"""TPE draws at least so many points: Optuna's default."""
LOT = 8
"""So many of them for each proposal: 24 were no better on the tables of benchmarks/tuning.py, and slower."""
REBUILT = 100
"""Of more results than this, those before the last multiple of it are thinned to the most telling."""
IMPORTANT = 8
"""The fewest whole trials of which importance is said."""


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Keep Optuna from telling of each study; its verbosity is as it was afterwards.

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


class Proposals:
    """What a sampler proposes after the results of a view: ``tpe`` or ``gp``.

    The study's trial 0 is the one that is asked for: it is under way for ever, and samplers leave it out.
    """

    def __init__(self, kind: str, view: TunerView) -> None:
        from optuna import create_study
        from optuna.trial import TrialState, create_trial

        self.kind, self.space, self.study = kind, view.space, create_study(direction="maximize")
        self.distributions = {d.name: distribution_of(d) for d in view.space.dimensions}
        self.levels = levels(view.space)
        self.study.add_trial(create_trial(state=TrialState.RUNNING))
        self.thinned, self.results = _thinned(len(view.results)), view.results[: _thinned(len(view.results))]
        for k in most_telling(worths(self.results)):
            self._add(self.results[k])

    def extends_to(self, view: TunerView) -> bool:
        """Whether the view has the same results, and maybe more, but not so many that they are thinned."""
        if self.kind == "gp":  # it takes what it proposed last for trial 0 to be under way
            return False
        is_same = view.space == self.space and view.results[: len(self.results)] == self.results
        return is_same and self.thinned == _thinned(len(view.results))

    def add(self, results: tuple[TrialResult, ...]) -> None:
        """Add those of the results that are new."""
        for result in results[len(self.results) :]:
            self._add(result)
        self.results = results

    def _add(self, result: TrialResult) -> None:
        if (trial := self._finished(result)) is not None:
            self.study.add_trial(trial)

    def of(
        self, view: TunerView, count: int, seed: int, is_new: Callable[[Settings], bool]
    ) -> list[Settings]:
        """Up to ``count`` settings that are new, by a function that says so.

        Pending trials count as poor ones (a constant liar), so that others are proposed.
        """
        from optuna.trial import TrialState

        first = len(self.study.get_trials(deepcopy=False))
        for trial in view.pending:
            if (running := self._trial(trial, state=TrialState.RUNNING)) is not None:
                self.study.add_trial(running)
        last = len(self.study.get_trials(deepcopy=False))
        try:
            proposals = self._sample(view.settings, count, seed, is_new)
            return list({view.space.point(one): one for one in proposals if is_new(one)}.values())
        finally:
            for number in range(first, last):
                self.study.tell(number, state=TrialState.FAIL)  # samplers leave these out

    def _sample(
        self, settings: Settings, count: int, seed: int, is_new: Callable[[Settings], bool]
    ) -> list[Settings]:
        """The dimensions without condition first, then for each proposal those that are active with it."""
        together = sampler_of(self.kind, seed, count)

        def is_new_point(values: dict[str, Scalar]) -> bool:
            return len(self.levels) > 1 or is_new({**settings, **values})

        proposals = self._draw(together, self.levels[0], count, is_new_point)
        alone = sampler_of(self.kind, seed + 1, 1)
        for level in self.levels[1:]:
            for values in proposals:
                active = {d.name for d in self.space.active({**settings, **values})}
                if dimensions := [d for d in level if d.name in active]:
                    values.update(self._draw(alone, dimensions, 1)[0])
        return [self.space.complete(values, settings) for values in proposals]

    def _draw(
        self,
        sampler: BaseSampler,
        dimensions: list[Dimension],
        count: int,
        is_new: Callable[[dict[str, Scalar]], bool] = lambda values: True,
    ) -> list[dict[str, Scalar]]:
        """Values of these dimensions, drawn together; of a Gaussian process each alone under a condition.

        TPE draws from the good trials, and proposes the one of its draws that is likeliest among these
        against the others. Several proposals are the likeliest new ones of several lots of draws.
        """
        current = self.study.get_trials(deepcopy=False)[0]
        distributions = {d.name: self.distributions[d.name] for d in dimensions}
        searched = {name: one for name, one in distributions.items() if not one.single()}
        if not searched or (self.kind == "gp" and dimensions[0].when):
            return [self._completed(sampler, dimensions, {})]
        proposed = sampler.sample_relative(self.study, current, searched)
        drawn = getattr(sampler, "drawn", None)
        if drawn is None:
            return [self._completed(sampler, dimensions, proposed)]
        return self._best_of_lots(sampler, dimensions, drawn, count, is_new)

    def _best_of_lots(
        self,
        sampler: BaseSampler,
        dimensions: list[Dimension],
        drawn: tuple[dict[str, np.ndarray], np.ndarray],
        count: int,
        is_new: Callable[[dict[str, Scalar]], bool],
    ) -> list[dict[str, Scalar]]:
        import numpy as np

        samples, likelihoods = drawn
        best = []
        for lot in np.array_split(np.arange(len(likelihoods)), count):
            for k in lot[np.argsort(-likelihoods[lot], kind="stable")]:
                params = {n: self.distributions[n].to_external_repr(s[k].item()) for n, s in samples.items()}
                values = self._completed(sampler, dimensions, params)
                if is_new(values):
                    best.append(values)
                    break
        return best

    def _completed(
        self, sampler: BaseSampler, dimensions: list[Dimension], params: dict[str, Any]
    ) -> dict[str, Scalar]:
        """Values of the dimensions: what was not drawn together is drawn alone."""
        current = self.study.get_trials(deepcopy=False)[0]
        for name in (d.name for d in dimensions if d.name not in params):
            distribution = self.distributions[name]
            params[name] = sampler.sample_independent(self.study, current, name, distribution)
        return {d.name: decode(d, params[d.name]) for d in dimensions}

    def _finished(self, result: TrialResult) -> FrozenTrial | None:
        """A pruned trial has its scores at rungs; one that failed has none, and counts as the worst."""
        from optuna.trial import TrialState

        if is_scored(result):
            return self._trial(result.trial, state=TrialState.COMPLETE, value=result.score)
        rungs = {k: score for k, score in enumerate(result.rungs) if result.pruned}
        return self._trial(result.trial, state=TrialState.PRUNED, intermediate_values=rungs)

    def _trial(self, trial: Trial, **facts: Any) -> FrozenTrial | None:
        """A trial with the active dimensions as Optuna sees them, without values outside the space.

        A Gaussian process takes only those with all dimensions that have no condition.
        """
        from optuna.trial import create_trial

        settings = trial.settings
        inside = [d for d in self.space.active(settings) if d.allows(settings[d.name])]
        if self.kind == "gp" and not {d.name for d in self.levels[0]} <= {d.name for d in inside}:
            return None
        params = {d.name: encode(d, settings[d.name]) for d in inside}
        distributions = {d.name: self.distributions[d.name] for d in inside}
        return create_trial(params=params, distributions=distributions, **facts)


def _thinned(count: int) -> int:
    return count - count % REBUILT if count > REBUILT else 0


def sampler_of(kind: str, seed: int, count: int) -> BaseSampler:
    """A new sampler with this seed, which draws enough for ``count`` proposals."""
    from optuna.samplers import GPSampler

    if kind == "gp":
        return GPSampler(seed=seed % 2**32, n_startup_trials=0)
    draws = max(DRAWS, LOT * count)
    return keeping_tpe()(seed=seed % 2**32, n_startup_trials=0, n_ei_candidates=draws)


@functools.cache
def keeping_tpe() -> type[TPESampler]:
    """Optuna's TPE, which keeps what it drew, and the logarithm of how likely each draw is to be good."""
    from optuna.samplers import TPESampler

    class KeepingTPE(TPESampler):
        """See above."""

        drawn: tuple[Any, Any] | None = None

        def _compute_acquisition_func(self, samples: Any, *estimators: Any) -> Any:
            values = super()._compute_acquisition_func(samples, *estimators)
            self.drawn = samples, values
            return values

    return KeepingTPE


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
    """What Optuna draws. Choices that are numbers in order are no categories: some are near."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if is_numbered(dimension):
        count = dimension.count or 1
        return (
            IntDistribution(0, count - 1) if dimension.is_ordered else CategoricalDistribution(range(count))
        )
    assert dimension.low is not None
    assert dimension.high is not None
    return FloatDistribution(float(dimension.low), float(dimension.high), log=dimension.log)


def is_numbered(dimension: Dimension) -> bool:
    """Whether Optuna sees the number of a value: not where any value may be, nor where ratios count."""
    return dimension.count is not None and (bool(dimension.choices) or not dimension.log)


def encode(dimension: Dimension, value: Scalar) -> Any:
    """The value as Optuna sees it."""
    return dimension.position(value) if is_numbered(dimension) else float(value)  # type: ignore[arg-type]


def decode(dimension: Dimension, param: Any) -> Scalar:
    """The value that Optuna means."""
    return dimension.value(int(param)) if is_numbered(dimension) else dimension.nearest(float(param))


def importance_of(space: Space, results: tuple[TrialResult, ...]) -> dict[str, float]:
    """Setting -> its share of what made scores differ (PED-ANOVA, Watanabe et al., IJCAI 2023).

    Of the best quarter against all. Empty where there are fewer than 8 whole trials, where all have the same
    score, or without Optuna.
    """
    whole = whole_of(results)
    if len(whole) < IMPORTANT or len({result.score for result in whole}) == 1:
        return {}
    try:
        with quiet_optuna():
            return _importance(space, whole)
    except MissingExtra:
        return {}


def _importance(space: Space, whole: list[TrialResult]) -> dict[str, float]:
    from optuna import create_study
    from optuna.importance import PedAnovaImportanceEvaluator
    from optuna.trial import create_trial

    study = create_study(direction="maximize")
    distributions = {d.name: distribution_of(d) for d in space.dimensions}
    for result in whole:
        settings = result.trial.settings
        inside = [d for d in space.active(settings) if d.allows(settings[d.name])]
        params = {d.name: encode(d, settings[d.name]) for d in inside}
        kinds = {d.name: distributions[d.name] for d in inside}
        study.add_trial(create_trial(value=result.score, params=params, distributions=kinds))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = PedAnovaImportanceEvaluator(target_quantile=0.25).evaluate(study)
    total = sum(found.values())
    if not total > 0 or not math.isfinite(total):
        return {}
    return {d.name: found[d.name] / total for d in space.dimensions if d.name in found}
