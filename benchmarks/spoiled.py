"""Whether tuning finds back what bad settings cost, at equal optimiser steps, on paired seeds.

    python -m benchmarks.spoiled mnist
    python -m benchmarks.spoiled addition --seeds 210 211 --jobs 2
    python -m benchmarks.spoiled mnist --table             # of the runs that are there

Three arms of a seed:

    tuned       the recipe with the settings of ``SPOILED`` below, `tuner=optuna` and the trials given there
    spoiled     the same settings and no tuner, with so many turns that it does as many optimiser steps as the
                tuned arm did, its trials and their share of steps included, or more
    good        the recipe as committed, no tuner, with as many turns as `spoiled`; with ten where its
                newest generation solves all of the gate by then, so that nothing more can be promoted

Scored is the champion of the end, on all items of a sealed suite: points of accuracy, or digits. Recovered is
(tuned - spoiled) / (good - spoiled), of the means over seeds; its interval is the 2.5 and 97.5 percentile of
10,000 bootstrap draws of seeds.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flywheel.experiments.controls import is_done


@dataclass(frozen=True)
class Experiment:
    """What is done to a recipe, and what is looked at."""

    spoil: tuple[str, ...]
    """Learning rate, mixture and threshold."""
    every_arm: tuple[str, ...]
    tuned: tuple[str, ...]
    suite: str
    metric: str


SPOILED = {
    "mnist": Experiment(
        spoil=("settings.lr=0.0002", "settings.human_share=0.8", "settings.threshold=0.99"),
        every_arm=(),
        tuned=("generations=4", "tuner.trials=12"),
        suite="sealed",
        metric="accuracy",
    ),
    "addition": Experiment(
        spoil=(
            "settings.lr=0.0005",
            "settings.adam_lr=0.00005",
            "settings.newest=0.95",
            "settings.recent=0.05",
            "settings.threshold=0.9",
        ),
        # 40 digits, so that ten seeds take two hours on two cores; a genesis has settings of its own
        every_arm=("task.longest=40", "task.sealed_items=32", "tune.genesis=false"),
        tuned=("generations=8", "tuner.trials=8"),
        suite="uniform",
        metric="digits95",
    ),
}
FEW_TURNS = 10
ARMS = ("good", "spoiled", "tuned")


def main() -> None:
    """Run what is missing and print the table."""
    options = read_options(__doc__, list(SPOILED), "spoiled", range(210, 220))
    if not options.table:
        measure(options)
    print_table(options)


def read_options(page: str | None, recipes: list[str], folder: str, seeds: range) -> argparse.Namespace:
    """The options of a benchmark that runs arms of a recipe on paired seeds."""
    parser = argparse.ArgumentParser(description=page, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe", choices=recipes)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(seeds))
    parser.add_argument("--jobs", type=int, default=2, help="runs at once, one thread each")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs/benchmark", folder))
    parser.add_argument("--table", action="store_true", help="only print the table of the runs that are done")
    parser.add_argument("overrides", nargs="*", help="of all runs, after --")
    return parser.parse_intermixed_args()


def measure(options: argparse.Namespace) -> None:
    """All arms of all seeds, seed by seed; how many turns the others have follows from the tuned one."""
    with ThreadPoolExecutor(options.jobs) as pool:
        for _ in pool.map(lambda seed: measure_seed(options, seed), options.seeds):
            pass


def measure_seed(options: argparse.Namespace, seed: int) -> None:
    """The three arms of a seed."""
    one = SPOILED[options.recipe]
    tuned = run(options, seed, "tuned", [*one.every_arm, *one.spoil, "tuner=optuna", *one.tuned])
    count = turns_for(tuned)
    run(options, seed, "spoiled", [*one.every_arm, *one.spoil, f"generations={count}"])
    for most in sorted({min(count, FEW_TURNS), count}):
        good = run_good(options, seed, most)
        if solves_the_gate(good):
            break


def run_good(options: argparse.Namespace, seed: int, most: int) -> Path:
    """The good arm with so many turns, or more if it has come further already."""
    path, every_arm = path_of(options, seed, "good"), SPOILED[options.recipe].every_arm
    made = turns(path) if (path / "ledger.jsonl").exists() else 0
    if made < most or (made == most and not is_done(path)):
        own = [*every_arm, f"generations={most}", *(["seal=reopen"] if made else [])]
        run(options, seed, "good", own, again=True)
    return path


def run(options: argparse.Namespace, seed: int, arm: str, own: list[str], *, again: bool = False) -> Path:
    """Run it by the command that a user gives, on one thread; go on with one that was cut off."""
    path, name = path_of(options, seed, arm), f"{arm}-s{seed}"
    given = [f"recipe={options.recipe}", f"seed={seed}", f"name={name}", "threads=1", "log=quiet"]
    words = [*given, f"runs_dir={options.runs_dir}", *options.overrides, *own]
    if again or not is_done(path):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "FLYWHEEL_REPORT": "none"}
        subprocess.run([sys.executable, "-m", "flywheel", *words], check=True, env=environment)
    return path


def path_of(options: argparse.Namespace, seed: int, arm: str) -> Path:
    """Where the run of an arm is."""
    folder: Path = options.runs_dir / options.recipe
    return folder / f"{arm}-s{seed}"


def solves_the_gate(path: Path) -> bool:
    """Whether the newest generation that was evaluated has no item of the gate left to win."""
    from flywheel.lineage.status import read_state

    evaluated = [g.evaluate.facts.metrics for g in read_state(path).generations if g.evaluate]
    return all(estimate.value == 1 for estimate in evaluated[-1]["gate"].values())


def fits_of_trials(path: Path) -> dict[int, float]:
    """What the trials of each generation that was trained did, in whole fits."""
    from flywheel.lineage.status import read_state
    from flywheel.storage.store import Store

    store, fits = Store(path), {}
    for generation in read_state(path).generations:
        if generation.train:
            trials = generation.output("tune", "trials")
            fits[generation.number] = (
                float(sum(r.get("share", 0.0) for r in store.json(trials))) if trials else 0.0
            )
    return fits


def turns_for(path: Path) -> int:
    """Turns after which a run with no tuner has done as many steps as this one, trials included."""
    from flywheel.lineage.status import read_state

    generations = read_state(path).generations
    steps = {g.number: g.train.facts.steps for g in generations if g.train and g.refit_of is None}
    every = sum(
        steps[number] * (1 + fits) for number, fits in fits_of_trials(path).items() if number in steps
    )
    return math.ceil((every - steps[0]) / steps[max(steps)])


def score_of(path: Path, experiment: Experiment) -> float:
    """What the champion reaches on the sealed suite that is scored."""
    from flywheel.lineage.status import read_state

    state = read_state(path)
    assert state.champion is not None
    metrics = state.sealed[state.champion.number].facts.metrics
    return float(metrics[experiment.suite][experiment.metric].value)


def print_table(options: argparse.Namespace) -> None:
    """The scores of the arms, and the share that was recovered."""
    seeds = [s for s in options.seeds if all(is_done(path_of(options, s, arm)) for arm in ARMS)]
    if not seeds:
        raise SystemExit(f"No seed has all of {', '.join(ARMS)} in {options.runs_dir} yet.")
    one = SPOILED[options.recipe]
    scores = {arm: np.array([score_of(path_of(options, s, arm), one) for s in seeds]) for arm in ARMS}
    print(f"{options.recipe}, {one.metric} on {one.suite}, spoiled by {' '.join(one.spoil)}; seeds {seeds}\n")
    print(
        "| seed |",
        " | ".join([*ARMS, "turns of good", "of spoiled", "trials of tuned"]),
        "|\n|" + " --- |" * 7,
    )
    for k, seed in enumerate(seeds):
        values = " | ".join(f"{scores[arm][k]:.4g}" for arm in ARMS)
        print(
            f"| {seed} | {values} | {turns(path_of(options, seed, 'good'))} "
            f"| {turns(path_of(options, seed, 'spoiled'))} | {trials(path_of(options, seed, 'tuned'))} |"
        )
    for name, method in (("mean", "mean"), ("worst", "min")):
        print(f"| {name} |", " | ".join(f"{getattr(scores[arm], method)():.4g}" for arm in ARMS), "| | | |")
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(seeds), (10_000, len(seeds)))
    low, high = np.percentile(recovered(scores, draws), [2.5, 97.5])
    (whole,) = recovered(scores, np.arange(len(seeds))[None])
    print(f"\nrecovered {whole:.0%} [{low:.0%}, {high:.0%}]")


def recovered(scores: dict[str, np.ndarray], draws: np.ndarray) -> np.ndarray:
    """The share of the distance that tuning finds back, of each draw of seeds."""
    good, spoiled, tuned = (scores[arm][draws].mean(1) for arm in ARMS)
    share: np.ndarray = (tuned - spoiled) / (good - spoiled)
    return share


def turns(path: Path) -> int:
    """Turns of a run."""
    from flywheel.lineage.status import read_state

    return sum(g.is_turn for g in read_state(path).generations)


def trials(path: Path) -> str:
    """Trials of each generation of a run."""
    from flywheel.lineage.status import read_state

    counts: list[Any] = [g.tune.facts.units for g in read_state(path).generations if g.tune]
    return " ".join(str(units.count if units else 0) for units in counts)


if __name__ == "__main__":
    main()
