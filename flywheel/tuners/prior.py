"""What earlier studies say of a new one.

Each earlier study becomes a Gaussian process over ranks (see ``surrogate``). Their best points, those first
that the studies together expect most of, are the first trials of the new study, for as long as one of the
last few was a gain. Afterwards the mean of the new study's own process is what the studies expect, each times
a weight that the trials teach (see ``Opinions``; a prior mean for transfer is as in Golovin et al., "Google
Vizier", KDD 2017, whose mean is fixed): a study that says nothing comes to weight 0 within a few trials, and
an inverted one below that, so that it tells where not to look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flywheel.protocols import TunerView
from flywheel.records import Settings, Study, TrialResult
from flywheel.space import Point, Space
from flywheel.tuners.surrogate import (
    Process,
    features,
    fit,
    groups,
    most_telling,
    normal_ranks,
    worths,
)

if TYPE_CHECKING:
    import numpy as np

STUDIES = 8
"""At most so many studies are looked at, the youngest."""
DISCOUNT = 0.8
"""A study's weight, for each study that was made since."""
FEWEST = 4
"""A study of fewer trials says nothing."""
BEST = 10
"""Of each study, so many points are candidates."""
PATIENCE = 3
"""So many trials from earlier studies in a row without a gain end them."""
TRUST = 0.5
"""The weight of what all studies together expect, before any trial."""
DOUBT = 1.0
"""The standard deviation of that weight."""
DIFFERENCE = 0.5
"""That of a single study's weight; by its share of all, studies being independent."""
LEVEL = 1.0
"""The standard deviation of what is expected everywhere: ranks are among ever better trials."""


@dataclass(frozen=True, eq=False)
class PriorStudy:
    """An earlier study."""

    weight: float
    """In (0, 1], by its age."""
    process: Process
    best: tuple[Settings, ...]
    """Its best points that are feasible here, the best first, within the settings in force."""


class Prior:
    """The earlier studies of a view."""

    def __init__(self, view: TunerView) -> None:
        youngest = sorted(view.prior, key=lambda study: study.age)[:STUDIES]
        studies = (_study(study, view) for study in youngest)
        self.studies = [study for study in studies if study is not None]
        self._portfolio = self._greedy(view.space)

    def next(self, view: TunerView, seen: frozenset[Point], limit: int) -> Settings | None:
        """The next of the first trials; None: there are no more, or they do not pay."""
        if self.in_vain(view, limit):
            return None
        left = (one for one in self._portfolio[:limit] if view.space.point(one) not in seen)
        return next(left, None)

    def in_vain(self, view: TunerView, limit: int) -> int:
        """The number of first trials, if the last few of them were no gain: then earlier studies mislead."""
        known = {view.space.point(settings) for settings in self._portfolio[:limit]}
        tried = [k for k, one in enumerate(view.results) if view.space.point(one.trial.settings) in known]
        is_gain = any(_is_gain(view.results, k) for k in tried[-PATIENCE:])
        return 0 if is_gain or len(tried) < PATIENCE else len(tried)

    def _greedy(self, space: Space) -> list[Settings]:
        """Candidates, each the one that adds most to what is best in each study with those before it."""
        import numpy as np

        candidates = list({space.point(one): one for study in self.studies for one in study.best}.values())
        if not candidates:
            return []
        points = features(space, candidates)
        expected = np.array([study.process.mean(points) for study in self.studies])
        weights = np.array([study.weight for study in self.studies])
        chosen: list[int] = []
        reached = np.full(len(self.studies), expected.min())
        for _ in range(len(candidates)):
            gains = weights @ np.maximum(expected, reached[:, None])
            gains += 1e-3 * weights @ expected  # where nothing more is gained: what is good everywhere
            gains[chosen] = -np.inf
            chosen.append(int(np.argmax(gains)))
            reached = np.maximum(reached, expected[:, chosen[-1]])
        return [candidates[k] for k in chosen]

    def best(self, count: int) -> list[Settings]:
        """The first so many of what the studies expect most of."""
        return self._portfolio[:count]

    def of(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See ``Opinions``; the functions are 1, what the studies expect together, what each of them does."""
        import numpy as np

        weights = np.array([study.weight for study in self.studies])
        shares = weights / weights.sum()
        each = np.column_stack([study.process.mean(points) for study in self.studies])
        together = each @ shares
        level = np.full(len(points), LEVEL)
        functions = np.column_stack([level, DOUBT * together, DIFFERENCE * each * np.sqrt(shares)])
        return TRUST * together, functions


def _study(study: Study, view: TunerView) -> PriorStudy | None:
    """An earlier study in this space; None: it has too few trials that lie in it."""
    import numpy as np

    space = view.space
    results = [result for result in study.results if _is_inside(space, result.trial.settings)]
    scores = worths(results)
    kept = most_telling(scores)
    results, scores = [results[k] for k in kept], scores[kept]
    if len(set(scores.tolist())) < min(FEWEST, 2) or len(results) < FEWEST:
        return None
    points, values = features(space, [result.trial.settings for result in results]), normal_ranks(scores)
    process = Process.of(fit(points, values, groups(space)), points, values)
    whole = [int(k) for k in np.argsort(-scores, kind="stable") if np.isfinite(scores[k])]
    best = (space.complete(results[k].trial.settings, view.settings) for k in whole[:BEST])
    feasible = tuple(one for one in best if space.is_feasible(one))
    return PriorStudy(DISCOUNT ** max(0, study.age - 1), process, feasible)


def _is_inside(space: Space, settings: Settings) -> bool:
    if any(dimension.name not in settings for dimension in space.dimensions):
        return False
    return all(dimension.allows(settings[dimension.name]) for dimension in space.active(settings))


def _is_gain(results: Sequence[TrialResult], number: int) -> bool:
    """Whether a trial is better than all before it."""
    scores = worths(results[: number + 1])
    return number == 0 or float(scores[-1]) > float(scores[:-1].max())
