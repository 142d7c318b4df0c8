"""`promotion=frontier` and `promotion=greedy` against `promotion=each`, on paired seeds.

    python -m benchmarks.promotion mnist --seeds 400 401 402       # a minute and a half a run
    python -m benchmarks.promotion addition --seeds 40 41 -- generations=8 task.sealed_items=16
    python -m benchmarks.promotion mnist --rules each greedy -- guards.gate_accuracy=null
    python -m benchmarks.promotion mnist --recorded runs/mnist/*   # runs that are done

All runs of a seed have the same settings, number of turns and steps, and so the same compute but for what is
evaluated. Compared are

    sealed      the champion's mean score on all items of the sealed suites, looked at once, at the end
    built on    the best mean score on dev of what the next generation would build on: champion or frontier
    turns to    the first turn after which that is at least the median, over seeds, of what `each` ends with;
                a run that does not get there counts as one turn more than it has

A run that is done is not run again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.mnist import interval as shares_interval
from flywheel.experiments.controls import is_done

RULES = ("each", "frontier", "greedy")
RESOLUTION = 1e-4


interval = partial(shares_interval, resolution=RESOLUTION)


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--rules", nargs="+", default=list(RULES[:2]), choices=RULES)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs/benchmark"))
    parser.add_argument("--recorded", type=Path, nargs="+", metavar="RUN", help="only tell of these runs")
    parser.add_argument("overrides", nargs="*", help="of all runs, after --")
    options = parser.parse_intermixed_args()
    runs = options.recorded or [run(options, seed, rule) for seed in options.seeds for rule in options.rules]
    done = [path for path in runs if is_done(path)]
    print_table([recorded(path) for path in done])


def run(options: argparse.Namespace, seed: int, rule: str) -> Path:
    """Run it by the command that a user gives, on one thread; go on with one that was cut off."""
    name = f"{rule}-s{seed}"
    given = [f"recipe={options.recipe}", f"seed={seed}", f"promotion={rule}", f"name={name}", "threads=1"]
    given += [f"runs_dir={options.runs_dir}", "log=quiet", *options.overrides]
    path: Path = options.runs_dir / options.recipe / name
    if not is_done(path):
        subprocess.run([sys.executable, "-m", "flywheel", *given], check=True)
    return path


def recorded(path: Path) -> dict[str, Any]:
    """A run that is done: its seed, rule, figures, and the seconds of its stages, sealed looks left out."""
    from flywheel.lineage.status import read_state
    from flywheel.storage.store import Store

    state, store = read_state(path), Store(path)
    assert state.created is not None
    assert state.champion is not None
    dev = [about["name"] for about in state.created.data.values() if about.get("role") == "dev"]

    def mean(outcomes: str, suites: list[str] | None = None) -> float:
        rows = store.table(outcomes)
        chosen = np.isin(rows["suite"].to_numpy(), suites) if suites else np.ones(len(rows), bool)
        return float(rows["score"].to_numpy()[chosen].mean())

    def on_dev(generation: Any) -> float:
        done = generation.screen or generation.evaluate
        return mean(done.outputs["outcomes"], dev)

    built_on, best = [], 0.0
    for generation in state.generations:
        if generation.status in ("promoted", "advanced"):
            best = max(best, on_dev(generation))
        built_on.append(best)
    sealed = state.sealed[state.champion.number]
    return {
        "seed": state.created.config["seed"],
        "rule": state.promotion.rule,
        "sealed": mean(sealed.outputs["outcomes"]),
        "built on": built_on,
        "promoted": sum(g.status == "promoted" and g.is_turn for g in state.generations),
        "looks": len(state.looks),
        "seconds": state.seconds - sum(look.cost.seconds for look in state.sealed.values()),
    }


def print_table(rows: list[dict[str, Any]]) -> None:
    """Means with 95% t intervals, and paired differences to ``each``."""
    by_rule: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for row in rows:
        by_rule[row["rule"]][row["seed"]] = row
    seeds = sorted(set.intersection(*(set(runs) for runs in by_rule.values())))
    level = float(np.median([by_rule["each"][seed]["built on"][-1] for seed in seeds]))
    print(f"{len(seeds)} paired seeds: {', '.join(map(str, seeds))}; in %\n")
    print("| rule | sealed | worst | rule - each | built on | promoted | looks | seconds |", end="")
    print(f" turns to {100 * level:.1f} on dev |\n|{' --- |' * 9}")
    for rule in (rule for rule in RULES if rule in by_rule):
        runs = [by_rule[rule][seed] for seed in seeds]
        sealed, each = (np.array([by_rule[r][seed]["sealed"] for seed in seeds]) for r in (rule, "each"))
        gain = interval(sealed - each, "+") if rule != "each" else ""
        means = [np.mean([run[key] for run in runs]) for key in ("promoted", "looks", "seconds")]
        built = interval(np.array([run["built on"][-1] for run in runs]))
        turns = np.median([turns_to(run["built on"], level) for run in runs])
        print(f"| {rule} | {interval(sealed)} | {100 * sealed.min():.2f} | {gain} | {built} |", end="")
        print(f" {means[0]:.1f} | {means[1]:.1f} | {means[2]:.0f} | {turns:g} |")


def turns_to(built_on: list[float], level: float) -> int:
    """The first turn after which the level is reached."""
    return next((turn for turn, value in enumerate(built_on) if value >= level), len(built_on))


if __name__ == "__main__":
    main()
