from __future__ import annotations

import pytest

from flywheel.records import Rung, Trial, TrialResult
from flywheel.tuners import Random
from flywheel.tuners.rungs import least_score, rungs_of
from tests.tuners.views import IN_FORCE, view_of

SHARES = (0.1, 0.3)


def result(number: int, *scores: float, pruned: bool = False) -> TrialResult:
    """A trial with these scores at its rungs, and the last of them at its end."""
    trial = Trial(IN_FORCE, rungs=tuple(Rung(share) for share in SHARES))
    return TrialResult(number, trial, scores[-1], rungs=scores, pruned=pruned)


# At 0.1: 0.5 0.2 0.4 0.1 0.3 0.6; at 0.3: 0.7 and 0.6 of those that came to it.
RESULTS = (
    result(0, 0.5, 0.7),
    result(1, 0.2, pruned=True),
    result(2, 0.4, 0.6),
    result(3, 0.1, pruned=True),
    result(4, 0.3, pruned=True),
    result(5, 0.6, pruned=True),
)


@pytest.mark.parametrize(
    ("share", "eta", "count", "least"),
    [
        (0.1, 3, 2, None),  # fewer than eta
        (0.1, 3, 3, 0.5),  # the best one of 0.5 0.2 0.4
        (0.1, 3, 5, 0.5),  # still the best one
        (0.1, 3, 6, 0.5),  # the best two of six: 0.6 and 0.5
        (0.1, 2, 6, 0.4),  # the best three of six
        (0.3, 3, 6, None),
        (0.3, 2, 6, 0.7),
        (0.2, 2, 6, None),  # no such rung
    ],
)
def test_thresholds(share: float, eta: float, count: int, least: float | None) -> None:
    assert least_score(share, eta, RESULTS[:count]) == least


def test_trial_0_is_never_pruned() -> None:
    assert rungs_of(0, SHARES, 2, RESULTS) == (Rung(0.1), Rung(0.3))
    assert rungs_of(6, SHARES, 2, RESULTS) == (Rung(0.1, 0.4), Rung(0.3, 0.7))
    assert rungs_of(6, (), 2, RESULTS) == ()


def test_brackets_prune_later_and_later() -> None:
    rungs = [rungs_of(number, SHARES, 2, RESULTS, hyperband=True) for number in (6, 7, 8)]
    assert rungs == [
        (Rung(0.1, 0.4), Rung(0.3, 0.7)),
        (Rung(0.1), Rung(0.3, 0.7)),
        (Rung(0.1), Rung(0.3)),
    ]


def test_what_is_not_finite_is_no_threshold() -> None:
    results = (*RESULTS[:2], result(6, float("nan"), float("inf")))
    assert least_score(0.1, 3, results) is None


def test_trials_carry_their_rungs() -> None:
    trial = Random(rungs=SHARES, eta=2).ask(view_of(RESULTS[:4]))
    assert trial is not None
    assert trial.rungs == (Rung(0.1, 0.4), Rung(0.3, 0.7))
