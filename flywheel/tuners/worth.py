"""Whether another trial is worth its price, and which trial is worth a change.

A trial's gain is what it is expected to add to the best score. Where scores have an exponential tail above
some level, as nearly all do far enough up, the best of n + 1 draws is on average scale / (n + 1) above the
best of n (Renyi's representation of order statistics), and the scale is the mean excess over that level. A
tuner that learns draws better than it did before, and its recent trials raise the level with it: then their
excess shrinks as they crowd around the best, and the search ends. Its price is the share of a whole fit's
steps that it is going to do.

(Optuna's terminator bounds regret with a Gaussian process and wants 20 trials first; a study here may be
shorter than that, so that it would never speak.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from flywheel.protocols import TunerView
from flywheel.records import TrialResult

BEST = 0.25
"""The share of trials by which the tail of the scores is judged."""
FEWEST = 5
"""At least so many trials are."""


@dataclass(frozen=True)
class Worth:
    """What another trial promises."""

    gain: float
    """Of dev score, expected."""
    price: float
    """Share of a whole fit's steps."""
    is_flat: bool
    """Whether the scores differ by no more than their noise."""


def worth_of_next(results: Sequence[TrialResult], pending: int, fidelity: float) -> Worth:
    """The worth of a trial after these results and so many pending ones; infinite while nothing is scored."""
    whole = whole_of(results)
    shares = [result.share for result in results if result.share > 0]
    price = sum(shares) / len(shares) if shares else fidelity
    if len(whole) < 2:
        return Worth(math.inf, price, False)
    scores = sorted((score_of(result) for result in whole), reverse=True)
    best = scores[: max(FEWEST, math.ceil(BEST * len(results)))]
    excess = sum(score - best[-1] for score in best) / max(1, len(best) - 1)
    signal = signal_share(whole)
    return Worth(math.sqrt(signal) * excess / (len(results) + pending + 1), price, signal == 0)


def signal_share(whole: Sequence[TrialResult]) -> float:
    """The share of the variance of the scores that is not their noise, in [0, 1].

    The noise of a score is here that of its difference to trial 0 over the root of two: what is hard for all
    trials alike is none.
    """
    scores = [score_of(result) for result in whole]
    mean = sum(scores) / len(scores)
    variance = sum((score - mean) ** 2 for score in scores) / max(1, len(scores) - 1)
    beside = [result.error_beside / math.sqrt(2) for result in whole if result.error_beside is not None]
    errors = beside or [result.error for result in whole if result.error is not None]
    noise = sum(error**2 for error in errors) / len(errors) if errors else 0.0
    return max(0.0, 1 - noise / variance) if variance > 0 else 0.0


def whole_of(results: Sequence[TrialResult]) -> list[TrialResult]:
    """Those of the results that count: see ``is_scored``."""
    return [result for result in results if is_scored(result)]


def is_scored(result: TrialResult) -> bool:
    """Whether it was scored at its end, with a finite score."""
    return result.is_whole and math.isfinite(score_of(result))


def score_of(result: TrialResult) -> float:
    """The score of a trial that has one."""
    assert result.score is not None
    return result.score


def best_of(results: Sequence[TrialResult]) -> TrialResult | None:
    """The best whole trial, the first of equals; None: there is none."""
    return max(whole_of(results), key=score_of, default=None)


def in_force(view: TunerView) -> TrialResult | None:
    """The result of the trial of the settings in force; None: there was none, or it failed."""
    first = whole_of(view.results[:1])
    return first[0] if first and first[0].trial.settings == view.settings else None


def error_of_difference(result: TrialResult, other: TrialResult) -> float:
    """The standard error of the difference of two scores of one study, as both are on the same items.

    It is known beside trial 0; of two others the errors beside that one are added. Where it is not known,
    what is hard for one is hard for the other, so that it is below that of independent scores, 1.4 times
    one's own: the greater one's own stands for it; 0 if neither is known.
    """
    beside = [one.error_beside for one in (result, other) if one.number != 0]
    if any(error is None for error in beside):
        return max(result.error or 0.0, other.error or 0.0)
    return math.hypot(*(error for error in beside if error is not None))
