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
    studies = [(1.0, _by_point(view, base, view.results))]
    studies += [(DISCOUNT**one.age, _by_point(view, base, one.results)) for one in view.prior if one.is_own]
    theirs = view.space.point(base.trial.settings)
    known = [(weight, trials) for weight, trials in studies if theirs in trials]
    return [_gain(view, base, result, known) for result in whole_of(view.results)]


Known = list[tuple[float, dict[Point, TrialResult]]]
"""The studies that scored the settings in force, this one first: the weight of each, and its trials."""


def _gain(view: TunerView, base: TrialResult, result: TrialResult, known: Known) -> Gain:
    if result is base:
        return Gain(result, 0.0, 0.0, 1)
    ours, theirs = (view.space.point(one.trial.settings) for one in (result, base))
    known = known if result.error is not None else []  # an exact score needs no older ones
    known = known if known and known[0][1].get(ours) is result else [(1.0, {ours: result, theirs: base})]
    pairs = [(weight, trials[ours], trials[theirs]) for weight, trials in known if ours in trials]
    total = sum(weight for weight, *_ in pairs)
    value = sum(weight * (score_of(one) - score_of(other)) for weight, one, other in pairs) / total
    errors = (weight * error_of_difference(one, other) for weight, one, other in pairs)
    return Gain(result, value, math.hypot(*errors) / total, len(pairs))


def _by_point(view: TunerView, base: TrialResult, results: Sequence[TrialResult]) -> dict[Point, TrialResult]:
    """The whole trials that may be compared, by their points, the first of a point.

    What is configured may lie out of range.
    """
    names = {dimension.name for dimension in view.space.dimensions}
    by_point: dict[Point, TrialResult] = {}
    for one in whole_of(results):
        if names <= one.trial.settings.keys() and _beside(one, names) == _beside(base, names):
            by_point.setdefault(view.space.point(one.trial.settings), one)
    return by_point


def _beside(result: TrialResult, names: Set[str]) -> tuple[object, ...]:
    """What a trial is, but for the settings of these names."""
    trial = result.trial
    others = {name: value for name, value in trial.settings.items() if name not in names}
    return others, trial.fidelity, trial.data_share, trial.start
