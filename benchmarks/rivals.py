"""A weaker producer beside the better one, against the better one alone: equal compute, paired seeds.

    python -m benchmarks.rivals                    # seeds 0 to 9, five minutes of one core
    python -m benchmarks.rivals --seeds 100 101 --by confidence

Digits of `recipe=mnist`, with a small network and 1,000 unlabelled images. The parent begins with ten labels
of each class, or in the last two arms with ten of 0 to 4 and three of 5 to 9. Its rival is trained before the
run as genesis is, and answers all prompts in each turn; it never gets better:

    alone        the parent; its answers are averaged over three distorted views and the plain image
    nested       beside it a rival that has four of the same ten labels of each class: weaker, errs alike
    others       a rival that has six other labels of each class: weaker, errs otherwise
    alone, half  the parent that knows half of the classes well
    apart, half  beside it a rival that knows the other half: six labels of 5 to 9, one of 0 to 4

With two producers each has one distorted view. So arms have the same number of forward passes to generate
with, the same number of pseudo-labels, as the best of each group is kept, and the same training steps. The
better answer to an image is chosen by a vote that counts probabilities, `Vote(weight="probability")`, or by
the probability alone (`--by confidence`). Scored is the champion of the end (`promotion=greedy`) on 2,750
sealed images, in percent.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from flywheel.recipes.mnist.digits import LABEL_POOL, Split, split
from flywheel.recipes.mnist.task import Mnist

import flywheel
from flywheel.metrics.intervals import t_interval

UNLABELLED = 1000
EVEN, HALF = (10,) * 10, (10,) * 5 + (3,) * 5
ARMS = {"alone": EVEN, "nested": EVEN, "others": EVEN, "alone, half": HALF, "apart, half": HALF}
"""Of each class how many labels the parent begins with."""
RIVALS = {
    "nested": ((4,) * 10, 0),
    "others": ((6,) * 10, 10),
    "apart, half": ((1,) * 5 + (6,) * 5, 10),
}
"""How many a rival has, and the first of them; those of the parent begin at 0."""
PAIRS = (("nested", "alone"), ("others", "alone"), ("apart, half", "alone, half"))
VIEWS = {1: 3, 2: 1}
"""By the number of producers: all together see an image four times."""
BY = {
    "confidence": {},
    "vote": {
        "grader._target_": "flywheel.graders.Vote",
        "+grader.answer": "label",
        "+grader.weight": "probability",
        "+curator.score": "vote",
    },
}


@dataclass(kw_only=True)
class Digits(Mnist):  # type: ignore[misc] # recipes are found by name
    """Those of the recipe with other labels, fewer unlabelled images, and the rest of them sealed, too."""

    counts: tuple[int, ...] = EVEN
    """Labels of each class."""
    first: int = 0
    """The first of the 25 that each class has."""

    @cached_property
    def _split(self) -> Split:
        whole = split(self._digits[1], self.seed_value, LABEL_POOL)
        pools = whole.human.reshape(10, LABEL_POOL)
        chosen = [pool[self.first :][:count] for pool, count in zip(pools, self.counts, strict=True)]
        unlabelled, rest = np.split(whole.unlabelled, [UNLABELLED])
        sealed = np.concatenate([whole.sealed, rest])
        return replace(whole, human=np.concatenate(chosen), unlabelled=unlabelled, sealed=sealed)


@dataclass(frozen=True)
class Bench:
    """The runs of one seed."""

    seed: int
    turns: int
    by: str
    folder: str

    def run(self, name: str, task: Digits, turns: int, rival: Path | None = None) -> flywheel.Run:
        """A run of the recipe, made small."""
        words = {"recipe": "mnist", "seed": self.seed, "name": name.replace(", ", "_"), "generations": turns}
        words |= {"runs_dir": self.folder, "threads": 1, "log": "quiet"}
        words |= {"promotion": "greedy", "guards.gate_accuracy": None, "+curator.best_of_group": True}
        words |= {"settings.width": 12, "settings.steps": 150, "genesis_settings.steps": 150, **BY[self.by]}
        words |= {"settings.views": VIEWS[2 if rival else 1]}
        words |= {"+rivals.other.weights": str(rival)} if rival else {}
        return flywheel.run(words, task=task)

    def rival(self, arm: str) -> Path | None:
        """The weights of an arm's rival."""
        if arm not in RIVALS:
            return None
        counts, first = RIVALS[arm]
        task = Digits(seed_value=self.seed, counts=counts, first=first)
        return self.run(f"rival_{arm}", task, 0).champion().file

    def scores(self, arm: str) -> tuple[float, float, float]:
        """Sealed accuracy in percent: of the champion of the end, of the genesis, of the rival or NaN."""
        rival = self.rival(arm)
        made = self.run(arm, Digits(seed_value=self.seed, counts=ARMS[arm]), self.turns, rival)
        theirs = [flywheel.open_run(file.parents[2]).champion() for file in [rival] if file]
        views = [made.champion(), made.generation(0), *theirs]
        found = [100 * float(view.metrics["sealed"]["accuracy"].value) for view in views]
        return found[0], found[1], found[2] if theirs else np.nan


def main() -> None:
    """Run all arms on each seed and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--by", choices=BY, default="vote", help="what chooses among answers (vote)")
    options = parser.parse_args()
    table = []
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(seed, options.turns, options.by, folder)
            table.append([bench.scores(arm) for arm in ARMS])
        shown = (f"{arm} {score:.2f}" for arm, (score, *_) in zip(ARMS, table[-1], strict=True))
        print(f"seed {seed}: {', '.join(shown)}", flush=True)
    of_arm = dict(zip(ARMS, np.array(table).transpose(1, 2, 0), strict=True))  # each (3, seeds)
    for arm, figures in of_arm.items():
        champion, genesis, rival = (f"{value:.2f}" for value in figures.mean(1))
        print(f"{arm}: {champion}, from a genesis of {genesis} and a rival of {rival}")
    for both, alone in PAIRS:
        apart = of_arm[both][0] - of_arm[alone][0]
        found = t_interval(apart, 100 / 2750)
        print(
            f"{both} - {alone}: {found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}] points, 95%; "
            f"from {apart.min():+.2f} to {apart.max():+.2f}"
        )
    print(f"{time.process_time():.0f} s of CPU")


if __name__ == "__main__":
    main()
