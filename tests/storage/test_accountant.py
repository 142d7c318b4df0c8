"""The core decides: what a look may spend, and a p-value or an e-value against that level."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.records import GateResult
from flywheel.storage.accountant import ErrorBudget, decide


@pytest.mark.parametrize(
    ("values", "promote", "compared"),
    [
        ({"p_value": 0.05}, True, "p 0.05 <= 0.05"),
        ({"p_value": 0.051}, False, "p 0.051 > 0.05"),
        ({"p_value": 0.0}, True, "p 0 <= 0.05"),
        ({"e_value": 20.0}, True, "e 20 >= 20"),
        ({"e_value": 19.9}, False, "e 19.9 < 20"),
        ({"e_value": float("inf")}, True, "e inf >= 20"),
    ],
)
def test_a_value_is_held_against_the_level(values: dict[str, float], promote: bool, compared: str) -> None:
    numbers = {"test": "McNemar", "n": 9, "clusters": 3, "effect": 0.1, "wins": 3}
    verdict = decide(GateResult("seen", numbers=numbers, **values), 0.05)
    said = "seen" if promote else "not shown to be better on 9 items in 3 clusters, McNemar"
    assert (verdict.promote, verdict.reason, verdict.level) == (promote, f"{said}: {compared}", 0.05)
    assert verdict.numbers == (numbers if promote else {"test": "McNemar", "n": 9, "clusters": 3})
    assert decide(GateResult("seen", p_value=1.0), 0.05).reason == "not shown to be better: p 1 > 0.05"


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({}, "it gave none"),
        ({"p_value": 0.1, "e_value": 3.0}, "it gave both"),
        ({"p_value": 1.1}, "a p-value lies in"),
        ({"p_value": float("nan")}, "a p-value lies in"),
        ({"e_value": -1.0}, "an e-value is 0 or more"),
        ({"e_value": float("nan")}, "an e-value is 0 or more"),
    ],
)
def test_what_is_no_value_decides_nothing(values: dict[str, float], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        decide(GateResult("seen", **values), 0.05)


BUDGETS = st.builds(
    ErrorBudget,
    alpha=st.floats(0.001, 0.5),
    looks=st.integers(1, 30),
    reserve=st.floats(0, 0.9),
    spent=st.floats(0, 0.6),
)


@given(BUDGETS, st.integers(1, 500))
def test_all_looks_together_are_charged_no_more_than_there_is(budget: ErrorBudget, looks: int) -> None:
    assert budget.charged(looks) <= max(0.0, budget.alpha - budget.spent) + 1e-12


@given(BUDGETS, st.integers(1, 60), st.floats(0, 0.3))
def test_a_level_is_a_share_of_its_own_and_what_is_passed_on(
    budget: ErrorBudget, number: int, passed_on: float
) -> None:
    own, inherited = budget.level(number), budget.level(number, passed_on)
    assert 0 <= own <= budget.alpha * (1 + 1e-9)
    assert inherited == pytest.approx(own + passed_on, rel=1e-9)


def test_planned_looks_share_evenly_and_the_reserve_is_for_more() -> None:
    budget = ErrorBudget(alpha=0.05, looks=4, reserve=0.2)
    assert [budget.level(number) for number in range(1, 8)] == pytest.approx(
        [0.01, 0.01, 0.01, 0.01, 0.005, 0.01 / 6, 0.01 / 12]
    )
    assert ErrorBudget(alpha=0.05, looks=4, reserve=0).level(5) == 0


def test_of_false_discoveries_more_are_allowed_with_each_promotion() -> None:
    budget = ErrorBudget(alpha=0.05, looks=10, reserve=0, rule="false_discovery")
    assert [budget.level(3, 0.02, promotions) for promotions in (0, 1, 4)] == [0.005, 0.01, 0.025]


@pytest.mark.parametrize("values", [{"p_value": 0.0}, {"e_value": float("inf")}])
def test_where_nothing_is_left_nothing_is_enough(values: dict[str, float]) -> None:
    assert not decide(GateResult("seen", **values), 0.0).promote
