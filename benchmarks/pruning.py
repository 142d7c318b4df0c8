"""What pruning trials at rungs saves, and what it costs the model, on paired seeds.

    python -m benchmarks.pruning mnist --seeds 730 731 732
    python -m benchmarks.pruning mnist -- generations=0    # of generation 0 alone
    python -m benchmarks.pruning mnist --table             # of the runs that are there

Two arms of a seed, both with `tuner=optuna`, the same number of trials, and no end before that: `pruned`
with the rungs of conf/tuner/optuna.yaml, `whole` with none. Scored is the champion of the end, on all items
of a sealed suite. The interval is a 95% t interval of the paired difference.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks.mnist import interval
from benchmarks.spoiled import SPOILED, fits_of_trials, path_of, read_options, run, score_of
from flywheel.experiments.controls import is_done

TUNER = ["tuner=optuna", "tuner.trials=12", "tuner.least_gain=0", "generations=2"]
ARMS = {"pruned": [], "whole": ["tuner.rungs=[]"]}


def main() -> None:
    """Run what is missing and print the table."""
    options = read_options(__doc__, list(SPOILED), "pruning", range(730, 740))
    if not options.table:
        with ThreadPoolExecutor(options.jobs) as pool:
            runs = [
                pool.submit(run, options, seed, arm, [*TUNER, *own, *options.overrides])
                for seed in options.seeds
                for arm, own in ARMS.items()
            ]
            for done in runs:
                done.result()
    print_table(options)


def print_table(options: argparse.Namespace) -> None:
    """Scores and whole fits of the trials, and the differences."""
    seeds = [s for s in options.seeds if all(is_done(path_of(options, s, arm)) for arm in ARMS)]
    paths = {arm: [path_of(options, seed, arm) for seed in seeds] for arm in ARMS}
    scores = {arm: np.array([score_of(path, SPOILED[options.recipe]) for path in paths[arm]]) for arm in ARMS}
    fits = {arm: np.array([sum(fits_of_trials(path).values()) for path in paths[arm]]) for arm in ARMS}
    print("| seed | pruned | whole | fits of trials, pruned | whole |\n|" + " --- |" * 5)
    for k, seed in enumerate(seeds):
        values = " | ".join(f"{scores[arm][k]:.4g}" for arm in ARMS)
        print(f"| {seed} | {values} |", " | ".join(f"{fits[arm][k]:.2f}" for arm in ARMS), "|")
    saved = 1 - fits["pruned"] / fits["whole"]
    print(f"\ncompute of trials saved: {saved.mean():.0%}, least {saved.min():.0%}")
    print(f"pruned - whole: {interval(scores['pruned'] - scores['whole'], '+')} points")


if __name__ == "__main__":
    main()
