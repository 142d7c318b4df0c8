from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from flywheel.metrics.beta import beta_cdf, beta_quantile, student_quantile

SHAPE = st.floats(0.2, 5000)


@given(st.floats(1e-6, 1 - 1e-6), SHAPE, SHAPE)
def test_the_distribution_is_scipys(x: float, a: float, b: float) -> None:
    assert beta_cdf(x, a, b) == pytest.approx(special.betainc(a, b, x), rel=1e-8, abs=1e-12)


@given(st.sampled_from([0.0001, 0.025 / 3, 0.025, 0.5, 0.975]), SHAPE, SHAPE)
def test_the_quantile_is_scipys(q: float, a: float, b: float) -> None:
    assert beta_quantile(q, a, b) == pytest.approx(special.betaincinv(a, b, q), rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("a", [0.5, 3.0, 1e4, 5e7])
def test_a_quantile_of_large_samples_is_found_too(a: float) -> None:
    assert beta_quantile(0.025, a, 1e8) == pytest.approx(special.betaincinv(a, 1e8, 0.025), rel=1e-6)


def test_outside_of_0_to_1_nothing_is_left() -> None:
    assert [beta_cdf(x, 2.0, 3.0) for x in (-1.0, 0.0, 1.0, 2.0)] == [0.0, 0.0, 1.0, 1.0]


@given(st.sampled_from([0.025, 0.025 / 3, 0.2]), st.floats(1, 1e6))
def test_students_quantile_is_scipys(tail: float, df: float) -> None:
    assert student_quantile(tail, df) == pytest.approx(stats.t.isf(tail, df), rel=1e-7)
