"""The core decides: a p-value or an e-value against the level that it gave."""

from __future__ import annotations

import pytest

from flywheel.records import GateResult
from flywheel.runtime.accountant import decide


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
    verdict = decide(GateResult("seen", numbers={"n": 3}, **values), 0.05)
    assert (verdict.promote, verdict.reason, verdict.level) == (promote, f"seen: {compared}", 0.05)
    assert verdict.numbers == {"n": 3}


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
