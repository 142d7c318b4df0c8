"""What scores may be expected of settings: a Gaussian process over ranks, and what earlier studies say.

Scores of different studies are made alike by their ranks: the k-th of n becomes a normal quantile (Salinas et
al., "A Quantile-based Approach for Hyperparameter Transfer Learning", ICML 2020). Thus neither scale nor
outliers count, and a study on other data is about the same function.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Protocol

from flywheel.records import Settings, TrialResult
from flywheel.space import Space
from flywheel.tuners.worth import is_scored, score_of

if TYPE_CHECKING:
    import numpy as np

SCALES = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Length scales that are tried for each dimension; each is 1 from its least to its greatest value."""
NOISES = (0.01, 0.03, 0.1, 0.3)
"""Variances of the noise that are tried, of scores with variance 1."""
AMPLITUDES = (0.1, 0.3, 1.0)
"""Variances that are tried of what opinions do not explain."""
MIDDLE = 0.8
"""The length scale that is assumed at first."""
ROUNDS = 2
SIDE = math.sqrt(0.5)
"""Two choices are 1 from each other."""
KEPT = (60, 40)
"""Of more trials than both together, so many of the best and so many of the last are looked at."""


def features(space: Space, settings: Sequence[Settings]) -> np.ndarray:
    """Float, shape (settings, features): a share for each range, a number for each choice without order."""
    import numpy as np

    kinds = [(dimension, dimension.is_ordered) for dimension in space.dimensions]
    rows = []
    for one in settings:
        active = {dimension.name for dimension in space.active(one)}
        row: list[float] = []
        for dimension, is_ordered in kinds:
            value = one[dimension.name]
            is_known = dimension.name in active and dimension.allows(value)
            if is_ordered:
                row.append(dimension.share(value) if is_known else 0.5)
            else:
                place = dimension.position(value) if is_known else None
                row += [SIDE * (k == place) for k in range(len(dimension.choices))]
        rows.append(row)
    return np.array(rows, float).reshape(len(rows), len(groups(space)))


def groups(space: Space) -> np.ndarray:
    """Int, shape (features,): the dimension of each feature; they share a length scale."""
    import numpy as np

    counts = [1 if d.is_ordered else len(d.choices) for d in space.dimensions]
    return np.repeat(np.arange(len(counts)), counts)


def normal_ranks(scores: np.ndarray) -> np.ndarray:
    """Normal quantiles of the ranks, the greater the better; equal scores have their mean rank."""
    import numpy as np

    order = np.sort(scores)
    low, high = np.searchsorted(order, scores, "left"), np.searchsorted(order, scores, "right")
    shares = (low + high) / 2 / len(scores)
    quantile = NormalDist().inv_cdf
    return np.array([quantile(share) for share in shares.tolist()])


def worths(results: Sequence[TrialResult]) -> np.ndarray:
    """Scores, shape (results,); -inf where a trial was pruned or failed: it is among the worst."""
    import numpy as np

    return np.array([score_of(one) if is_scored(one) else -math.inf for one in results], float)


def most_telling(scores: np.ndarray) -> np.ndarray:
    """Int, ascending: the places of the best scores and of the last ones, where there are many."""
    import numpy as np

    best, last = KEPT
    if len(scores) <= best + last:
        return np.arange(len(scores))
    order = np.argsort(-scores[:-last], kind="stable")
    kept: np.ndarray = np.sort(np.concatenate([order[:best], np.arange(len(scores) - last, len(scores))]))
    return kept


def distances(a: np.ndarray, b: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Shape (a, b), after each feature was divided by its length scale."""
    import numpy as np

    a, b = a / scales, b / scales
    squares = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2 * a @ b.T
    roots: np.ndarray = np.sqrt(np.maximum(squares, 0.0))
    return roots


def matern(distance: np.ndarray) -> np.ndarray:
    """The Matern kernel of smoothness 5/2."""
    import numpy as np

    root = math.sqrt(5) * distance
    kernel: np.ndarray = (1 + root + root * root / 3) * np.exp(-root)
    return kernel


class Opinions(Protocol):
    """What is expected of points beforehand: a sum of functions, each times a weight that is not certain.

    The weights are Gaussian, so that observations teach them in closed form, together with the process of
    what the functions do not explain (Rasmussen and Williams, "Gaussian Processes for Machine Learning",
    2006, section 2.7).
    """

    def of(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The expected sum, shape (points,); the functions, shape (points, functions).

        Each function is multiplied by the standard deviation of its weight.
        """


@dataclass(frozen=True, eq=False)
class Shape:
    """What is fitted of a process: its length scales, shape (features,), and its noise."""

    scales: np.ndarray
    noise: float
    amplitude: float = 1.0
    """The variance of what opinions do not explain."""


@dataclass(frozen=True, eq=False)
class Process:
    """A Gaussian process of observations."""

    shape: Shape
    points: np.ndarray
    """Float, shape (observations, features)."""
    values: np.ndarray
    """Float, shape (observations,)."""
    opinions: Opinions | None
    functions: np.ndarray | None
    """Of the opinions at the points."""
    factor: np.ndarray
    """The lower Cholesky factor of the covariance."""
    weights: np.ndarray
    """Of the observations in a prediction."""

    @classmethod
    def of(
        cls, shape: Shape, points: np.ndarray, values: np.ndarray, opinions: Opinions | None = None
    ) -> Process:
        """The process of these observations."""
        import numpy as np

        expected, functions = (0.0, None) if opinions is None else opinions.of(points)
        factor = _factor(points, shape, functions)
        weights = np.linalg.solve(factor.T, np.linalg.solve(factor, values - expected))
        return cls(shape, points, values, opinions, functions, factor, weights)

    def mean(self, points: np.ndarray) -> np.ndarray:
        """Shape (points,); without opinions, and quicker than ``predict``."""
        mean: np.ndarray = self._kernel(points) @ self.weights
        return mean

    def predict(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means and standard deviations, each of shape (points,)."""
        import numpy as np

        kernel, expected, variance = self._kernel(points), np.zeros(len(points)), self.shape.amplitude
        if self.opinions is not None:
            assert self.functions is not None
            expected, functions = self.opinions.of(points)
            kernel = kernel + functions @ self.functions.T
            variance = variance + (functions * functions).sum(1)
        solved = np.linalg.solve(self.factor, kernel.T)
        left = np.maximum(variance - (solved * solved).sum(0), 1e-9)
        return expected + kernel @ self.weights, np.sqrt(left)

    def _kernel(self, points: np.ndarray) -> np.ndarray:
        return self.shape.amplitude * matern(distances(points, self.points, self.shape.scales))

    def with_believed(self, points: np.ndarray) -> Process:
        """The process if these points turn out as it predicts: then there is little to gain near them."""
        import numpy as np

        if not len(points):
            return self
        values = np.concatenate([self.values, self.predict(points)[0]])
        return Process.of(self.shape, np.concatenate([self.points, points]), values, self.opinions)


def fit(points: np.ndarray, values: np.ndarray, group: np.ndarray, opinions: Opinions | None = None) -> Shape:
    """The likeliest length scales, noise and amplitude of those that are tried, one after the other.

    ``group``: the dimension of each feature, see ``groups``. The amplitude is 1 without opinions.
    """
    import numpy as np

    scales, noise, amplitude = np.full(int(group.max()) + 1, MIDDLE), 0.1, 1.0
    expected, functions = (0.0, None) if opinions is None else opinions.of(points)
    values = values - expected

    def likelihood(scales: np.ndarray, noise: float, amplitude: float) -> float:
        return _likelihood(points, values, Shape(scales[group], noise, amplitude), functions)

    best = likelihood(scales, noise, amplitude)
    for _ in range(ROUNDS):
        for k in range(len(scales)):
            for scale in SCALES:
                other = scales.copy()
                other[k] = scale
                if (found := likelihood(other, noise, amplitude)) > best:
                    best, scales = found, other
        for one in NOISES:
            if (found := likelihood(scales, one, amplitude)) > best:
                best, noise = found, one
        for one in AMPLITUDES if opinions is not None else ():
            if (found := likelihood(scales, noise, one)) > best:
                best, amplitude = found, one
    return Shape(scales[group], noise, amplitude)


def _factor(points: np.ndarray, shape: Shape, functions: np.ndarray | None) -> np.ndarray:
    import numpy as np

    kernel = shape.amplitude * matern(distances(points, points, shape.scales))
    kernel[np.diag_indices(len(kernel))] = shape.amplitude + shape.noise
    if functions is not None:
        kernel += functions @ functions.T
    factor: np.ndarray = np.linalg.cholesky(kernel)
    return factor


def _likelihood(points: np.ndarray, values: np.ndarray, shape: Shape, functions: np.ndarray | None) -> float:
    """The logarithm, with a weak prior of length scales around the middle."""
    import numpy as np

    factor = _factor(points, shape, functions)
    solved = np.linalg.solve(factor, values)
    prior = float((np.log(shape.scales / MIDDLE) ** 2).sum()) / 4
    return float(-0.5 * solved @ solved - np.log(np.diag(factor)).sum()) - prior


def expected_improvement(mean: np.ndarray, deviation: np.ndarray, best: float) -> np.ndarray:
    """Of each point over the best value."""
    import numpy as np

    z = (mean - best) / deviation
    density = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    below = np.array([0.5 * (1 + math.erf(one / math.sqrt(2))) for one in z])
    gain: np.ndarray = deviation * (z * below + density)
    return gain
