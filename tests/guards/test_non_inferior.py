from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from flywheel.guards import NonInferior
from flywheel.protocols import GuardView
from flywheel.records import Action, Alarm, Differences, Role, Suite
from flywheel.testing import FixedEvidence


def answer(guard: NonInferior, **suites: Any) -> Alarm | None:
    """What the guard says of differences by suite; each item a cluster of its own."""
    by_suite = {
        name: items if isinstance(items, Differences) else Differences(np.array(items), np.arange(len(items)))
        for name, items in suites.items()
    }
    nobody: Any = None
    return guard.check(GuardView(nobody, nobody, nobody, nobody, nobody, FixedEvidence(by_suite)))


def suite(name: str, items: int, clusters: int | None = None, *, duel: bool = False) -> Suite:
    columns = {"item": [str(k) for k in range(items)]}
    if clusters:
        columns["cluster"] = [f"c{k % clusters}" for k in range(items)]
    return Suite(name, Role.GUARD, pa.table(columns), duel=duel)


def test_no_harm_is_shown_where_enough_items_lose_nothing() -> None:
    said = answer(NonInferior(), steps=[0.0] * 150)
    assert said == Alarm(
        Action.PASS,
        "no harm shown on steps: +0.00% on 150 items; that it loses less than 2.00% is shown, "
        "p 0.048 <= 0.05",
    )


def test_harm_is_shown_by_the_suite_its_difference_the_margin_n_and_p() -> None:
    said = answer(NonInferior(margin=0.05), fine=[0.0] * 200, sevens=[0.0] * 180 + [-1.0] * 20)
    assert said is not None
    assert said.action is Action.REJECT
    assert said.reason == (
        "harm shown on sevens: -10.00% on 200 items; that it loses less than 5.00% is not shown, p 1 > 0.05"
    )


def test_items_and_clusters_are_said_apart() -> None:
    said = answer(NonInferior(margin=0.5), steps=Differences(np.zeros(40), np.repeat(np.arange(10), 4)))
    assert said is not None
    assert "no harm shown on steps: +0.00% on 40 items in 10 clusters" in said.reason


def test_suites_are_all_with_the_role_or_those_that_are_named() -> None:
    lost = [-1.0] * 100
    assert answer(NonInferior()) is None
    for guard, passes in ((NonInferior(), False), (NonInferior(suites=["a"], margin=0.1), True)):
        said = answer(guard, a=[0.0] * 100, b=lost)
        assert said is not None
        assert (said.action is Action.PASS) == passes
    with pytest.raises(ValueError, match=r"'c' is none\. There are: a"):
        answer(NonInferior(suites=["c"]), a=lost)


@pytest.mark.parametrize(
    ("argument", "value"),
    [("margin", 0.0), ("margin", 1.0), ("level", 0.6), ("level", 0.0), ("disagreement", 1.5)],
)
def test_arguments_have_ranges(argument: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{argument} must be .*; it is {value}"):
        NonInferior(**{argument: value})


def test_suites_that_would_reject_an_equal_candidate_too_often_are_refused() -> None:
    with pytest.raises(ValueError, match=r"in 76% of turns, more than 20%.*on 5% of items") as refusal:
        NonInferior().check_suites([suite("steps", 200)])
    assert "suite steps has 200 items and needs about 853" in str(refusal.value)
    assert "than 0.02, or set allow_low_power=true" in str(refusal.value)
    NonInferior(allow_low_power=True).check_suites([suite("steps", 200)])
    NonInferior().check_suites([suite("steps", 900)])
    NonInferior(margin=0.05).check_suites([suite("steps", 200)])
    NonInferior().check_suites([])


def test_clusters_count_and_not_their_items() -> None:
    with pytest.raises(ValueError, match="suite steps has 200 clusters and needs about 8"):
        NonInferior().check_suites([suite("steps", 4000, 200)])


def test_each_of_several_suites_must_reject_more_rarely() -> None:
    NonInferior().check_suites([suite("a", 900)])
    with pytest.raises(ValueError, match=r"in 3\d% of turns") as refusal:
        NonInferior().check_suites([suite("a", 900), suite("b", 900)])
    assert "suite a has 900 items and needs" in str(refusal.value)


def test_of_a_duel_each_item_is_won_or_lost() -> None:
    NonInferior(margin=0.1).check_suites([suite("play", 150)])
    with pytest.raises(ValueError, match="suite play has 150 items"):
        NonInferior(margin=0.1).check_suites([suite("play", 150, duel=True)])


def test_a_suite_that_is_no_guards_is_refused() -> None:
    with pytest.raises(ValueError, match="suites must be names of suites with role guard; 'gate' is none"):
        NonInferior(suites=["gate"]).check_suites([suite("steps", 900)])
