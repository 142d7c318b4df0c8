"""Optuna's samplers as a tuner: multivariate TPE with a constant liar, or a Gaussian process.

Optuna proposes points. What it does not know is done here: no point is tried twice, no point breaks a
constraint, earlier studies give the first proposals, and the search ends when it no longer pays. A sampler is
seeded anew for each trial, as Optuna keeps no state of its generator, so that a resumed run goes on alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from flywheel.errors import ConfigError, MissingExtra
from flywheel.protocols import TunerView
from flywheel.records import Settings, TrialResult
from flywheel.space import Point, Space
from flywheel.tuners.proposals import Proposals, quiet_optuna
from flywheel.tuners.search import Search, check, draw_new, neighbours
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

if TYPE_CHECKING:
    import numpy as np

SAMPLERS = ("tpe", "gp")
ASKED = 3
"""How often the sampler is asked for a point that is new and feasible, before one is drawn."""
EARLIER = 10
"""So many of the best points of earlier studies are candidates of each trial."""
HEARD = 100
"""After so many trials these say enough: earlier studies would only take time."""
AROUND = 2
"""With earlier studies, the neighbours of so many of the best trials are too."""
CLIMBS = 4
"""And so many times those of the best candidate."""


@dataclass(kw_only=True, eq=False)
class Optuna(Search):
    """Search with one of Optuna's samplers; extra ``optuna``.

    Args:
        sampler: ``tpe``: multivariate TPE; ``gp``: Optuna's Gaussian process, which takes far longer (and
            needs SciPy).
        candidates: Of so many proposals of TPE a trial is the one that a Gaussian process over the ranks of
            the scores, and of earlier studies', expects most of; 1: TPE alone.
        draws: So many trials are drawn from the space, less those from earlier studies that paid, before the
            sampler is asked.

    Others are those of ``Search``. Raises ConfigError for a wrong one, MissingExtra without Optuna.
    """

    sampler: str = "tpe"
    candidates: int = 8
    draws: int = 5
    prior_trials: int = 5
    _proposals: Proposals | None = field(default=None, init=False, repr=False)
    _rows: dict[Point, np.ndarray] = field(default_factory=dict, init=False, repr=False)
    _shape: tuple[tuple[TrialResult, ...], Shape] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sampler not in SAMPLERS:
            raise ConfigError(f"tuner.sampler must be tpe or gp, got {self.sampler}.")
        check("candidates", self.candidates, self.candidates >= 1, "1 or more")
        check("draws", self.draws, self.draws >= 1, "1 or more")
        if not find_spec("optuna"):
            raise MissingExtra("optuna", "optuna")

    def propose(self, view: TunerView, seen: frozenset[Point]) -> Settings | None:
        """The best of what the sampler proposes, or a random point where it proposes nothing new."""
        in_vain = self.prior(view).in_vain(view, self.prior_trials)
        if len(view.results) - in_vain < self.draws:
            return draw_new(view, seen)
        candidates = self._candidates(view, seen)
        if len(candidates) > 1:
            return self._most_promising(view, candidates, seen)
        return candidates[0] if candidates else draw_new(view, seen)

    def _candidates(self, view: TunerView, seen: frozenset[Point]) -> list[Settings]:
        """What the sampler proposes that is new and feasible."""
        wanted = self.candidates if self.sampler == "tpe" else 1
        with quiet_optuna():
            if self._proposals is None or not self._proposals.extends_to(view):
                self._proposals = Proposals(self.sampler, view)
            self._proposals.add(view.results)
            for k in range(ASKED):
                seed = view.key("sampler", k).seed
                if proposals := self._proposals.of(view, wanted, seed, partial(_is_new, view.space, seen)):
                    return proposals
        return []

    def _most_promising(
        self, view: TunerView, candidates: list[Settings], seen: frozenset[Point]
    ) -> Settings:
        """The candidate with the greatest expected improvement.

        Earlier studies know the good part of a space, and its best points are found step by step: with them
        candidates are climbed from. Without them that was no better on the tables of benchmarks/tuning.py.
        """
        import numpy as np

        own, space = self._process(view), view.space
        best = own.values if own.opinions is None else own.predict(own.points)[0]
        process = own.with_believed(features(space, [trial.settings for trial in view.pending]))

        def promise(settings: list[Settings]) -> np.ndarray:
            return expected_improvement(*process.predict(features(space, settings)), float(best.max()))

        if own.opinions is None:
            return candidates[int(np.argmax(promise(candidates)))]
        order = np.argsort(-worths(view.results), kind="stable")
        tops = [view.results[k].trial.settings for k in order[:AROUND]]
        more = [*candidates, *self.prior(view).best(EARLIER), *neighbours(space, tops, seen)]
        known = {space.point(one): one for one in more if space.point(one) not in seen}
        return _climbed(space, list(known.values()), seen, promise)

    def _process(self, view: TunerView) -> Process:
        """The Gaussian process of the results; its shape is fitted anew ever less often."""
        fitted = view.results[: _last_fit(len(view.results))]
        is_heard = len(fitted) < HEARD and bool(self.prior(view).studies)
        opinions = self.prior(view) if is_heard else None
        if self._shape is None or self._shape[0] != fitted:
            seen = self._observations(view.space, fitted)
            self._shape = (fitted, fit(*seen, groups(view.space), opinions))
        return Process.of(self._shape[1], *self._observations(view.space, view.results), opinions)

    def _observations(self, space: Space, results: tuple[TrialResult, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Points and normal ranks of the results, of many the most telling."""
        import numpy as np

        scores = worths(results)
        kept = most_telling(scores)
        settings = {space.point(one): one for one in (results[k].trial.settings for k in kept)}
        for point in settings.keys() - self._rows.keys():
            self._rows[point] = features(space, [settings[point]])
        rows = [self._rows[space.point(results[k].trial.settings)] for k in kept]
        return np.concatenate(rows), normal_ranks(scores[kept])


def _climbed(
    space: Space,
    candidates: list[Settings],
    seen: frozenset[Point],
    promise: Callable[[list[Settings]], np.ndarray],
) -> Settings:
    """The candidate that promises most, or a neighbour of it that promises more, and so on."""
    import numpy as np

    promises = promise(candidates)
    best, most = candidates[int(np.argmax(promises))], promises.max()
    for _ in range(CLIMBS):
        around = neighbours(space, [best], seen)
        promises = promise(around) if around else np.zeros(1)
        if promises.max() <= most:
            break
        best, most = around[int(np.argmax(promises))], promises.max()
    return best


def _is_new(space: Space, seen: frozenset[Point], settings: Settings) -> bool:
    return space.point(settings) not in seen and space.is_feasible(settings)


def _last_fit(count: int) -> int:
    """The number of results to which the shape was fitted last."""
    step = 1 if count <= 20 else 5 if count <= 100 else 50
    return count - count % step
