"""What the gate's promise is worth, simulated: errors over whole runs, power, and the tests that were tried.

    python -m benchmarks.evidence                  # all tables of docs/gates.md: half an hour on one core
    python -m benchmarks.evidence --quick          # fewer runs and items: about a minute
    python -m benchmarks.evidence --only runs --kinds skew --items 200

runs    of 100 runs of 20 generations, those that ever promoted a candidate whose true mean is not above that
        of the champion it replaces. "nothing": no candidate is better; "gains": three of the first ten are,
        by 1, 2 and 4 points, and none after them. A quarter of the runs were planned with 12 looks and
        extended to 20; a quarter are forked at some generation, on the same items; before 5% of generations
        the champion is recalled, for the one before it or the first; 5% of looks are cut off and done again.
        Candidates: see ``benchmarks.candidates``
power   how often a gain is seen at the first of 20 looks, and at the look after a promotion (of 5 points),
        beside Bonferroni with the same test, items and reserve
tests   of 100 single comparisons without a gain, and with one, those that a test passes at two levels
search  for distributions for which the gate's test errs more often than it says

Other rules are for games that are won or lost. Here a game is an item on which candidate and champion differ,
in the suite's order; who scores more has won it. The functions say what each does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from benchmarks.candidates import KINDS, Kind, Population
from flywheel.gates.paired import Paired
from flywheel.gates.statistics import bounded_mean
from flywheel.keys import Key
from flywheel.metrics.intervals import mean_interval
from flywheel.records import Differences
from flywheel.storage.accountant import ErrorBudget, reaches
from flywheel.testing import FixedEvidence

ALPHA = 0.05
GENERATIONS = 20
ITEMS = (200, 750, 2000)
GAINS = (0.005, 0.01, 0.02, 0.05)
TABLES = ("runs", "power", "tests", "search")
BATCH = 250
"""Runs that are simulated together: bounds the memory."""

Test = Callable[[np.ndarray, np.ndarray], float]
"""p of differences, shape (items,), and their clusters."""


class Gate:
    """The gate's p-values. What it answered to the same differences is not asked again."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes, int], float] = {}

    def __call__(self, differences: np.ndarray, clusters: np.ndarray) -> float:
        """P is 1 without an effect; otherwise it depends on the clusters' sums only."""
        if differences.mean() <= 0:
            return 1.0
        sums, counts = np.unique(np.round(np.bincount(clusters, differences), 9), return_counts=True)
        if len(sums) > 100:
            return _asked(differences, clusters)
        key = (sums.tobytes(), counts.tobytes(), len(differences))
        if key not in self._known:
            self._known[key] = _asked(differences, clusters)
        return self._known[key]


def _asked(differences: np.ndarray, clusters: np.ndarray) -> float:
    evidence = FixedEvidence({"gate": Differences(differences, clusters)})
    result, _ = Paired().test(evidence, ALPHA, {}, Key.root(0))
    assert result.p_value is not None
    return result.p_value


@dataclass(frozen=True)
class Plan:
    """What happens in runs, whatever is promoted: arrays of shape (runs, generations), or (runs,)."""

    gains: np.ndarray
    """True mean of a candidate above its champion's."""
    recalls: np.ndarray
    """0: none, 1: the champion before this one comes back, 2: the first one."""
    restarts: np.ndarray
    """Whether the look is cut off and done again."""
    planned: np.ndarray
    """Looks planned when the run began."""
    forks: np.ndarray
    """The generation before which the run is forked and goes on as the fork; beyond the last one: never."""

    def __getitem__(self, runs: slice) -> Plan:
        """The plan of some runs."""
        return Plan(*(getattr(self, name)[runs] for name in self.__dataclass_fields__))


def plan(gains: bool, runs: int, rng: np.random.Generator) -> Plan:
    """What happens in runs; with ``gains``, three of the first ten candidates are better."""
    better = np.zeros((runs, GENERATIONS))
    if gains:
        when = rng.permuted(np.tile(np.arange(10), (runs, 1)), axis=1)[:, :3]
        np.put_along_axis(better, when, np.array([0.01, 0.02, 0.04]), axis=1)
    shape = (runs, GENERATIONS)
    forks = np.where(rng.random(runs) < 0.25, rng.integers(1, GENERATIONS, runs), GENERATIONS)
    return Plan(
        gains=better,
        recalls=np.where(rng.random(shape) < 0.05, rng.integers(1, 3, shape), 0),
        restarts=rng.random(shape) < 0.05,
        planned=np.where(rng.random(runs) < 0.25, 12, GENERATIONS),
        forks=forks,
    )


class Rule:
    """When a candidate is promoted, in many runs at once."""

    def begin(self, plan: Plan) -> None:
        """Before the first generation of these runs."""

    def promotes(
        self, runs: np.ndarray, generation: int, differences: np.ndarray, clusters: np.ndarray
    ) -> np.ndarray:
        """Of each of ``runs`` (numbers in the plan), whether its candidate is promoted."""
        raise NotImplementedError


@dataclass
class Fixed(Rule):
    """A rule that knows the differences only, as all of the others do."""

    rule: Callable[[np.ndarray], np.ndarray]

    def promotes(
        self, runs: np.ndarray, generation: int, differences: np.ndarray, clusters: np.ndarray
    ) -> np.ndarray:
        """The rule's answer."""
        return self.rule(differences)


@dataclass
class PerComparison(Rule):
    """A test at the whole of alpha, however many looks there are."""

    test: Test

    def promotes(
        self, runs: np.ndarray, generation: int, differences: np.ndarray, clusters: np.ndarray
    ) -> np.ndarray:
        """The test's answer."""
        return np.array([self.test(row, clusters) <= ALPHA for row in differences])


@dataclass
class Account:
    """What the accountant reads of a run's ledger."""

    budget: ErrorBudget
    looks: int = 0
    passed_on: float = 0.0
    """The level of the last look, if that made the champion in force."""

    def level(self) -> float:
        """Of the next look: as often as it is asked, the same."""
        return self.budget.level(self.looks + 1, self.passed_on)

    def charge(self, promoted: bool) -> None:
        """A look has been taken."""
        level = self.level()
        self.looks += 1
        self.passed_on = level if promoted else 0.0

    def fork(self, looks: int) -> Account:
        """The account of a run that goes on on the same items."""
        spent = self.budget.spent + self.budget.charged(self.looks)
        return Account(ErrorBudget(self.budget.alpha, looks, spent=spent))


@dataclass
class Accounted(Rule):
    """A test at the levels that the accountant gives, over recalls, restarts, extensions and forks."""

    test: Test
    _plan: Plan | None = None
    _accounts: list[Account] = field(default_factory=list)

    def begin(self, plan: Plan) -> None:
        """Open the accounts."""
        self._plan = plan
        self._accounts = [Account(ErrorBudget(ALPHA, int(looks))) for looks in plan.planned]

    def promotes(
        self, runs: np.ndarray, generation: int, differences: np.ndarray, clusters: np.ndarray
    ) -> np.ndarray:
        """The accountant's decisions."""
        return np.array(
            [self._look(run, generation, row, clusters) for run, row in zip(runs, differences, strict=True)]
        )

    def _look(self, run: int, generation: int, differences: np.ndarray, clusters: np.ndarray) -> bool:
        assert self._plan is not None
        if self._plan.forks[run] == generation:
            self._accounts[run] = self._accounts[run].fork(GENERATIONS - generation)
        account = self._accounts[run]
        if self._plan.recalls[run, generation]:
            account.passed_on = 0.0
        for _ in range(1 + self._plan.restarts[run, generation]):  # a look that is done again is the same one
            promote = reaches(self.test(differences, clusters), None, account.level())
        account.charge(promote)
        return promote


def games(differences: np.ndarray, most: int) -> np.ndarray:
    """1 for each of the first ``most`` items that the candidate wins, -1 for those that it loses, else 0."""
    results: np.ndarray = np.sign(differences)
    results[np.cumsum(results != 0, axis=1) > most] = 0
    return results


def katago(differences: np.ndarray) -> np.ndarray:
    """KataGo's gatekeeper: 200 games, at least half of the points; a tie promotes."""
    promotes: np.ndarray = games(differences, 200).sum(axis=1) >= 0
    return promotes


def alphazero(differences: np.ndarray) -> np.ndarray:
    """AlphaZero.jl, as for connect four: the mean reward of 128 games, in [-1, 1], is at least .05."""
    played = games(differences, 128)
    count = np.abs(played).sum(axis=1)
    promotes: np.ndarray = (count > 0) & (played.sum(axis=1) >= 0.05 * count)
    return promotes


def leela_zero(differences: np.ndarray) -> np.ndarray:
    """leela-zero: SPRT of 0 against 35 Elo (5%, 5%) over 400 games; undecided: more than 55% of them."""
    played = games(differences, 400)
    strong = 1 / (1 + 10 ** (-35 / 400))
    steps = np.where(played > 0, np.log(2 * strong), np.where(played < 0, np.log(2 * (1 - strong)), 0.0))
    ratio, bound = np.cumsum(steps, axis=1), np.log(0.95 / 0.05)
    up, down = ((sign * ratio >= bound).argmax(axis=1) for sign in (1, -1))
    passed, failed = (ratio >= bound).any(axis=1), (ratio <= -bound).any(axis=1)
    wins, count = (played > 0).sum(axis=1), np.abs(played).sum(axis=1)
    promotes: np.ndarray = np.where(passed | failed, passed & (~failed | (up < down)), wins > 0.55 * count)
    return promotes


def one_error(differences: np.ndarray) -> np.ndarray:
    """One standard error: the mean difference is more than its standard error, items taken as independent."""
    n = differences.shape[1]
    promotes: np.ndarray = differences.mean(axis=1) > differences.std(axis=1, ddof=1) / np.sqrt(n)
    return promotes


def rules(gate: Test) -> dict[str, Rule]:
    """What is compared: ours first."""
    return {
        "flywheel": Accounted(gate),
        "each at alpha": PerComparison(gate),
        "KataGo": Fixed(katago),
        "AlphaZero.jl": Fixed(alphazero),
        "leela-zero": Fixed(leela_zero),
        "one SE": Fixed(one_error),
    }


@dataclass
class Runs:
    """Where runs are: arrays whose first axis is the run."""

    number: np.ndarray
    population: Population
    champion: np.ndarray
    before: np.ndarray
    first: np.ndarray
    quality: np.ndarray
    """True mean above the first champion's: of champion, of the one before, of the first; shape (runs, 3)."""

    def __getitem__(self, runs: np.ndarray) -> Runs:
        """Some of them."""
        population = tuple(array[runs] for array in self.population)
        scores = (self.champion[runs], self.before[runs], self.first[runs])
        return Runs(self.number[runs], population, *scores, self.quality[runs])

    def recall(self, how: np.ndarray) -> None:
        """The champion before (1) or the first one (2) comes back."""
        for code, scores in ((1, self.before), (2, self.first)):
            self.champion[how == code] = scores[how == code]
            self.quality[how == code, 0] = self.quality[how == code, code]

    def promote(self, promoted: np.ndarray, scores: np.ndarray, quality: np.ndarray) -> None:
        """Candidates become champions."""
        self.before[promoted] = self.champion[promoted]
        self.quality[promoted, 1] = self.quality[promoted, 0]
        self.champion[promoted] = scores[promoted]
        self.quality[promoted, 0] = quality[promoted]


def errors(rule: Rule, kind: Kind, items: int, gains: bool, runs: int, key: Key) -> np.ndarray:
    """Of each run, whether it ever promoted a candidate that was no better than its champion."""
    erred = np.zeros(runs, bool)
    everything = plan(gains, runs, key("plan").numpy())
    for start in range(0, runs, BATCH):
        part = slice(start, min(start + BATCH, runs))
        erred[part] = _errors(rule, kind, items, everything[part], key("batch", start).numpy())
    return erred


def _errors(rule: Rule, kind: Kind, items: int, plan: Plan, rng: np.random.Generator) -> np.ndarray:
    count, clusters = len(plan.gains), kind.clusters(items)
    population, first = kind.first(count, items, rng)
    runs = Runs(np.arange(count), population, first, first.copy(), first.copy(), np.zeros((count, 3)))
    erred = np.zeros(count, bool)
    rule.begin(plan)
    for generation in range(GENERATIONS):
        runs.recall(plan.recalls[runs.number, generation])
        gain = plan.gains[runs.number, generation]
        quality = runs.quality[:, 0] + gain
        scores = kind.candidate(runs.population, runs.champion, quality, gain, rng)
        promoted = rule.promotes(runs.number, generation, scores - runs.champion, clusters)
        wrong = promoted & (gain <= 0)
        erred[runs.number[wrong]] = True
        runs.promote(promoted, scores, quality)
        runs = runs[~wrong]  # one error is all that is asked for
        if not len(runs.number):
            break
    return erred


def p_values(
    test: Test, kind: Kind, items: int, gain: float, runs: int, key: Key
) -> Iterator[tuple[float, float]]:
    """Of candidates with a gain: p at the first look, and p at the look after one of 5 points was promoted.

    That is NaN where the one of 5 points was not promoted.
    """
    first_level, clusters = Account(ErrorBudget(ALPHA, GENERATIONS)).level(), kind.clusters(items)
    for start in range(0, runs, BATCH):
        count = min(BATCH, runs - start)
        rng = key(start).numpy()
        population, champion = kind.first(count, items, rng)
        small, large = np.full(count, gain), np.full(count, 0.05)
        once = kind.candidate(population, champion, small, small, rng)
        better = kind.candidate(population, champion, large, large, rng)
        twice = kind.candidate(population, better, small + large, small, rng)
        for k in range(count):
            promoted = test(better[k] - champion[k], clusters) <= first_level
            after = test(twice[k] - better[k], clusters) if promoted else np.nan
            yield test(once[k] - champion[k], clusters), after


def after_a_promotion() -> tuple[float, float]:
    """The levels of the first look, and of the second where the first one promoted."""
    account = Account(ErrorBudget(ALPHA, GENERATIONS))
    first = account.level()
    account.charge(True)
    return first, account.level()


DRAWS = 8000
"""Of a resampling test: 20 a level of .0025."""


class SignFlips:
    """The permutation test of whole clusters: valid where differences are as likely of the other sign."""

    def __init__(self, clusters: int, rng: np.random.Generator) -> None:
        self._signs = 1.0 - 2 * rng.integers(0, 2, (DRAWS, clusters), dtype=np.int8)

    def __call__(self, differences: np.ndarray, clusters: np.ndarray) -> float:
        """By 8,000 flips and the observed."""
        sums = np.bincount(clusters, differences)
        hits = np.count_nonzero(self._signs @ sums >= sums.sum() - 1e-9)
        return (1 + hits) / (DRAWS + 1) if sums.sum() > 0 else 1.0


class Studentised:
    """The bootstrap of the t statistic over clusters."""

    def __init__(self, clusters: int, rng: np.random.Generator) -> None:
        self._counts = rng.multinomial(clusters, np.full(clusters, 1 / clusters), DRAWS).astype(float)
        self._once = np.ones((1, clusters))

    def __call__(self, differences: np.ndarray, clusters: np.ndarray) -> float:
        """By 8,000 resamples and the observed; without any spread it is the least there is."""
        sums, sizes = np.bincount(clusters, differences), np.bincount(clusters)
        if sums.sum() <= 0:
            return 1.0
        mean, error = _ratio(self._once, sums, sizes)
        if not error:
            return 1 / (DRAWS + 1)
        means, errors = _ratio(self._counts, sums, sizes)
        with np.errstate(divide="ignore", invalid="ignore"):
            hits = np.count_nonzero((means - mean) / errors >= mean / error)
        return (1 + hits) / (DRAWS + 1)


def _ratio(counts: np.ndarray, sums: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over items, and their standard errors, of clusters that are drawn so often, in rows."""
    total, items, squares, products, sizes2 = (
        counts @ np.stack([sums, sizes, sums**2, sums * sizes, sizes**2], axis=1)
    ).T
    means = total / items
    spread = np.maximum(squares - 2 * means * products + means**2 * sizes2, 0)
    return means, np.sqrt(np.where(spread > 1e-12, spread, 0)) / items


Distribution = tuple[np.ndarray, np.ndarray]
"""Values of a difference, and their chances."""


def exceedance(rng: np.random.Generator) -> tuple[float, float]:
    """How many times the level a random distribution without a gain passes it: at most .5, and above.

    Counted, not simulated: 2 to 5 independent differences with 2 or 3 values each and the mean 0, alike or
    each with its own distribution and cluster size. The most of all levels.
    """
    n = int(rng.integers(2, 6))
    sizes = rng.choice([1.0, 2.0, 5.0, 20.0], n) if rng.random() < 0.5 else np.ones(n)
    alike = rng.random() < 0.3 and len(set(sizes)) == 1
    parts = [_distribution(size, 3 if n < 5 else 2, rng) for size in sizes]
    parts = _without_gain([parts[0]] * n if alike else parts)
    p_values, chances = [], []
    for places in product(*(range(len(part[0])) for part in parts)):
        differences = np.array([values[k] for k, (values, _) in zip(places, parts, strict=True)])
        better = differences.sum() > 1e-9
        p_values.append(bounded_mean(differences, -sizes.max()) if better else 1.0)
        chances.append(np.prod([part[1][k] for k, part in zip(places, parts, strict=True)]))
    order = np.argsort(p_values)
    level = np.array(p_values)[order]
    ratio = np.cumsum(np.array(chances)[order]) / level
    last = np.append(level[1:] > level[:-1], True)  # equal p-values are passed together
    low, high = (float(np.max(ratio[last & part], initial=0)) for part in (level <= 0.5, level > 0.5))
    return low, high


def _distribution(size: float, count: int, rng: np.random.Generator) -> Distribution:
    """Often with the worst value among its own, and with rare ones."""
    values = np.sort(rng.uniform(-1, 1, count))
    values[0] = -1 if rng.random() < 0.6 else values[0]
    return size * values, rng.dirichlet(np.full(count, rng.choice([0.3, 1, 3])))


def _without_gain(parts: list[Distribution]) -> list[Distribution]:
    """Gains or losses are made smaller until they are as large as the others together."""
    gains = sum(float(np.maximum(values, 0) @ chances) for values, chances in parts)
    losses = sum(float(-np.minimum(values, 0) @ chances) for values, chances in parts)
    less = min(gains, losses)
    up, down = (less / side if side else 0.0 for side in (gains, losses))
    return [(np.where(values > 0, up * values, down * values), chances) for values, chances in parts]


def show_search(count: int) -> None:
    """How the gate's test does for random distributions."""
    found = np.array([exceedance(Key.root(0)("search", k).numpy()) for k in range(count)])
    low, high = found.max(axis=0)
    print(f"\n{count} random distributions without a gain, by enumeration: the chance of p <= x is at most")
    print(f"{low:.4f} x for x <= .5, and {high:.4f} x above")


def show_runs(kinds: Sequence[str], items: Sequence[int], runs: int) -> None:
    """The table of whole runs."""
    names = [*rules(Gate())]
    print(f"\n{runs} runs of {GENERATIONS} generations, alpha {ALPHA:g}\n")
    print("| candidates | items | " + " | ".join(names) + " |")
    print("| --- | --- |" + " --- |" * len(names))
    for name, gains, n in product(kinds, (False, True), items):
        key = Key.root(0)("runs", name, n, int(gains))
        shares = [
            errors(rule, KINDS[name], n, gains, runs, key).astype(float) for rule in rules(Gate()).values()
        ]
        ours = mean_interval(shares[0], np.arange(runs))
        cells = [f"{ours.value:.1%} [{ours.low:.1%}, {ours.high:.1%}]"]
        cells += [f"{share.mean():.0%}" for share in shares[1:]]
        label = f"{name}, {'gains' if gains else 'nothing'}"
        print(f"| {label} | {n} | " + " | ".join(cells) + " |", flush=True)


def show_power(kinds: Sequence[str], items: Sequence[int], runs: int) -> None:
    """The table of power."""
    first, second = after_a_promotion()
    print(
        f"\n{runs} candidates, {GENERATIONS} looks, alpha {ALPHA:g}: "
        f"level {first:g}, after a promotion {second:g}; Bonferroni {first:g}\n"
    )
    print("| candidates | items | gain | first look | Bonferroni | after a promotion | Bonferroni | of |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    gate, most = Gate(), (0.0, "")
    for name, n, gain in product(kinds, items, GAINS):
        key = Key.root(0)("power", name, n, str(gain))
        once, after = np.array([*p_values(gate, KINDS[name], n, gain, runs, key)]).T
        after = after[~np.isnan(after)]
        cells = [f"{np.mean(once <= first):.0%}"] * 2
        enough = len(after) >= 100
        cells += [f"{np.mean(after <= level):.0%}" if enough else "-" for level in (second, first)]
        more = float(np.mean(once <= ALPHA / GENERATIONS) - np.mean(once <= first))
        most = max(most, (more, f"{name}, {n} items, {gain:.1%}"))
        print(f"| {name} | {n} | {gain:.1%} | " + " | ".join(cells) + f" | {len(after)} |", flush=True)
    print(f"\nWithout the reserve the first look sees at most {100 * most[0]:.1f} points more: {most[1]}")


def tests_of(clusters: int) -> dict[str, Test]:
    """What was tried, for so many clusters."""
    rng = Key.root(0)("resampling").numpy()
    return {
        "sign flips": SignFlips(clusters, rng),
        "studentised bootstrap": Studentised(clusters, rng),
        "the gate": Gate(),
    }


def show_tests(kinds: Sequence[str], items: Sequence[int], runs: int) -> None:
    """The table of single comparisons, without a gain and with one of 2 points."""
    levels = (0.05, 0.0025)
    print(f"\n{runs} comparisons; no gain: errors, 2 points: power; at the levels .05 and .0025\n")
    print("| candidates | items | gain | " + " | ".join(tests_of(1)) + " |")
    print("| --- | --- | --- |" + " --- |" * len(tests_of(1)))
    for name, n, gain in product(kinds, items, (0.0, 0.02)):
        kind, cells = KINDS[name], []
        for test in tests_of(kind.clusters(n)[-1] + 1).values():
            rng = Key.root(0)("tests", name, n, str(gain)).numpy()
            population, champion = kind.first(runs, n, rng)
            gains = np.full(runs, gain)
            scores = kind.candidate(population, champion, gains, gains, rng)
            p = np.array([test(row, kind.clusters(n)) for row in scores - champion])
            cells.append(", ".join(f"{np.mean(p <= level):.2%}" for level in levels))
        print(f"| {name} | {n} | {gain:.0%} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=TABLES, default=TABLES)
    parser.add_argument("--kinds", nargs="+", choices=tuple(KINDS), default=tuple(KINDS))
    parser.add_argument("--items", nargs="+", type=int, default=ITEMS)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--quick", action="store_true", help="100 runs, 200 and 750 items")
    options = parser.parse_args()
    items, runs = ((200, 750), 100) if options.quick else (options.items, options.runs)
    if "runs" in options.only:
        show_runs(options.kinds, items, runs)
    if "power" in options.only:
        show_power(options.kinds, items, runs)
    if "tests" in options.only:
        show_tests(options.kinds, items[:1], runs // 2)
    if "search" in options.only:
        show_search(5 * runs)


if __name__ == "__main__":
    main()
