"""Simulated candidates whose true means are known, for ``benchmarks.evidence``.

luck      0/1 scores. Every model solves an item with a chance that is the item's own (Beta: most items are
          nearly sure or nearly hopeless); a better one solves some of the rest, too. A candidate that is
          promoted was lucky on the gate's items, and is harder to beat by the next
drift     0/1 scores. A candidate differs from its champion on 10% of the items, each as likely won as lost,
          whatever came before; a better one wins more of them
proper    1 - Brier/2 of two classes. A model sees the items' true log odds with noise and answers with the
          probability that follows; a better one sees them with less noise
skew      every item gains .01, but for 1% that lose .99: the mean of the differences is 0. A better candidate
          gains more on every item
clusters  clusters of 1 to 20 items, won or lost as a whole, as likely the one as the other
large     the same clusters: the large ones are seldom lost, the small ones more often won: the mean is 0

Scores of drift, skew, clusters and large are counted from the first champion's. Arrays have the shape
(runs, items).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cache

import numpy as np

Population = tuple[np.ndarray, ...]
"""What is the items' own, each of shape (runs, items)."""

_ACCURACY = 0.6
_SHARE = 0.1
_SIZES = np.array([1, 1, 1, 1, 2, 2, 2, 3, 3, 5, 8, 20])
"""Sizes of clusters, one after the other, again and again."""


class Kind(ABC):
    """How the scores of candidates come about."""

    def clusters(self, items: int) -> np.ndarray:
        """The cluster of each item: here each is its own."""
        return np.arange(items)

    def first(self, runs: int, items: int, rng: np.random.Generator) -> tuple[Population, np.ndarray]:
        """The items, and what the first champion scores on them."""
        return (), np.zeros((runs, items))

    @abstractmethod
    def candidate(
        self,
        population: Population,
        champion: np.ndarray,
        quality: np.ndarray,
        gain: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """What candidates score: their true means are ``quality`` above the first champion's.

        Which is ``gain`` above their champion's; both have shape (runs,).
        """


class Luck(Kind):
    """See the module."""

    def first(self, runs: int, items: int, rng: np.random.Generator) -> tuple[Population, np.ndarray]:
        """Chances of the items, and a draw of them."""
        chances = rng.beta(2 * _ACCURACY, 2 * (1 - _ACCURACY), (runs, items))
        return (chances,), (rng.random((runs, items)) < chances).astype(float)

    def candidate(
        self,
        population: Population,
        champion: np.ndarray,
        quality: np.ndarray,
        gain: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Another draw; of what is not solved, so large a share is solved all the same."""
        rest = (1 - population[0]) * (1 - quality / (1 - _ACCURACY))[:, None]
        scores: np.ndarray = (rng.random(champion.shape) >= rest).astype(float)
        return scores


class Drift(Kind):
    """See the module."""

    def candidate(
        self,
        population: Population,
        champion: np.ndarray,
        quality: np.ndarray,
        gain: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """The champion's scores, with steps up and down."""
        scores: np.ndarray = champion + _steps(_SHARE, gain, rng.random(champion.shape))
        return scores


class Proper(Kind):
    """See the module."""

    def first(self, runs: int, items: int, rng: np.random.Generator) -> tuple[Population, np.ndarray]:
        """True log odds and labels, and a first model."""
        odds = _SPREAD * rng.standard_normal((runs, items))
        labels = (rng.random((runs, items)) < _chance(odds)).astype(float)
        return (odds, labels), _brier(odds, labels, np.full((runs, 1), _NOISE), rng)

    def candidate(
        self,
        population: Population,
        champion: np.ndarray,
        quality: np.ndarray,
        gain: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Another model, with the noise that its quality comes of."""
        odds, labels = population
        return _brier(odds, labels, np.interp(quality, *_noise_by_quality())[:, None], rng)


class Skew(Kind):
    """See the module."""

    def candidate(
        self,
        population: Population,
        champion: np.ndarray,
        quality: np.ndarray,
        gain: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """The champion's scores and a little more, or much less."""
        step = gain[:, None] + np.where(rng.random(champion.shape) < 0.01, -0.99, 0.01)
        scores: np.ndarray = champion + step
        return scores


class Clusters(Kind):
    """See the module."""

    def clusters(self, items: int) -> np.ndarray:
        """Clusters of the sizes above, the last one cut off."""
        sizes = np.resize(_SIZES, items)
        return np.repeat(np.arange(items), sizes)[:items]

    def candidate(
        self,
        population: Population,
        champion: np.ndarray,
        quality: np.ndarray,
        gain: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """The champion's scores, with steps that are the same within a cluster."""
        runs, items = champion.shape
        ids = self.clusters(items)
        scores: np.ndarray = champion + _steps(3 * _SHARE, gain, rng.random((runs, ids[-1] + 1)))[:, ids]
        return scores


class Large(Clusters):
    """See the module."""

    def candidate(
        self,
        population: Population,
        champion: np.ndarray,
        quality: np.ndarray,
        gain: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """The champion's scores: 2% of the clusters of 20 are lost, and as many items won in small ones."""
        runs, items = champion.shape
        ids = self.clusters(items)
        large = np.bincount(ids) == _SIZES.max()
        lost, small = 0.02 * np.mean(large[ids]), np.mean(~large[ids])
        won = (lost + gain[:, None]) / small
        draws = rng.random((runs, ids[-1] + 1))
        scores: np.ndarray = champion + np.where(large, -1.0 * (draws < 0.02), 1.0 * (draws < won))[:, ids]
        return scores


KINDS: dict[str, Kind] = {
    "luck": Luck(),
    "drift": Drift(),
    "proper": Proper(),
    "skew": Skew(),
    "clusters": Clusters(),
    "large": Large(),
}


def _steps(share: float, gain: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """1 and -1 on a share, or where the gain is more than that on so many; the mean is the gain."""
    differ = np.maximum(share, gain)[:, None]
    won = (differ + gain[:, None]) / 2
    return np.where(draws < won, 1.0, np.where(draws < differ, -1.0, 0.0))


_SPREAD = 4.0
_NOISE = 6.0


def _chance(odds: np.ndarray) -> np.ndarray:
    chances: np.ndarray = 1 / (1 + np.exp(-odds))
    return chances


def _brier(odds: np.ndarray, labels: np.ndarray, noise: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """1 - Brier/2 of models that see the log odds with noise."""
    scores: np.ndarray = 1 - (_answer(odds + noise * rng.standard_normal(odds.shape), noise) - labels) ** 2
    return scores


def _answer(seen: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """The probability that follows of what is seen: about calibrated (MacKay 1992)."""
    share = _SPREAD**2 / (_SPREAD**2 + noise**2)
    return _chance(share * seen / np.sqrt(1 + np.pi / 8 * share * noise**2))


@cache
def _noise_by_quality() -> tuple[np.ndarray, np.ndarray]:
    """True means above the first champion's, rising, and the noises that they come of: Gauss and Hermite."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    both = np.outer(weights, weights) / weights.sum() ** 2
    odds = _SPREAD * nodes[:, None]
    noises = np.linspace(_NOISE, 0.3, 200)
    means = []
    for noise in noises:
        answer = _answer(odds + noise * nodes, np.asarray(noise))
        error = (answer - _chance(odds)) ** 2 + _chance(odds) * (1 - _chance(odds))
        means.append(1 - float((both * error).sum()))
    return np.array(means) - means[0], noises
