"""How often the gate promotes something where nothing is better: in a comparison, and in a whole run.

    python benchmarks/gate_errors.py                        # about two minutes on one core
    python benchmarks/gate_errors.py --alpha 0.0025

Two ways in which candidates are no better:

luck    every model is as good as every other: it solves each item with a chance that is the item's own
        (Beta, most items are nearly sure or nearly hopeless). A candidate that is promoted was lucky, and is
        harder to beat by the next
drift   a candidate differs from its champion on a share of the items, each as likely won as lost, whatever
        came before: what the test assumes of one comparison

A promoted candidate is the champion from then on, with the outcomes that it had. Columns: the share of items
on which two models differ; promotions in 100 first comparisons; of 100 runs those in which anything was
promoted, with a 95% interval; and by how many points the gate's mean of the last champion rose in those.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from flywheel.gates.paired import Paired
from flywheel.keys import Key
from flywheel.metrics.intervals import mean_interval
from flywheel.records import Differences
from flywheel.storage.accountant import decide
from flywheel.testing import FixedEvidence

RECIPES = {"addition": (512, 0.05), "mnist": (750, 0.1)}
"""Items of the gate and ``error_budget.alpha``, as committed."""
ACCURACIES = (0.3, 0.6, 0.9, 0.97)
SHARES = (0.02, 0.05, 0.1, 0.3)
SPREAD = 2.0
"""Sum of the parameters of the Beta distribution of items' chances."""

Outcomes = np.ndarray
Models = tuple[Outcomes, Callable[[Outcomes, np.random.Generator], Outcomes]]
"""The first champion's outcomes, and how a candidate's come of its champion's."""


class Run(NamedTuple):
    """What a run without any gain did."""

    first: bool
    """Whether the first candidate was promoted."""
    promotions: int
    risen: float
    """The gate's mean of the last champion, less that of the first."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--alpha", type=float, help="default: that of the recipe")
    parser.add_argument("--generations", type=int, default=20)
    parser.add_argument("--runs", type=int, default=2000)
    options = parser.parse_args()
    print(f"{options.generations} generations, {options.runs} runs a line\n")
    print("| gate | alpha | candidates | differ | errors | runs with a promotion | risen by |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, (items, alpha) in RECIPES.items():
        level = options.alpha or alpha
        cases = [
            ("luck", f"at {a:.0%}", 2 * a * (1 - a) * SPREAD / (SPREAD + 1), partial(luck, a))
            for a in ACCURACIES
        ]
        cases += [("drift", "", share, partial(drift, share)) for share in SHARES]
        for kind, at, differ, models in cases:
            keys = (Key.root(run)(name, kind, at, str(differ)) for run in range(options.runs))
            runs = [simulate(level, items, models, options.generations, key) for key in keys]
            label = f"{items} items ({name}) | {level:g} | {kind} {at}".rstrip()
            print(f"| {label} | {differ:.0%} | {summary(runs)} |", flush=True)


def summary(runs: list[Run]) -> str:
    """The measured cells of a line."""
    promoted = np.array([float(run.promotions > 0) for run in runs])
    some = mean_interval(promoted, np.arange(len(runs)))
    risen = float(np.mean([run.risen for run in runs if run.promotions] or [0.0]))
    errors = float(np.mean([run.first for run in runs]))
    return f"{errors:.1%} | {some.value:.0%} [{some.low:.0%}, {some.high:.0%}] | {100 * risen:+.1f}"


def simulate(
    level: float,
    items: int,
    models: Callable[[int, np.random.Generator], Models],
    generations: int,
    key: Key,
) -> Run:
    """A run in which no candidate is better than its champion."""
    rng = key.numpy()
    first, candidate_of = models(items, rng)
    champion, promoted = first, []
    for generation in range(generations):
        candidate = candidate_of(champion, rng)
        promote = promotes(level, candidate - champion, key(generation))
        promoted.append(promote)
        champion = candidate if promote else champion
    return Run(promoted[0], sum(promoted), float(champion.mean() - first.mean()))


def promotes(level: float, differences: np.ndarray, key: Key) -> bool:
    """The decision on independent items, by the gate and the accountant."""
    items = np.arange(len(differences))
    result, _ = Paired().test(FixedEvidence({"gate": Differences(differences, items)}), level, {}, key)
    return decide(result, level).promote


def luck(accuracy: float, items: int, rng: np.random.Generator) -> Models:
    """Models that solve each item with its own chance."""
    chances = rng.beta(accuracy * SPREAD, (1 - accuracy) * SPREAD, items)

    def draw(champion: Outcomes, rng: np.random.Generator) -> Outcomes:
        return (rng.random(items) < chances).astype(float)

    return draw(chances, rng), draw


def drift(share: float, items: int, rng: np.random.Generator) -> Models:
    """Models that win or lose a share of the items, by chance; scores are counted from the first one's."""

    def draw(champion: Outcomes, rng: np.random.Generator) -> Outcomes:
        steps = rng.choice([-1, 0, 1], items, p=[share / 2, 1 - share, share / 2])
        outcomes: Outcomes = champion + steps
        return outcomes

    return np.zeros(items), draw


if __name__ == "__main__":
    main()
