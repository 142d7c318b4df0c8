"""What ``python -m flywheel power`` predicts, against loops that it was not fitted on.

    python -m benchmarks.power                # docs/gates.md; about five minutes
    python -m benchmarks.power --loops 300    # quick

The loops' candidates are not drawn as the prediction assumes. Every item has a chance of its own to be
solved (Beta: most are nearly sure or nearly hopeless), every model is a draw of them, and a better one solves
some more of the rest. All looks of a loop, up to the first promotion, are at one champion, which was drawn
once. Two predictions are compared with what the loops did:

before  from a share of items that are won or lost: the true one of these models
after   from the pairs of a loop's own first looks; the mean over some loops, with its own standard error

A line fails where prediction and loops differ by more than three combined standard errors; then the exit code
is 1.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from itertools import product

import numpy as np

from flywheel.experiments.looks import Decider, RecordedLook
from flywheel.experiments.pairs import Pairs, Population
from flywheel.experiments.power import ALIKE, Case, Simulated, case_of, correlation_of
from flywheel.gates import Paired
from flywheel.gates.evidence import FixedEvidence
from flywheel.keys import Key
from flywheel.records import Differences
from flywheel.storage.accountant import ErrorBudget

ITEMS = (750, 2000)
GAINS = (0.01, 0.02, 0.05)
ACCURACIES = (0.6, 0.9)
SPREAD = 2.0
"""Sum of the parameters of the Beta distribution of items' chances."""
BUDGET = ErrorBudget(alpha=0.05, looks=20)
DECIDER = Decider(Paired(), {})
OWN_LOOKS = 4
"""Of the loops whose pairs are resampled."""


class World:
    """Items, and models that solve each with a chance of its own."""

    def __init__(self, accuracy: float, items: int, key: Key) -> None:
        self._rng, self._accuracy = key.numpy(), accuracy
        self.chances = self._rng.beta(accuracy * SPREAD, (1 - accuracy) * SPREAD, items)

    def model(self, quality: float) -> np.ndarray:
        """What a model scores whose true mean is ``quality`` above the first champion's."""
        rest = (1 - self.chances) * (1 - quality / (1 - self._accuracy))
        return (self._rng.random(len(rest)) >= rest).astype(float)


def disagreement(accuracy: float, gain: float) -> float:
    """The share of items that a candidate wins or loses against its champion, beyond the gain.

    Champion and candidate fail with chances q and q s of an item: twice the share lost, E[(1 - q) q s].
    """
    spread = accuracy * (1 - accuracy) * SPREAD / (SPREAD + 1)  # the mean of q (1 - q)
    return 2 * spread * (1 - gain / (1 - accuracy))


def loop(accuracy: float, items: int, gain: float, key: Key) -> tuple[bool, bool]:
    """Whether the first look promotes, and whether any does, if every candidate is better by the gain."""
    world = World(accuracy, items, key)
    champion = world.model(0)
    for look in range(1, BUDGET.looks + 1):
        differences = Differences(world.model(gain) - champion, np.arange(items))
        level = BUDGET.level(look)
        if DECIDER.promotes(FixedEvidence({"gate": differences}), level, key(look)):
            return look == 1, True
    return False, False


def own_looks(accuracy: float, items: int, gain: float, key: Key) -> list[RecordedLook]:
    """The first looks of a loop, whose candidates are better by this gain."""
    world = World(accuracy, items, key)
    champion, alone = world.model(0), np.arange(items)
    return [
        RecordedLook(
            generation=number,
            champion="one",
            level=BUDGET.level(number),
            decider=DECIDER,
            differences={"gate": Differences(world.model(gain) - champion, alone)},
            copies={"gate": alone},
        )
        for number in range(1, OWN_LOOKS + 1)
    ]


def share(hits: list[bool]) -> Simulated:
    """A share of loops with its standard error."""
    p = (sum(hits) + 0.5) / (len(hits) + 1)
    return Simulated(sum(hits) / len(hits), math.sqrt(p * (1 - p) / len(hits)))


def mean_of(chances: list[Simulated]) -> Simulated:
    """The mean of predictions from several loops, with the standard error that their spread says."""
    values = [chance.value for chance in chances]
    return Simulated(float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values)))


def distance(predicted: Simulated, observed: Simulated) -> float:
    """Between two, in combined standard errors."""
    error = math.hypot(predicted.standard_error, observed.standard_error)
    return (predicted.value - observed.value) / error


def before(accuracy: float, items: int, gain: float, draws: int) -> list[Simulated]:
    """The prediction from the true share of items won or lost."""
    lost = disagreement(accuracy, gain) / 2
    pairs = Pairs({"gate": Population.of_shares(np.ones(items, np.int64), gain + lost, lost)})
    key = Key.root(0)("benchmarks.power", "before")
    case = case_of(DECIDER, [pairs], gain, BUDGET, ALIKE, draws, key, search=False)
    assert case is not None
    return answers(case)


def after(accuracy: float, items: int, gain: float, loops: int, key: Key) -> list[Simulated]:
    """The mean predictions from the pairs of loops in which each candidate is better by the gain."""
    predicted = []
    for k in range(loops):
        looks = own_looks(accuracy, items, gain, key(k))
        shapes = [look.pairs() for look in looks]
        alike = correlation_of(looks, shapes)
        case = case_of(DECIDER, shapes, gain, BUDGET, alike, 200, key("draws", k), search=False)
        predicted += [answers(case)] if case else []
    return [mean_of(list(chances)) for chances in zip(*predicted, strict=True)]


Pair = tuple[Simulated, Simulated]


def lines(loops: int, resampled: int, draws: int) -> Iterator[tuple[str, list[Pair]]]:
    """A row's name; what is predicted and observed of the first look, any look, any if nothing is better."""
    for accuracy, items in product(ACCURACIES, ITEMS):
        root = Key.root(0)("benchmarks.power", str(accuracy), items)
        equal = share([loop(accuracy, items, 0.0, root("equal", k))[1] for k in range(loops)])
        for gain in GAINS:
            key = root(str(gain))
            seen = [loop(accuracy, items, gain, key("loop", k)) for k in range(loops)]
            observed = [share([first for first, _ in seen]), share([any_look for _, any_look in seen]), equal]
            name = f"{items} | {accuracy:.0%} | {100 * gain:g}"
            predicted = {
                "before": before(accuracy, items, gain, draws),
                "after": after(accuracy, items, gain, resampled, key("own")),
            }
            for when, chances in predicted.items():
                yield f"{name} | {when}", list(zip(chances, observed, strict=True))


def answers(case: Case) -> list[Simulated]:
    """What a case predicts, in the order of the columns."""
    return [case.at_one_look, case.over_the_run, case.false_promotion]


def cell(predicted: Simulated, observed: Simulated) -> str:
    """``31.2% / 30.4% (+0.6)``."""
    return f"{predicted.value:.1%} / {observed.value:.1%} ({distance(predicted, observed):+.1f})"


def main() -> int:
    """Print the table; 1 if any prediction is off."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--loops", type=int, default=1000)
    parser.add_argument("--resampled", type=int, default=20, help="loops whose own pairs are resampled")
    parser.add_argument("--draws", type=int, default=2000)
    options = parser.parse_args()
    print(f"error {BUDGET.alpha:g} over {BUDGET.looks} looks, {options.loops} loops a line")
    print("predicted / observed (difference in combined standard errors)\n")
    print("| items | accuracy | gain, points | from | first look | any look | any, nothing better |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    worst = 0.0
    for name, pairs in lines(options.loops, options.resampled, options.draws):
        worst = max(worst, *(abs(distance(*pair)) for pair in pairs))
        print(f"| {name} | {' | '.join(cell(*pair) for pair in pairs)} |", flush=True)
    print(f"\nlargest difference: {worst:.1f} combined standard errors")
    return int(worst > 3)


if __name__ == "__main__":
    sys.exit(main())
