"""Two models' outcomes on the same items, and exact tests of several findings together."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from flywheel.gates.statistics import bounded_mean
from flywheel.protocols import GuardView
from flywheel.records import Action, Role


@dataclass(frozen=True, slots=True)
class Pairs:
    """Scores of a candidate and of an earlier generation on items that both have outcomes on."""

    candidate: np.ndarray
    other: np.ndarray
    clusters: np.ndarray
    """The cluster of each item, as a text."""
    suites: np.ndarray
    items: np.ndarray

    def __len__(self) -> int:
        return len(self.items)

    def where(self, chosen: np.ndarray) -> Pairs:
        """Those of some rows."""
        columns = (self.candidate, self.other, self.clusters, self.suites, self.items)
        return Pairs(*(values[chosen] for values in columns))


def pairs_with(view: GuardView, other: pa.Table, suites: Collection[str]) -> Pairs:
    """The candidate beside other outcomes, on these suites. Duels are left out: their opponents differ."""
    solo = [name for name in suites if not view.suites[name].duel]
    ours, theirs = (_of_suites(table, solo) for table in (view.candidate, other))
    known = {(suite, item): score for suite, item, score in _rows(theirs)}
    names = [(suite, item) for suite, item, _ in _rows(ours)]
    both = np.array([name in known for name in names], bool)
    scores = np.array([known.get(name, 0.0) for name in names])
    own = [ours["suite"].to_numpy(), ours["cluster"].to_numpy()]
    clusters = np.array([f"{suite} {cluster}" for suite, cluster in zip(*own, strict=True)], object)
    columns = (ours["score"].to_numpy(), scores, clusters, own[0], ours["item"].to_numpy())
    return Pairs(*(np.asarray(values)[both] for values in columns))


def _of_suites(outcomes: pa.Table, suites: Sequence[str]) -> pa.Table:
    return outcomes.filter(np.isin(outcomes["suite"].to_numpy(), list(suites)))


def _rows(table: pa.Table) -> zip[tuple[str, str, float]]:
    return zip(*(table[name].to_pylist() for name in ("suite", "item", "score")), strict=True)


def references(view: GuardView) -> dict[str, pa.Table]:
    """What a candidate is compared with: the champion, the parent and the first champion, each once.

    By what they are called, e.g. ``generation 3, the champion``.
    """
    tables = {view.opponent.number: (f"generation {view.opponent.number}, the champion", view.champion)}
    for generation, role in ((view.parent, "the parent"), (view.first_champion, "the first champion")):
        if generation and generation.number in view.outcomes and generation.number not in tables:
            name = f"generation {generation.number}, {role}"
            tables[generation.number] = (name, view.outcomes[generation.number])
    return dict(tables.values())


def suites_of(view: GuardView, role: Role) -> list[str]:
    """Names of the suites with a role."""
    return [name for name, suite in view.suites.items() if suite.role == role]


def p_above(values: np.ndarray, clusters: np.ndarray, low: float) -> float:
    """One-sided p-value of "the mean of values, none below ``low`` < 0, is at most 0"; 1 without any.

    ``gates.statistics.bounded_mean`` of sums by cluster: of independent wins and losses McNemar's exact test.
    """
    if not len(values):
        return 1.0
    _, codes, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    return bounded_mean(np.round(np.bincount(codes, values), 9), low * int(sizes.max()) - 1e-9)


def holm(p_values: Sequence[float], level: float) -> list[bool]:
    """Which hypotheses are rejected, with a chance of ``level`` that any is wrongly (Holm 1979)."""
    rejected = [False] * len(p_values)
    for rank, k in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[k] > level / (len(p_values) - rank):
            break
        rejected[k] = True
    return rejected


def check_ranges(part: object, **rules: tuple[float, float]) -> None:
    """Raise ValueError unless each of these arguments is in its range, ends included."""
    for name, (low, high) in rules.items():
        if not low <= getattr(part, name) <= high:
            raise ValueError(f"{name} must be between {low:g} and {high:g}; it is {getattr(part, name)}.")


def action_of(text: str) -> Action:
    """The action that an argument names. Raises ValueError."""
    if text not in list(Action):
        raise ValueError(f"action must be one of {', '.join(Action)}; it is {text!r}.")
    return Action(text)
