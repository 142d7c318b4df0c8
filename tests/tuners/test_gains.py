"""By how much trials are ahead, by all generations that scored both."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from msgspec.structs import replace

from flywheel.records import Settings, Study, Trial, TrialResult
from flywheel.runtime.scoring import Means, error_of_mean
from flywheel.space import Space
from flywheel.tuners import Random
from flywheel.tuners.gains import gains
from flywheel.tuners.prior import DISCOUNT
from flywheel.tuners.worth import error_of_difference, signal_share
from tests.tuners.views import IN_FORCE, SPACE, view_of

OTHER: Settings = {**IN_FORCE, "lr": 0.1}
THIRD: Settings = {**IN_FORCE, "lr": 0.03}


def study(*scores: tuple[Settings, float], error: float = 0.02) -> tuple[TrialResult, ...]:
    """Whole trials with these scores; ``error``: of each beside the first."""
    return tuple(
        TrialResult(k, Trial(settings), score, error=0.05, error_beside=error if k else None, share=1.0)
        for k, (settings, score) in enumerate(scores)
    )


NOW = study((IN_FORCE, 0.50), (OTHER, 0.53))
SAME_AGAIN = study((IN_FORCE, 0.40), (OTHER, 0.43))


def test_in_one_generation_it_is_the_difference_with_its_paired_error() -> None:
    base, other = gains(view_of(NOW), NOW[0])
    assert (base.value, base.error) == (0.0, 0.0)
    assert other.value == pytest.approx(0.03)
    assert (other.error, other.generations) == (0.02, 1)


def test_generations_count_together_the_older_ones_less() -> None:
    prior = (
        Study("generation 1", 2, SAME_AGAIN),
        Study("generation 2", 1, study((IN_FORCE, 0.4), (OTHER, 0.4))),
    )
    gain = gains(view_of(NOW, prior=prior), NOW[0])[1]
    weights = np.array([1.0, DISCOUNT, DISCOUNT**2])
    assert gain.value == pytest.approx(np.average([0.03, 0.0, 0.03], weights=weights))
    assert gain.error == pytest.approx(0.02 * math.sqrt((weights**2).sum()) / weights.sum())
    assert gain.generations == 3


def test_what_is_the_same_again_and_again_is_chosen_in_the_end() -> None:
    """Each time the gain is 1.5 standard errors, and 2 are asked for."""
    alone = Random().choose(view_of(NOW))
    assert (alone.trial, alone.reason[:24]) == (0, "tuning bought nothing: t")
    again = Random().choose(view_of(NOW, prior=(Study("generation 1", 1, SAME_AGAIN),)))
    assert (again.trial, again.settings) == (1, OTHER)
    assert again.reason == (
        "trial 1 of 2: 53.0% on dev, 3.0% more than the settings in force, on weighted average over 2 "
        "generations, +3.0% in this one"
    )


def test_what_is_best_by_chance_once_is_not() -> None:
    before = study((IN_FORCE, 0.40), (OTHER, 0.36))
    lucky = study((IN_FORCE, 0.50), (OTHER, 0.545))
    assert Random().choose(view_of(lucky)).trial == 1
    kept = Random().choose(view_of(lucky, prior=(Study("generation 1", 1, before),)))
    assert kept.trial == 0
    assert kept.reason == (
        "tuning bought nothing: trial 1 of 2: 54.5% on dev, 0.7% more than the settings in force, on "
        "weighted average over 2 generations, +4.5% in this one, within 2 standard errors (1.4% each)"
    )


@pytest.mark.parametrize(
    "prior",
    [
        Study("mine/other@1", 1, SAME_AGAIN),
        Study("generation 1", 1, study((THIRD, 0.4), (OTHER, 0.43))),
        Study("generation 1", 1, study((IN_FORCE, 0.4), (THIRD, 0.43))),
        Study("generation 1", 1, study(({"lr": 0.01}, 0.4), (OTHER, 0.43))),
    ],
    ids=["of another run", "without what is in force", "without the trial", "of another space"],
)
def test_what_says_nothing_of_both_is_left_out(prior: Study) -> None:
    assert gains(view_of(NOW, prior=(prior,)), NOW[0])[1].generations == 1


def test_what_came_into_force_since_is_compared_by_way_of_trial_0() -> None:
    """In the generation before it was trial 2, and trial 0 something else."""
    before = study((THIRD, 0.40), (OTHER, 0.46), (IN_FORCE, 0.44))
    gain = gains(view_of(NOW, prior=(Study("generation 1", 1, before),)), NOW[0])[1]
    assert gain.value == pytest.approx((0.03 + DISCOUNT * 0.02) / (1 + DISCOUNT))
    assert gain.error == pytest.approx(math.hypot(0.02, DISCOUNT * math.hypot(0.02, 0.02)) / (1 + DISCOUNT))


@pytest.mark.parametrize(
    "change",
    [
        lambda trial: replace(trial, settings={**trial.settings, "epochs": 100}),
        lambda trial: replace(trial, fidelity=0.5),
        lambda trial: replace(trial, data_share=0.5),
        lambda trial: replace(trial, start="base"),
    ],
    ids=["settings that are not searched", "fidelity", "data", "start"],
)
def test_trials_that_differ_in_more_than_what_is_searched_are_not_compared(change: Any) -> None:
    """As those of a genesis may, which has settings of its own."""
    before = tuple(replace(one, trial=change(one.trial)) for one in SAME_AGAIN)
    assert gains(view_of(NOW, prior=(Study("generation 0", 1, before),)), NOW[0])[1].generations == 1


def test_a_shape_that_is_not_searched_any_more_must_be_the_same() -> None:
    """At a genesis widths are searched; later fits go on from its weights, and rates alone are left."""
    rates = Space(SPACE.dimensions[:1])
    wide, narrow = {**IN_FORCE, "width": 64}, {**IN_FORCE, "width": 8}
    before = study((narrow, 0.30), ({**wide, "lr": 0.1}, 0.70), (wide, 0.72))
    now = study((wide, 0.80), ({**wide, "lr": 0.1}, 0.79))
    view = view_of(now, prior=(Study("generation 0", 1, before),), in_force=wide, space=rates)
    gain = gains(view, now[0])[1]
    assert gain.value == pytest.approx((-0.01 + DISCOUNT * -0.02) / (1 + DISCOUNT))
    assert Random().choose(view).trial == 0


def test_with_trials_as_starts_one_whose_weights_were_kept_is_taken_if_it_is_ahead() -> None:
    results = study((IN_FORCE, 0.50), (OTHER, 0.56), (THIRD, 0.55))
    kept = tuple(replace(one, trial=replace(one.trial, keep_weights=True)) for one in results)
    unsure = (kept[0], replace(kept[1], error_beside=0.028), replace(kept[2], error_beside=0.01))
    assert Random().choose(view_of(unsure)).trial == 2
    choice = Random(start="trial").choose(view_of(unsure))
    assert (choice.trial, choice.start) == (1, "trial")


def test_exact_scores_need_no_older_ones() -> None:
    now, before = (
        tuple(replace(one, error=None, error_beside=None) for one in trials) for trials in (NOW, SAME_AGAIN)
    )
    gain = gains(view_of(now, prior=(Study("generation 1", 1, before),)), now[0])[1]
    assert (gain.generations, gain.error) == (1, 0.0)


def test_settings_in_force_may_be_out_of_range() -> None:
    outside = {**IN_FORCE, "lr": 10.0}
    now, before = (study((outside, 0.5), (OTHER, 0.53)) for _ in range(2))
    view = view_of(now, prior=(Study("generation 1", 1, before),), in_force=outside)
    assert gains(view, now[0])[1].generations == 2


def test_without_a_paired_error_the_greater_one_of_the_scores_stands_for_it() -> None:
    first, other = study((IN_FORCE, 0.5), (OTHER, 0.53))
    unknown = TrialResult(1, other.trial, 0.53, error=0.07, share=1.0)
    assert error_of_difference(unknown, first) == 0.07
    assert error_of_difference(other, first) == 0.02


def test_scores_that_differ_by_more_than_their_paired_noise_are_no_flat_landscape() -> None:
    """Though all of them are less sure than that: what items have in common is no noise of theirs."""
    scores = [(IN_FORCE, 0.50), (OTHER, 0.53), (THIRD, 0.56)]
    assert signal_share(study(*scores, error=0.01)) == pytest.approx(1 - 0.01**2 / 2 / 0.03**2)
    assert signal_share(study(*scores, error=0.06)) == 0


def test_the_error_of_a_difference_is_that_of_its_items() -> None:
    """Of clusters of items, by hand."""
    rng = np.random.default_rng(0)
    names = [f"c{k % 7}" for k in range(20)]
    ours, theirs = rng.random((2, 20))
    one, other = (
        Means.of({"dev": pa.table({"cluster": names, "score": scores})}) for scores in (ours, theirs)
    )
    apart = [a - b for a, b in zip(one.sums, other.sums, strict=True)]
    centred = ours - theirs - (ours - theirs).mean()
    sums = np.array([sum(centred[k] for k in range(20) if names[k] == own) for own in set(names)])
    assert error_of_mean(apart, one.sizes) == pytest.approx(math.sqrt((sums**2).sum() * 7 / 6) / 20)
    alone = Means.of({"dev": pa.table({"cluster": ["a", "a"], "score": [0.0, 1.0]})})
    assert alone.error is None
