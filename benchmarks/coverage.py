"""How often each interval that is shown contains the truth: simulated, or counted where that can be done.

    python benchmarks/coverage.py                        # all tables: about 15 minutes on one core
    python benchmarks/coverage.py --simulations 200 --only means reach

means     `mean_interval`: `evaluate`, `status`, cards, W&B. Independent 0/1 items (exact); clusters of 1 to
          100 items, of one size and of very different ones, from independent items to whole clusters that
          are right or wrong (beta-binomial, by intra-class correlation), and rare bad clusters among perfect
          ones ("hidden"); graded scores
reach     `reach`: `digits95`, by the true rates of the levels. Cases named "dip" break its assumption that a
          higher level is no easier
seeds     Student's t over runs of several seeds, as `benchmarks/mnist.py` prints

A row says how many of 100 intervals contain the truth, how many are above it and below it, and their mean
width. What is far above 95 is where evidence is at its bound or a whole number, or too few clusters differ.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from flywheel.metrics.intervals import mean_interval, reach, t_interval
from flywheel.records import Interval

Draw = Callable[[np.random.Generator], Interval]
RATES = (0.5, 0.9, 0.98, 0.999, 1.0)


@dataclass(frozen=True)
class Case:
    """What is simulated: an interval of data drawn with a known truth."""

    name: str
    truth: float
    draw: Draw


@dataclass(frozen=True)
class Coverage:
    """Shares of intervals that contain the truth, are above it, are below it; and their mean width."""

    hit: float
    above: float
    below: float
    width: float
    thinnest: float


def main() -> None:
    """Print a table for each kind of interval."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--only", nargs="+", choices=("means", "reach", "seeds"))
    options = parser.parse_args()
    for kind, cases in (("means", means), ("reach", ladders), ("seeds", seeds)):
        if options.only and kind not in options.only:
            continue
        print(f"\n| {kind} | contains the truth | above it | below it | mean width |")
        print("| --- | --- | --- | --- | --- |", flush=True)
        exact = exact_proportions() if kind == "means" else ()
        simulated = ((case.name, simulate(case, options.simulations)) for case in cases())
        for name, row in itertools.chain(exact, simulated):
            shares = " | ".join(f"{100 * share:.1f}" for share in (row.hit, row.above, row.below))
            print(f"| {name} | {shares} | {row.width:.3f} |", flush=True)


def simulate(case: Case, simulations: int) -> Coverage:
    """Coverage over so many draws; the same ones each time."""
    intervals = [case.draw(np.random.default_rng([k, 11])) for k in range(simulations)]
    return coverage(intervals, case.truth, np.full(simulations, 1 / simulations))


def coverage(intervals: list[Interval], truth: float, weights: np.ndarray) -> Coverage:
    """Coverage of intervals with these probabilities."""
    low, high = (np.array([getattr(i, side) for i in intervals]) for side in ("low", "high"))
    above, below = low > truth + 1e-12, high < truth - 1e-12
    hit, over, under = (float(weights @ mask) for mask in (~above & ~below, above, below))
    return Coverage(hit, over, under, float(weights @ (high - low)), float((high - low).min()))


def exact_proportions() -> Iterator[tuple[str, Coverage]]:
    """Independent 0/1 items: every number of right ones, by its probability."""
    for n in (1, 2, 5, 10, 30, 100, 512):
        right = np.arange(n + 1)
        intervals = [mean_interval((np.arange(n) < k).astype(float), np.arange(n)) for k in right]
        for rate in RATES:
            yield f"{n} items, rate {rate}, exact", coverage(intervals, rate, binomial(n, rate))


def binomial(n: int, rate: float) -> np.ndarray:
    """Probabilities of 0 to n right ones."""
    if rate in (0.0, 1.0):
        return np.array([float(k == n * rate) for k in range(n + 1)])
    logs = [
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(rate)
        + (n - k) * math.log1p(-rate)
        for k in range(n + 1)
    ]  # fmt: skip
    probabilities: np.ndarray = np.exp(logs)
    return probabilities


def means() -> Iterator[Case]:
    """Clusters of 0/1 items, and graded scores."""
    for shape in ("3", "10", "100", "1 to 100", "one of 100, others of 1"):
        for clusters in (2, 5, 20, 40, 100):
            sizes = cluster_sizes(shape, clusters)
            for rate in RATES:
                for alike in (0.0, 0.1, 1.0) if rate < 1 else (0.0,):
                    name = f"{clusters} clusters of {shape}, rate {rate}, correlation {alike:g}"
                    yield Case(name, rate, clustered(sizes, rate, alike))
    for clusters in (20, 40, 100):
        sizes = cluster_sizes("100", clusters)
        yield Case(f"{clusters} clusters of 100, rate .98, hidden", 0.98, hidden(sizes, 0.98))
    for name, (truth, score) in GRADED.items():
        for n in (2, 5, 10, 30, 100, 1000):
            yield Case(f"{n} scores, {name}", truth, graded(n, score))


def cluster_sizes(shape: str, clusters: int) -> np.ndarray:
    """Items of each cluster."""
    if shape == "1 to 100":
        return np.round(np.logspace(0, 2, clusters)).astype(int)
    if shape.startswith("one"):
        return np.append(100, np.ones(clusters - 1, int))
    return np.full(clusters, int(shape))


def clustered(sizes: np.ndarray, rate: float, alike: float) -> Draw:
    """0/1 items whose clusters have rates of a beta distribution with this intra-class correlation."""
    ids = np.repeat(np.arange(len(sizes)), sizes)

    def draw(rng: np.random.Generator) -> Interval:
        rates = np.full(len(sizes), rate)
        if alike == 1:
            rates = (rng.random(len(sizes)) < rate).astype(float)
        elif alike:
            rates = rng.beta(rate * (1 / alike - 1), (1 - rate) * (1 / alike - 1), len(sizes))
        return mean_interval((rng.random(len(ids)) < rates[ids]).astype(float), ids)

    return draw


def hidden(sizes: np.ndarray, rate: float) -> Draw:
    """Clusters that are all but perfect, and few in which nothing is right."""
    ids = np.repeat(np.arange(len(sizes)), sizes)

    def draw(rng: np.random.Generator) -> Interval:
        rates = np.where(rng.random(len(sizes)) < rate / 0.9995, 0.9995, 0.0)
        return mean_interval((rng.random(len(ids)) < rates[ids]).astype(float), ids)

    return draw


GRADED: dict[str, tuple[float, Callable[[np.random.Generator, int], np.ndarray]]] = {
    "uniform": (0.5, lambda rng, n: rng.random(n)),
    "around .8 (beta 8, 2)": (0.8, lambda rng, n: rng.beta(8, 2, n)),
    "flat, .6 to .8": (0.7, lambda rng, n: 0.6 + 0.2 * rng.random(n)),
    "steep, 98% at 1, others uniform": (
        0.99,
        lambda rng, n: np.where(rng.random(n) < 0.98, 1.0, rng.random(n)),
    ),
    "0, .5, 1 in 2, 96, 2%": (0.5, lambda rng, n: rng.choice([0, 0.5, 1], n, p=[0.02, 0.96, 0.02])),
    "hidden, 3% at 0 below .7": (0.679, lambda rng, n: np.where(rng.random(n) < 0.97, 0.7, 0.0)),
}


def graded(n: int, score: Callable[[np.random.Generator, int], np.ndarray]) -> Draw:
    """Independent scores in [0, 1]."""
    return lambda rng: mean_interval(score(rng, n), np.arange(n))


LADDERS: dict[str, tuple[int, list[float]]] = {
    ".98 to level 60, then .8": (60, [0.98] * 60 + [0.8] * 40),
    ".97 everywhere": (64, [0.97] * 64),
    ".94 everywhere": (0, [0.94] * 64),
    ".9 everywhere": (0, [0.9] * 64),
    "0 everywhere": (0, [0.0] * 64),
    "all right": (64, [1.0] * 64),
    "steep: .999 to level 40, then 0": (40, [0.999] * 40 + [0.0] * 24),
    ".99 to level 50, then .94": (50, [0.99] * 50 + [0.94] * 14),
    "flat slope: less by .0012 a level": (41, [1 - 0.0012 * k for k in range(1, 101)]),
    "just enough: .95 to level 30, then .93": (30, [0.95] * 30 + [0.93] * 34),
    "dip: .99, but .9 at level 30": (29, [0.99] * 29 + [0.9] + [0.99] * 34),
    "dip: .99, but .5 at level 30": (29, [0.99] * 29 + [0.5] + [0.99] * 34),
    "dip just below: .99, but .94 at level 30": (29, [0.99] * 29 + [0.94] + [0.99] * 34),
}


def ladders() -> Iterator[Case]:
    """Levels with 2, 8 or 128 independent items, and with 8 clusters of 16 that are right or wrong as one."""
    for name, (truth, rates) in LADDERS.items():
        for items in (2, 8, 128):
            yield Case(f"{items} items a level, {name}", truth, climbed(rates, items, 1))
    for name, (truth, rates) in LADDERS.items():
        yield Case(f"8 clusters of 16 a level, {name}", truth, climbed(rates, 8, 16))


def climbed(rates: list[float], clusters: int, size: int) -> Draw:
    """The reach at a share of .95."""
    levels = np.repeat(np.arange(1, len(rates) + 1), clusters)

    def draw(rng: np.random.Generator) -> Interval:
        scores = (rng.random(len(levels)) < np.array(rates)[levels - 1]).astype(float)
        ids = np.repeat(np.arange(len(levels)), size)
        return reach(np.repeat(scores, size), np.repeat(levels, size), 0.95, ids)

    return draw


def seeds() -> Iterator[Case]:
    """Gains of a method over runs: normal, skewed to one side, all equal."""
    kinds: dict[str, tuple[float, Callable[[np.random.Generator, int], np.ndarray]]] = {
        "normal": (0.0, lambda rng, n: rng.normal(0, 0.01, n)),
        "skewed (exponential)": (0.01, lambda rng, n: rng.exponential(0.01, n)),
        "all equal": (0.0, lambda rng, n: np.zeros(n)),
    }
    for name, (truth, gain) in kinds.items():
        for n in (3, 4, 20):

            def draw(
                rng: np.random.Generator, n: int = n, gain: Callable[..., np.ndarray] = gain
            ) -> Interval:
                return t_interval(gain(rng, n), 1 / 750)

            yield Case(f"{n} seeds, {name}", truth, draw)


if __name__ == "__main__":
    main()
