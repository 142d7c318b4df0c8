"""Where a trial is scored on its way, and the score with which it goes on: asynchronous successive halving.

The stopping rule of ASHA (Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020): at
each rung the best 1/eta of the scores that were recorded there go on. The threshold is part of the trial, as
it was when the trial was asked for, so that a trial that is made again ends at the same rung.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

from flywheel.errors import ConfigError
from flywheel.records import Rung, TrialResult


def check_rungs(shares: Sequence[float], eta: float) -> None:
    """Raise ConfigError if the shares are not in order within (0, 1), or eta is not above 1."""
    inside = all(0 < share < 1 for share in shares)
    if not inside or any(a >= b for a, b in itertools.pairwise(shares)):
        raise ConfigError(
            "tuner.rungs must be shares of a trial's steps between 0 and 1, in ascending order, got "
            f"{list(shares)}. Give e.g. tuner.rungs=[0.111, 0.333], or [] to prune nothing."
        )
    if not eta > 1:
        raise ConfigError(
            f"tuner.eta must be above 1, as 1/eta of the trials go on at a rung, got {eta:g}. Give e.g. 3."
        )


def rungs_of(
    number: int, shares: Sequence[float], eta: float, results: Iterable[TrialResult], hyperband: bool = False
) -> tuple[Rung, ...]:
    """The rungs of a trial: each share with the score that is needed there.

    Trial 0 is never pruned: what was in force is what others are compared with. With ``hyperband`` trials are
    dealt in turn to brackets, of which each begins to prune one rung later than the one before and the last
    one prunes nothing, for where early scores mislead.
    """
    skipped = number % (len(shares) + 1) if hyperband else 0
    known = tuple(results)
    return tuple(
        Rung(share, None if number == 0 or k < skipped else least_score(share, eta, known))
        for k, share in enumerate(shares)
    )


def least_score(share: float, eta: float, results: Iterable[TrialResult]) -> float | None:
    """The least of the best 1/eta of the scores at a rung; None while there are fewer than eta of them."""
    scores = sorted(scores_at(share, results), reverse=True)
    best = math.floor(len(scores) / eta)
    return scores[best - 1] if best else None


def scores_at(share: float, results: Iterable[TrialResult]) -> list[float]:
    """The finite scores that trials had at a rung, by number."""
    scores = [
        score
        for result in results
        for rung, score in zip(result.trial.rungs, result.rungs, strict=False)
        if rung.share == share
    ]
    return [score for score in scores if math.isfinite(score)]
