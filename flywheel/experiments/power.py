"""Power: how likely a run is to see a gain, and to promote something where there is none.

Evidence is drawn as it may come, the run's own gate tests it, and the accountant's level decides. Before a
run it is drawn from a stated range of disagreement between candidate and champion, after one from the run's
own pairs: see ``pairs``.

One look is simulated. Over the run, looks are not independent: champion and items are the same. It is
assumed that the statistics of the looks are jointly normal with one correlation between any two: 1/2 where
all models' scores vary alike and independently (many treatments and one control: Dunnett 1955); after a run
it is measured, where the run has several looks at one champion.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist

import numpy as np

from flywheel.config.components import Components, check_target
from flywheel.config.compose import compose
from flywheel.errors import ConfigError, wrap_user_errors
from flywheel.experiments.looks import Decider, RecordedLook
from flywheel.experiments.pairs import Pairs, Population
from flywheel.keys import Key
from flywheel.records import Answer, Role, Suite
from flywheel.runtime.data import read_data
from flywheel.storage.accountant import ErrorBudget
from flywheel.storage.policy import GREEDY

DISAGREEMENTS = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Shares of items that are won or lost beyond the gain, half of them each: the stated range before a run."""
WANTED = 0.8
"""The chance to see a gain for which the items needed are given."""
ALIKE = 0.5
"""Correlation of looks at one champion where all models' scores vary alike and independently."""
_MOST_ALIKE = 0.95
_DRAWS, _DRAWN_ITEMS = (300, 1000), 3_000_000
"""Fewest and most draws a question, and how many items they may have together, where that leaves a choice."""
_SEARCHED = 200
_MOST_ITEMS = 50_000
"""Items of a draw while the number that is needed is looked for: beyond that it is extrapolated."""
_NORMAL = NormalDist()


class Simulated(Answer, frozen=True):
    """A chance that was estimated by simulation."""

    value: float
    standard_error: float


class Case(Answer, frozen=True):
    """What is to be expected of candidates that differ so much from their champion."""

    disagreement: float
    """Share of items won or lost beyond the gain; of other scores than 0/1: mean size of the differences."""
    at_one_look: Simulated
    """The chance that a candidate that is better by the gain is promoted at the first look."""
    over_the_run: Simulated
    """The chance that any planned look promotes, if every candidate is better by the gain until then."""
    false_promotion: Simulated
    """The chance that any planned look promotes, if no candidate is better."""
    items_needed: int | None
    """About so many for a chance of 80% at the first look; None: no number of items gives it."""


class Power(Answer, frozen=True):
    """How likely a run is to see a gain."""

    of: str
    """The recipe, or the run's directory."""
    gain: float
    """Of the mean score, e.g. 0.01."""
    gate: str
    """Its class."""
    items: int
    clusters: int
    alpha: float
    looks: int
    """Planned ones."""
    level: float
    """Of the first look."""
    correlation: float
    """Of the evidence of two looks at one champion."""
    own_looks: int
    """Looks of the run whose pairs were resampled; 0: the range of disagreement is a stated one."""
    draws: int
    """A question."""
    cases: tuple[Case, ...]


def draws_for(items: float) -> int:
    """How many draws of so many items answer a question: the more items, the slower is each."""
    least, most = _DRAWS
    return int(min(most, max(least, _DRAWN_ITEMS / items)))


def case_of(
    decider: Decider,
    shapes: Sequence[Pairs],
    gain: float,
    budget: ErrorBudget,
    correlation: float,
    draws: int,
    key: Key,
    *,
    search: bool = True,
) -> Case | None:
    """The answers for pairs of these shapes, drawn from in turn; None: no weights give them the gain.

    ``search``: also how many items are needed.
    """
    level = budget.level(1)
    better = [pairs for shape in shapes if (pairs := shape.tilted(gain)) is not None]
    equal = [pairs for shape in shapes if (pairs := shape.tilted(0.0)) is not None]
    if not better or not equal:
        return None
    seen = at_one_look(decider, better, level, draws, key("better"))
    false = at_one_look(decider, equal, level, draws, key("equal"))
    return Case(
        disagreement=float(np.mean([pairs.disagreement for pairs in better])),
        at_one_look=seen,
        over_the_run=over_looks(seen, budget.looks, correlation),
        false_promotion=over_looks(false, budget.looks, correlation),
        items_needed=items_needed(decider, better, level, seen, key("items")) if search else None,
    )


def at_one_look(decider: Decider, shapes: Sequence[Pairs], level: float, draws: int, key: Key) -> Simulated:
    """The chance that evidence drawn from these pairs, in turn, is promoted at a level.

    Where that is seldom, every other draw is from pairs with a gain that is promoted about half of the time,
    and all are counted by how much less likely these pairs give them than the two together (importance
    sampling with the balance heuristic of Veach and Guibas 1995: no draw counts more than twice).
    """
    pushed = [_pushed(pairs, level) for pairs in shapes]
    weights, promoted = np.ones(draws), np.zeros(draws)
    for k in range(draws):
        which = k // 2 % len(shapes)
        drawn, other = (shapes, pushed) if k % 2 else (pushed, shapes)
        evidence, ratio = drawn[which].draw_against(other[which], key(k))
        weights[k] = 2 / (1 + ratio) if k % 2 else 2 * ratio / (1 + ratio)
        promoted[k] = decider.promotes(evidence, level, key(k))
    counts = weights * promoted
    error = float(counts.std(ddof=1)) / math.sqrt(draws) or 1 / draws  # not 0 where all or none is promoted
    return Simulated(min(1.0, float(counts.mean())), error)


def _pushed(pairs: Pairs, level: float) -> Pairs:
    """With a gain that is about as often promoted as not, if these have less."""
    critical = -_NORMAL.inv_cdf(level) * pairs.standard_error
    return pairs if pairs.mean >= critical else pairs.tilted(critical) or pairs


def over_looks(chance: Simulated, looks: int, correlation: float) -> Simulated:
    """The chance that any of several looks promotes, each with the same chance."""
    low, high = (
        any_of(min(1.0, max(0.0, chance.value + sign * chance.standard_error)), looks, correlation)
        for sign in (-1, 1)
    )
    return Simulated(any_of(chance.value, looks, correlation), (high - low) / 2)


def any_of(chance: float, looks: int, correlation: float) -> float:
    """The chance of any of several events of the same chance: normal variables that correlate exceed it."""
    if not 0 < chance < 1:
        return chance
    cut = _NORMAL.inv_cdf(1 - chance)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    cuts = (cut - math.sqrt(correlation) * nodes) / math.sqrt(1 - correlation)
    none = np.array([_NORMAL.cdf(value) for value in cuts]) ** looks
    return 1 - float(weights @ none / weights.sum())


def items_needed(
    decider: Decider, better: Sequence[Pairs], level: float, seen: Simulated, key: Key
) -> int | None:
    """About how many items give the wanted chance at a level, to two digits; None: no number does.

    The normal quantile of the chance rises with the root of the number of items, less what the level costs,
    which is taken from simulations nearer and nearer to the answer.
    """
    slope = float(np.mean([pairs.mean / pairs.standard_error for pairs in better]))
    items = float(np.mean([pairs.items for pairs in better]))
    root, most = 1.0, math.sqrt(_MOST_ITEMS / items)
    for attempt in range(5):
        cost = slope * root - _quantile(seen)
        needed = (_NORMAL.inv_cdf(WANTED) + cost) / slope
        if abs(needed / root - 1) < 0.05 or attempt == 4:
            break
        root = min(max(needed, 1 / math.sqrt(items)), max(most, 1.0))
        larger = [pairs.scaled(root**2) for pairs in better]
        seen = at_one_look(decider, larger, level, _SEARCHED, key(attempt))
    if cost > 2 * -_NORMAL.inv_cdf(level) + 1:  # it rises with the items: the gate asks for a larger effect
        return None
    return int(float(f"{items * needed**2:.2g}"))


def _quantile(chance: Simulated) -> float:
    error = chance.standard_error
    return _NORMAL.inv_cdf(min(max(chance.value, error), 1 - error))


def correlation_of(looks: Sequence[RecordedLook], shapes: Sequence[Pairs]) -> float:
    """The mean correlation of what looks at the same champion saw of each unit; ``ALIKE`` if there are none.

    ``shapes``: the looks' pairs.
    """
    sums = [np.concatenate([one.sums for one in shape.by_suite.values()]) for shape in shapes]
    measured = [
        float(np.corrcoef(sums[k], sums[earlier])[0, 1])
        for k, look in enumerate(looks)
        for earlier in range(k)
        if looks[earlier].champion == look.champion and sums[k].std() > 0 and sums[earlier].std() > 0
    ]
    return float(np.clip(np.mean(measured), 0.0, _MOST_ALIKE)) if measured else ALIKE


def power_of_recipe(overrides: Sequence[str], gain: float, config_dir: str | None = None) -> Power:
    """The power of a run before it is begun, from its gate suites' items and clusters; no model is built.

    Scores are taken to be 0/1 and clusters to be won or lost as a whole. ``overrides``: as for a run. Raises
    ConfigError or DataError as a run would.
    """
    _check_gain(gain)
    components = Components(compose(overrides, config_dir))
    config = components.resolved
    if config["promotion"]["rule"] == GREEDY:
        raise ConfigError("promotion=greedy is no test and has no power. Give promotion=each or frontier.")
    for section in ("gate", "task"):
        check_target(section, config[section])
    with wrap_user_errors("The recipe's task must be buildable and readable:"):
        data = read_data(components.task, needs_seed=config["genesis"] == "train")
    sizes = {suite.name: _cluster_sizes(suite) for suite in data.suites.values() if suite.role == Role.GATE}
    return power_of_sizes(
        sizes,
        Decider(components.build("gate", components.settings()), {}),
        gain,
        ErrorBudget.of(config),
        of=f"recipe {config['recipe']}",
    )


def _cluster_sizes(suite: Suite) -> np.ndarray:
    """How many items each cluster has; by default each item is its own."""
    names = suite.items["cluster" if "cluster" in suite.items.column_names else "item"]
    return np.unique(names.to_numpy(), return_counts=True)[1]


def power_of_sizes(
    sizes: Mapping[str, np.ndarray],
    decider: Decider,
    gain: float,
    budget: ErrorBudget,
    disagreements: Sequence[float] = DISAGREEMENTS,
    *,
    of: str = "",
    draws: int | None = None,
) -> Power:
    """The power with clusters of these sizes, by gate suite, over a range of disagreements."""
    items = int(sum(of_suite.sum() for of_suite in sizes.values()))
    draws = draws or draws_for(items)
    cases = []
    for share in disagreements:
        if share + gain > 1:
            continue
        populations = {
            name: Population.of_shares(of_suite, gain + share / 2, share / 2)
            for name, of_suite in sizes.items()
        }
        key = Key.root(0)("power", str(share))
        case = case_of(decider, [Pairs(populations)], gain, budget, ALIKE, draws, key)
        cases += [case] if case else []
    return Power(
        of=of,
        gain=gain,
        gate=type(decider.gate).__name__,
        items=items,
        clusters=sum(len(of_suite) for of_suite in sizes.values()),
        alpha=budget.alpha,
        looks=budget.looks,
        level=budget.level(1),
        correlation=ALIKE,
        own_looks=0,
        draws=draws,
        cases=tuple(cases),
    )


def power_of_looks(
    looks: Sequence[RecordedLook], gain: float, budget: ErrorBudget, of: str = "", draws: int | None = None
) -> Power | None:
    """The power of a run by its own pairs; None: no candidate ever won an item.

    Each look's pairs are weighted so that their mean is the gain. ``looks``: one at least.
    """
    _check_gain(gain)
    draws = draws or draws_for(looks[-1].items)
    shapes = [look.pairs() for look in looks]
    correlation = correlation_of(looks, shapes)
    case = case_of(looks[-1].decider, shapes, gain, budget, correlation, draws, Key.root(0)("power of a run"))
    if case is None:
        return None
    return Power(
        of=of,
        gain=gain,
        gate=type(looks[-1].decider.gate).__name__,
        items=looks[-1].items,
        clusters=looks[-1].clusters,
        alpha=budget.alpha,
        looks=budget.looks,
        level=budget.level(1),
        correlation=round(correlation, 4),
        own_looks=len(looks),
        draws=draws,
        cases=(case,),
    )


def sight_of_looks(
    looks: Sequence[RecordedLook], gain: float, budget: ErrorBudget, draws: int
) -> Simulated | None:
    """Only the chance at the first look, by a run's own pairs."""
    better = [pairs for look in looks if (pairs := look.pairs().tilted(gain)) is not None]
    if not better:
        return None
    return at_one_look(
        looks[-1].decider, better, budget.level(1), draws, Key.root(0)("power of a run", "better")
    )


def seen_text(items: int, gain: float, seen: Simulated) -> str:
    """``With 750 items a gain of 1 point is seen 31% of the time.``."""
    return f"With {items} items a gain of {points_text(gain)} is seen {seen.value:.0%} of the time."


def points_text(gain: float) -> str:
    """A gain in points, e.g. ``1 point``, ``0.5 points``."""
    return f"{100 * gain:.3g} point{'' if round(100 * gain, 6) == 1 else 's'}"


def _check_gain(gain: float) -> None:
    if not 0 < gain < 1:
        raise ConfigError(f"A gain must be above 0 and below 1, e.g. 0.01 for a point; it is {gain}.")
