"""The promise over whole runs, simulated in small: what errs is found. In full: ``benchmarks.evidence``."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

from benchmarks import evidence
from benchmarks.candidates import KINDS
from benchmarks.evidence import ALPHA, GENERATIONS, Account, Accounted, Fixed, Gate, PerComparison, Rule
from flywheel.keys import Key
from flywheel.storage.accountant import ErrorBudget

RUNS = 300
LIMIT = ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / RUNS)


@cache
def gate() -> Gate:
    return Gate()


def share(rule: Rule, kind: str, gains: bool = False) -> float:
    """Of 300 runs on 200 items, those with a promotion of what is no better."""
    erred = evidence.errors(rule, KINDS[kind], 200, gains, RUNS, Key.root(3)(kind))
    return float(erred.mean())


def student(differences: np.ndarray, clusters: np.ndarray) -> float:
    """A gate that errs under skew: by the mean and its standard error."""
    error = differences.std() / math.sqrt(len(differences))
    return 0.5 * math.erfc(differences.mean() / (error * math.sqrt(2))) if error else 0.0


class KeepsLevels(Account):
    """An accountant that errs: it passes a level on whether or not the look promoted."""

    def charge(self, promoted: bool) -> None:
        super().charge(True)


class Generous(Accounted):
    def begin(self, plan: evidence.Plan) -> None:
        super().begin(plan)
        self._accounts = [KeepsLevels(account.budget) for account in self._accounts]


@pytest.mark.parametrize("gains", [False, True])
@pytest.mark.parametrize("kind", ["luck", "drift", "skew", "large"])
def test_few_runs_ever_promote_what_is_no_better(kind: str, gains: bool) -> None:
    assert share(Accounted(gate()), kind, gains) <= LIMIT


def test_a_test_at_alpha_each_time_errs_over_the_run() -> None:
    assert share(PerComparison(gate()), "drift") > 3 * LIMIT


def test_a_gate_that_errs_under_skew_is_found() -> None:
    assert share(Accounted(student), "skew") > 3 * LIMIT


def test_an_accountant_that_passes_levels_on_without_a_promotion_is_found() -> None:
    assert share(Generous(gate()), "drift") > 1.5 * LIMIT


@pytest.mark.parametrize(
    "rule", [evidence.katago, evidence.alphazero, evidence.leela_zero, evidence.one_error]
)
def test_rules_that_know_no_run_err_in_most(rule: object) -> None:
    assert share(Fixed(rule), "drift") > 0.5


def test_rules_for_games_count_the_items_that_differ() -> None:
    row = np.repeat([0.0, 0.4, -1.0], [50, 11, 9])[None]
    assert evidence.games(row, 15).tolist() == [[0.0] * 50 + [1.0] * 11 + [-1.0] * 4 + [0.0] * 5]


@pytest.mark.parametrize(
    ("wins", "losses", "passing"),
    [
        (100, 100, {"katago"}),
        (0, 0, {"katago"}),
        (68, 60, {"katago", "alphazero"}),  # 53% of 128 games: a mean reward of .0625
        (66, 34, {"katago", "alphazero", "leela_zero", "one_error"}),
        (90, 99, set()),
    ],
)
def test_rules_for_games_promote_what_they_say(wins: int, losses: int, passing: set[str]) -> None:
    games = np.random.default_rng(2).permutation(np.repeat([1.0, -1.0, 0.0], [wins, losses, 300]))[None]
    names = ("katago", "alphazero", "leela_zero", "one_error")
    assert {name for name in names if getattr(evidence, name)(games).item()} == passing


def test_leelas_games_may_end_early() -> None:
    """SPRT: 60 games won decide, whatever comes after; at its end more than 55% do."""
    early = np.repeat([1.0, -1.0], [60, 340])
    assert evidence.leela_zero(np.stack([early, -early])).tolist() == [True, False]
    at_55 = np.tile(np.repeat([1.0, -1.0], [11, 9]), 5)
    above = np.append(at_55[:-1], 1.0)
    assert evidence.leela_zero(np.stack([at_55, above])).tolist() == [False, True]


def test_of_a_gain_more_is_seen_after_a_promotion() -> None:
    """Beside Bonferroni with the same reserve: the same at the first look, twice the level after it."""
    first, second = evidence.after_a_promotion()
    assert first == pytest.approx(0.9 * ALPHA / GENERATIONS)
    assert second == pytest.approx(2 * first)
    pairs = np.array([*evidence.p_values(gate(), KINDS["drift"], 750, 0.02, 250, Key.root(3)("power"))])
    after = pairs[~np.isnan(pairs[:, 1]), 1]
    assert len(after) > 150
    assert 0.1 < np.mean(after <= first) < np.mean(after <= second)


def test_levels_over_recall_fork_and_extension_sum_up_to_alpha() -> None:
    """Looks that promote nothing: 7 of the source, 5 of its fork, and 30 beyond those that were planned."""
    account, levels = Account(ErrorBudget(ALPHA, 12)), []
    for look in range(42):
        account = account.fork(5) if look == 7 else account
        levels.append(account.level())
        account.charge(False)
    assert sum(levels) <= ALPHA
    assert sum(levels) > 0.95 * ALPHA


@pytest.mark.parametrize("kind", KINDS)
def test_candidates_have_the_true_means_that_they_say(kind: str) -> None:
    rng = np.random.default_rng(5)
    population, champion = KINDS[kind].first(300, 750, rng)
    for gain in (0.0, 0.05):
        gains = np.full(300, gain)
        means = (KINDS[kind].candidate(population, champion, gains, gains, rng) - champion).mean(axis=1)
        assert abs(means.mean() - gain) <= 4 * means.std() / math.sqrt(300)
