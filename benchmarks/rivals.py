"""A weaker producer beside the better one, against the better one alone: equal compute, paired seeds.

    python -m benchmarks.rivals                    # seeds 0 to 9, seven minutes of one core
    python -m benchmarks.rivals --seeds 100 101 --by confidence
    python -m benchmarks.rivals --equal steps --arms alone nested others

Digits of `recipe=mnist`, with a small network and 1,000 unlabelled images. The parent begins with ten labels
of each class, or in the last two arms with 15 of 0 to 4 and two of 5 to 9. Its rival is trained before the
run as genesis is, and answers all prompts in each turn; it never gets better:

    alone        the parent; its answers are averaged over three distorted views and the plain image
    nested       beside it a rival that has four of the same ten labels of each class: weaker, errs alike
    others       a rival that has six other labels of each class: weaker, errs otherwise
    one view     the parent alone with one distorted view, as each of two producers has
    alone, half  the parent that knows half of the classes well
    apart, half  beside it a rival that knows the other half: eight labels of 5 to 9, one of 0 to 4

With two producers each has one distorted view. So arms, but for `one view`, have the same number of forward
passes to generate with, the same number of pseudo-labels, as the best of each group is kept, and the same
training steps. The better answer to an image is chosen by a vote that counts probabilities,
`Vote(weight="probability")`, or by the probability alone (`--by confidence`). Scored is the champion of the
end (`promotion=greedy`) on 2,750 sealed images, in percent. With `--equal steps` each producer has three
views: training steps and pseudo-labels are equal, and two producers have twice the passes to generate with.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from flywheel.recipes.mnist.digits import LABEL_POOL, Split, split
from flywheel.recipes.mnist.task import Mnist

import flywheel
from flywheel.metrics.intervals import t_interval

UNLABELLED = 1000
EVEN, HALF = (10,) * 10, (15,) * 5 + (2,) * 5
ARMS = {
    "alone": (EVEN, 3),
    "nested": (EVEN, 1),
    "others": (EVEN, 1),
    "one view": (EVEN, 1),
    "alone, half": (HALF, 3),
    "apart, half": (HALF, 1),
}
"""Of each class how many labels the parent begins with, and how many distorted views a producer has."""
RIVALS = {
    "nested": ((4,) * 10, 0),
    "others": ((6,) * 10, 10),
    "apart, half": ((1,) * 5 + (8,) * 5, 15),
}
"""How many a rival has, and the first of them; those of the parent begin at 0."""
PAIRS = (
    ("nested", "alone"),
    ("others", "alone"),
    ("apart, half", "alone, half"),
    ("nested", "one view"),
    ("others", "one view"),
)
VIEWS = 3
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
    equal: str
    folder: str

    def run(
        self, name: str, task: Digits, turns: int, views: int = 0, rival: Path | None = None
    ) -> flywheel.Run:
        """A run of the recipe, made small."""
        words = {
            "recipe": "mnist",
            "seed": self.seed,
            "name": re.sub(r"\W+", "_", name),
            "generations": turns,
        }
        words |= {"runs_dir": self.folder, "threads": 1, "log": "quiet"}
        words |= {"promotion": "greedy", "guards.gate_accuracy": None, "+curator.best_of_group": True}
        words |= {"settings.width": 12, "settings.steps": 150, "genesis_settings.steps": 150, **BY[self.by]}
        words |= {"settings.views": views, **({"+rivals.other.weights": str(rival)} if rival else {})}
        return flywheel.run(words, task=task)

    def scores(self, arm: str) -> tuple[float, float, float]:
        """Sealed accuracy in percent: of the champion of the end, of the genesis, of the rival or NaN."""
        (counts, views), rival = ARMS[arm], None
        if arm in RIVALS:
            theirs, first = RIVALS[arm]
            task = Digits(seed_value=self.seed, counts=theirs, first=first)
            rival = self.run(f"rival_{arm}", task, 0).champion()
        task = Digits(seed_value=self.seed, counts=counts)
        views = VIEWS if self.equal == "steps" else views
        made = self.run(arm, task, self.turns, views, rival.file if rival else None)
        champion, genesis = accuracy(made.champion()), accuracy(made.generation(0))
        return champion, genesis, accuracy(rival) if rival else np.nan


def accuracy(view: flywheel.api.GenerationView) -> float:
    """On the sealed images, in percent."""
    return 100 * float(view.metrics["sealed"]["accuracy"].value)


def one_seed(
    turns: int, by: str, equal: str, arms: Sequence[str], seed: int
) -> tuple[list[tuple[float, float, float]], float]:
    """The scores of these arms, and the seconds of CPU that they took."""
    import torch

    torch.set_num_threads(1)
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(seed, turns, by, equal, folder)
        return [bench.scores(arm) for arm in arms], time.process_time() - began


def main() -> None:
    """Run all arms on each seed and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--by", choices=BY, default="vote", help="what chooses among answers (vote)")
    parser.add_argument("--equal", choices=("passes", "steps"), default="passes", help="what is (passes)")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--jobs", type=int, default=2, help="processes, one thread each (2)")
    options = parser.parse_args()
    table, seconds = [], 0.0
    context = multiprocessing.get_context("spawn")  # forking after OpenMP has started hangs
    with context.Pool(options.jobs, maxtasksperchild=1) as pool:
        work = partial(one_seed, options.turns, options.by, options.equal, options.arms)
        for seed, (scores, took) in zip(options.seeds, pool.imap(work, options.seeds), strict=True):
            table.append(scores)
            seconds += took
            shown = (f"{arm} {score:.2f}" for arm, (score, *_) in zip(options.arms, scores, strict=True))
            print(f"seed {seed}: {', '.join(shown)}", flush=True)
    of_arm = dict(zip(options.arms, np.array(table).transpose(1, 2, 0), strict=True))  # each (3, seeds)
    for arm, figures in of_arm.items():
        champion, genesis, rival = (f"{value:.2f}" for value in figures.mean(1))
        print(f"{arm}: {champion}, from a genesis of {genesis} and a rival of {rival}")
    for both, alone in (pair for pair in PAIRS if set(pair) <= set(options.arms)):
        apart = of_arm[both][0] - of_arm[alone][0]
        found = t_interval(apart, 100 / 2750)
        print(
            f"{both} - {alone}: {found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}] points, 95%; "
            f"from {apart.min():+.2f} to {apart.max():+.2f}"
        )
    print(f"{seconds:.0f} s of CPU")


if __name__ == "__main__":
    main()
