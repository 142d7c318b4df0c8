"""How sure a model is, made honest before it is scored by how sure it is."""

from __future__ import annotations

import numpy as np

_ROUNDS = 100
_LARGEST = 1e3


def temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature by which logits are divided for the least cross entropy (Guo et al. 2017).

    ``logits``: float, shape (items, classes); ``labels``: int, shape (items,). The cross entropy is convex in
    the inverse temperature, which is found by bisection of its slope, between 0.001 and 1,000. One more item,
    with each label as likely, is counted in: so a model that is right on all items is not made entirely sure.
    Sharpened logits are no gain: those times c have c times the temperature. Raises ValueError for logits
    that are not finite, or without an item.
    """
    logits = np.asarray(logits, float)
    if logits.ndim != 2 or not len(logits) or not np.isfinite(logits).all():
        raise ValueError(f"logits must be finite numbers, items x classes, got shape {logits.shape}")
    count = len(labels)
    right = (count * logits[np.arange(count), labels] + logits.mean(1)) / (count + 1)
    low, high = np.log(1 / _LARGEST), np.log(_LARGEST)
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        scaled = np.exp(middle) * (logits - logits.max(1, keepdims=True))
        weights = np.exp(scaled)
        expected = (weights * logits).sum(1) / weights.sum(1)
        if (expected - right).mean() < 0:  # the slope of the cross entropy: surer would be better
            low = middle
        else:
            high = middle
    return float(np.exp(-(low + high) / 2))


def brier_score(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """1 - Brier/2 of each item, in [0, 1]: 1 where the right class has all of the probability.

    ``probabilities``: float, shape (items, classes), rows adding up to 1. Proper: in expectation it is
    highest for the true probabilities (Brier 1950).
    """
    right = np.zeros_like(probabilities)
    right[np.arange(len(labels)), labels] = 1
    scores: np.ndarray = 1 - ((probabilities - right) ** 2).sum(1) / 2
    return scores
