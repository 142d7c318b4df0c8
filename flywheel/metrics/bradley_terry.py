"""Ratings of players from games between all pairs of them (Bradley and Terry 1952)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from flywheel.metrics.beta import student_quantile
from flywheel.metrics.intervals import TAIL
from flywheel.records import Interval

ELO = "Elo"
"""The unit: 400 points are odds of 10 to 1."""
_POINTS = 400 / math.log(10)
_STEPS, _LARGEST_STEP, _TOLERANCE = 200, 2.0, 1e-10


def bradley_terry(
    scores: np.ndarray,
    pairs: Sequence[tuple[int, int]],
    clusters: Sequence[Any] | np.ndarray,
    reference: int = 0,
) -> list[Interval]:
    """The rating of each player in Elo points above ``reference``, with its 95% interval.

    ``scores``: what the first of each pair got in each game, in [0, 1], .5 for a drawn one, shape
    (pairs, games); every pair plays the same games, as items are, and ``clusters`` names each game's cluster.
    ``pairs``: numbers of two players, which connect all players.

    The rating is the maximum of the likelihood, by Newton's method, with one drawn game added to each pair:
    so that a player who wins all games has one, too (Hunter 2004, "MM algorithms for generalized
    Bradley-Terry models", says when there is a maximum without). The standard error is the larger of two:
    that of independent games, if those of a cluster were as one, and the sandwich estimate over clusters,
    which knows that pairs play the same games. The interval is Student's. Where strength is no single number,
    as of three players who beat each other in a circle, ratings do not tell who beats whom.
    """
    design = np.zeros((len(pairs), 1 + max(max(pair) for pair in pairs)))
    for row, (first, second) in enumerate(pairs):
        design[row, first], design[row, second] = 1.0, -1.0
    design = np.delete(design, reference, axis=1)
    games = scores.shape[1]
    strengths = np.zeros(design.shape[1])
    wins = scores.sum(1) + 0.5
    for _ in range(_STEPS):
        chance = _chance(design @ strengths)
        information = (design.T * ((games + 1) * chance * (1 - chance))) @ design
        step = np.linalg.solve(information, design.T @ (wins - (games + 1) * chance))
        strengths += np.clip(step, -_LARGEST_STEP, _LARGEST_STEP)
        if np.abs(step).max() < _TOLERANCE:
            break
    ids = np.unique(np.asarray(clusters), return_inverse=True)[1]
    errors, count = _errors(scores, design, strengths, ids)
    half = abs(student_quantile(TAIL, max(1, count - 1))) * errors
    ratings = [_rating(value, by) for value, by in zip(strengths, half, strict=True)]
    ratings.insert(reference, _rating(0.0, 0.0))
    return ratings


def _rating(strength: float, half: float) -> Interval:
    value, low, high = (float(_POINTS * end) for end in (strength, strength - half, strength + half))
    return Interval(value, low, high, ELO)


def _chance(difference: np.ndarray) -> np.ndarray:
    chance: np.ndarray = 1 / (1 + np.exp(-difference))
    return chance


def _errors(
    scores: np.ndarray, design: np.ndarray, strengths: np.ndarray, ids: np.ndarray
) -> tuple[np.ndarray, int]:
    """Standard errors of the strengths, and the number of clusters."""
    games, count = scores.shape[1], int(ids.max()) + 1
    chance = _chance(design @ strengths)
    inverse = np.linalg.inv((design.T * ((games + 1) * chance * (1 - chance))) @ design)
    apart = np.zeros((count, len(scores)))
    np.add.at(apart, ids, (scores - chance[:, None]).T)
    slopes = apart @ design
    sandwich = inverse @ (slopes.T @ slopes * (count / max(1, count - 1))) @ inverse
    independent = np.diag(inverse) * (games / count)
    errors: np.ndarray = np.sqrt(np.maximum(independent, np.diag(sandwich)))
    return errors, count
