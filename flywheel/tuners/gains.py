"""By how much trials are ahead of the settings in force, by all that this run has seen of both.

A good point is tried again in one generation after the other, beside the settings in force. Each time its
gain may be within the noise of a small dev suite, and always on the same side: so the gains of all
generations that scored both count together, the older ones less. Their errors are taken as independent; what
they have in common, the items of dev, is not, so that this says which settings to take, not that they are
better: that is for the gate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from flywheel.protocols import TunerView
from flywheel.records import TrialResult
from flywheel.space import Point
from flywheel.tuners.prior import DISCOUNT
from flywheel.tuners.worth import error_of_difference, score_of, whole_of


@dataclass(frozen=True, slots=True)
class Gain:
    """How far a trial is ahead of the settings in force."""

    result: TrialResult
    """In this generation."""
    value: float
    """Of dev score, the mean over generations."""
    error: float
    """The standard error of that."""
    generations: int
    """How many have scored both."""


def gains(view: TunerView, base: TrialResult) -> list[Gain]:
    """Those of all whole trials of this generation; ``base``: that of the settings in force."""
    studies = [(1.0, _by_point(view, view.results))]
    studies += [(DISCOUNT**one.age, _by_point(view, one.results)) for one in view.prior if one.is_own]
    known = [(weight, trials) for weight, trials in studies if view.space.point(view.settings) in trials]
    return [_gain(view, base, result, known) for result in whole_of(view.results)]


Known = list[tuple[float, dict[Point, TrialResult]]]
"""The studies that scored the settings in force, this one first: the weight of each, and its trials."""


def _gain(view: TunerView, base: TrialResult, result: TrialResult, known: Known) -> Gain:
    if result is base:
        return Gain(result, 0.0, 0.0, 1)
    ours, theirs = (view.space.point(one.trial.settings) for one in (result, base))
    noisy = known if result.error is not None else known[:1]  # an exact score needs no older ones
    pairs = [(weight, trials[ours], trials[theirs]) for weight, trials in noisy if ours in trials]
    total = sum(weight for weight, *_ in pairs)
    value = sum(weight * (score_of(one) - score_of(other)) for weight, one, other in pairs) / total
    errors = (weight * error_of_difference(one, other) for weight, one, other in pairs)
    return Gain(result, value, math.hypot(*errors) / total, len(pairs))


def _by_point(view: TunerView, results: tuple[TrialResult, ...]) -> dict[Point, TrialResult]:
    """The whole trials by their points, the first of a point; what is configured may lie out of range."""
    names = {dimension.name for dimension in view.space.dimensions}
    by_point: dict[Point, TrialResult] = {}
    for one in whole_of(results):
        if names <= one.trial.settings.keys():
            by_point.setdefault(view.space.point(one.trial.settings), one)
    return by_point
