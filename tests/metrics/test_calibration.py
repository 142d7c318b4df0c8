from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from flywheel.metrics import brier_score, temperature


def drawn(seed: int, items: int = 200, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (items, classes))
    labels = np.array([rng.choice(classes, p=softmax(row / 1.7)) for row in logits])
    return logits, labels


def test_the_temperature_has_the_least_cross_entropy() -> None:
    logits, labels = drawn(0)

    def cross_entropy(log_temperature: float) -> float:
        shares = log_softmax(logits / np.exp(log_temperature), 1)
        return -shares[np.arange(len(labels)), labels].sum() - shares.mean(1).mean()

    best = np.exp(minimize_scalar(cross_entropy, bounds=(-3, 3), method="bounded").x)
    assert temperature(logits, labels) == pytest.approx(best, rel=1e-3)


@given(st.integers(0, 50), st.floats(0.1, 20))
def test_sharpened_logits_are_no_gain(seed: int, factor: float) -> None:
    logits, labels = drawn(seed, items=50)
    plain, sharp = temperature(logits, labels), temperature(factor * logits, labels)
    assert sharp == pytest.approx(min(factor * plain, 1e3), rel=1e-6)


def test_a_model_that_is_always_right_keeps_finite_probabilities() -> None:
    logits = np.eye(3) * 5
    shares = softmax(logits / temperature(logits, np.arange(3)), 1)
    assert shares.diagonal() == pytest.approx(np.full(3, 3 / 4 + 1 / 4 / 3))


@pytest.mark.parametrize("logits", [np.zeros((0, 3)), np.zeros(3), np.full((2, 2), np.nan)])
def test_what_are_no_logits_is_refused(logits: np.ndarray) -> None:
    with pytest.raises(ValueError, match="logits must be finite"):
        temperature(logits, np.zeros(len(logits), int))


def test_the_brier_score_is_proper_and_within_0_and_1() -> None:
    assert brier_score(np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]), np.array([0, 0, 1])).tolist() == [
        1,
        0,
        0.75,
    ]
    true = np.array([0.7, 0.3])
    stated = np.linspace(0, 1, 101)
    means = [true @ brier_score(np.array([[p, 1 - p]] * 2), np.array([0, 1])) for p in stated]
    assert stated[int(np.argmax(means))] == pytest.approx(0.7)
