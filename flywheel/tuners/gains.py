"""By how much trials are ahead of the settings in force, by all that this run has seen of both.

A good point is tried again in one generation after the other, beside the settings in force. Each time its
gain may be within the noise of a small dev suite, and always on the same side: so the gains of all
generations that scored both count together, the older ones less. Their errors are taken as independent; what
they have in common, the items of dev, is not, so that this says which settings to take, not that they are
better: that is for the gate. Over many generations the error is too small by that.

Only trials that differ in nothing but the settings that are searched now are compared: neither in others, as
a genesis may have them, nor in fidelity, data or start.
"""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from dataclasses import dataclass

from flywheel.protocols import TunerView
from flywheel.records import TrialResult
from flywheel.space import Point
from flywheel.tuners.prior import DISCOUNT
from flywheel.tuners.worth import error_of_difference, score_of, whole_of

ByPoint = dict[Point, TrialResult]


@dataclass(frozen=True, slots=True)
class Gain:
    """How far a trial is ahead of the settings in force."""

    result: TrialResult
    """In this generation."""
    value: float
    """Of dev score, the mean over generations."""
    error: float
    """The standard error of that, as if the items of dev were others in each generation."""
    generations: int
    """How many have scored both."""


def gains(view: TunerView, base: TrialResult) -> list[Gain]:
    """Those of all whole trials of this generation; ``base``: that of the settings in force."""
    own = (study for study in view.prior if study.is_own)
    earlier = [(DISCOUNT**study.age, _by_point(view, base, study.results)) for study in own]
    return [_gain(view, base, result, earlier) for result in whole_of(view.results)]


def _gain(
    view: TunerView, base: TrialResult, result: TrialResult, earlier: Sequence[tuple[float, ByPoint]]
) -> Gain:
    """``earlier``: the weight of each study, and its trials."""
    if result is base:
        return Gain(result, 0.0, 0.0, 1)
    pairs = [(1.0, result, base)]
    if result.error is not None:  # an exact score needs no older ones
        ours, theirs = (view.space.point(one.trial.settings) for one in (result, base))
        scored_both = ((weight, trials) for weight, trials in earlier if {ours, theirs} <= trials.keys())
        pairs += [(weight, trials[ours], trials[theirs]) for weight, trials in scored_both]
    total = sum(weight for weight, *_ in pairs)
    value = sum(weight * (score_of(one) - score_of(other)) for weight, one, other in pairs) / total
    errors = (weight * error_of_difference(one, other) for weight, one, other in pairs)
    return Gain(result, value, math.hypot(*errors) / total, len(pairs))


def _by_point(view: TunerView, base: TrialResult, results: Sequence[TrialResult]) -> ByPoint:
    """The whole trials that may be compared, by their points, the first of a point.

    What is configured may lie out of range.
    """
    names = {dimension.name for dimension in view.space.dimensions}
    by_point: ByPoint = {}
    for one in whole_of(results):
        if names <= one.trial.settings.keys() and _beside(one, names) == _beside(base, names):
            by_point.setdefault(view.space.point(one.trial.settings), one)
    return by_point


def _beside(result: TrialResult, names: Set[str]) -> tuple[object, ...]:
    """What a trial is, but for the settings of these names."""
    trial = result.trial
    others = {name: value for name, value in trial.settings.items() if name not in names}
    return others, trial.fidelity, trial.data_share, trial.start
