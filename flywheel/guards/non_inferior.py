"""The guard of suites with role guard: no promotion of what may be worse there by a margin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flywheel.guards.statistics import chance_to_reject, clusters_needed, non_inferiority
from flywheel.protocols import GuardView
from flywheel.records import Action, Alarm, Differences, Suite

_MOST_REJECTED = 0.2
"""Share of turns in which a candidate as good as the champion may be rejected."""


@dataclass(kw_only=True)
class NonInferior:
    """On each guard suite the candidate must be shown to lose less than a margin.

    A one-sided test of "it is worse by ``margin`` or more, on average over items", at a level of its own that
    is the same in every turn: nothing of the gate's error budget is spent. Where that is refuted, no harm is
    shown. Where it is not, be it on one suite of several, the candidate is rejected and the run goes on. So a
    candidate that is worse by the margin on one of them passes with a chance of ``level`` at most, each turn.

    A suite too small rejects equal candidates, too: a run in which that would happen in more than 20% of
    turns is refused at its start.
    """

    margin: float = 0.02
    """Loss that is borne, in (0, 1), e.g. .02 for two points of a suite's mean score."""
    level: float = 0.05
    """Chance, in (0, 0.5], that a candidate passes which loses the margin or more."""
    suites: list[str] | None = None
    """Names of guard suites; None: all."""
    disagreement: float = 0.05
    """Share of items, in [0, 1], that one of two equally good models solves and the other does not."""
    allow_low_power: bool = False
    """Begin also a run whose suites are too small."""

    def __post_init__(self) -> None:
        for name, holds, rule in (
            ("margin", 0 < self.margin < 1, "above 0 and below 1"),
            ("level", 0 < self.level <= 0.5, "above 0 and at most 0.5"),
            ("disagreement", 0 <= self.disagreement <= 1, "in [0, 1]"),
        ):
            if not holds:
                raise ValueError(f"{name} must be {rule}; it is {getattr(self, name)}.")

    def check(self, view: GuardView) -> Alarm | None:
        """What is shown on each suite; None where there is none."""
        evidence = view.evidence
        names = self._names(evidence.suites)
        findings = [self._finding(name, evidence.differences(name)) for name in names]
        harms = [text for is_harmless, text in findings if not is_harmless]
        if not findings:
            return None
        return Alarm(Action.REJECT, "; ".join(harms)) if harms else Alarm(Action.PASS, _joined(findings))

    def check_suites(self, suites: Sequence[Suite]) -> None:
        """Raise ValueError if an equal candidate would be rejected too often on the run's guard suites."""
        by_name = {suite.name: suite for suite in suites}
        judged = [by_name[name] for name in self._names(list(by_name))]
        if self.allow_low_power or not judged:
            return
        chances = {suite.name: self._chance_to_reject(suite) for suite in judged}
        together = 1 - math.prod(1 - chance for chance in chances.values())
        if together <= _MOST_REJECTED:
            return
        each = 1 - (1 - _MOST_REJECTED) ** (1 / len(judged))
        needs = [self._need(suite, each) for suite in judged if chances[suite.name] > each]
        raise ValueError(
            f"it would reject a candidate as good as the champion in {together:.0%} of turns, more than "
            f"{_MOST_REJECTED:.0%}, if equally good models disagree on {self.disagreement:.0%} of items "
            f"(disagreement): {'; '.join(needs)}. Give it more items or a wider margin than "
            f"{self.margin:g}, or set allow_low_power=true."
        )

    def _names(self, known: Sequence[str]) -> list[str]:
        names = list(known) if self.suites is None else self.suites
        if unknown := [name for name in names if name not in known]:
            raise ValueError(
                f"suites must be names of suites with role guard; {unknown[0]!r} is none. There are: "
                f"{', '.join(known) or 'none'}."
            )
        return names

    def _finding(self, suite: str, differences: Differences) -> tuple[bool, str]:
        """Whether no harm is shown on a suite, and a sentence on it."""
        p_value = non_inferiority(differences, self.margin)
        items, clusters = len(differences.items), int(differences.clusters.max()) + 1
        effect = round(float(differences.items.mean()), 9) + 0.0
        amount = f"{items} items" + (f" in {clusters} clusters" if clusters < items else "")
        is_harmless = p_value <= self.level
        loss = f"that it loses less than {self.margin:.2%} is {'shown' if is_harmless else 'not shown'}"
        compared = f"p {p_value:.2g} {'<=' if is_harmless else '>'} {self.level:g}"
        verdict = "no harm shown" if is_harmless else "harm shown"
        return is_harmless, f"{verdict} on {suite}: {effect:+.2%} on {amount}; {loss}, {compared}"

    def _chance_to_reject(self, suite: Suite) -> float:
        return chance_to_reject(_sizes(suite), self.margin, self.level, self._disagreement(suite))

    def _need(self, suite: Suite, chance: float) -> str:
        """What a suite has, and what it needs, in words."""
        sizes = _sizes(suite)
        needed = clusters_needed(sizes, self.margin, self.level, self._disagreement(suite), chance)
        unit = "clusters" if len(sizes) < len(suite.items) else "items"
        return f"suite {suite.name} has {len(sizes)} {unit} and needs about {needed}"

    def _disagreement(self, suite: Suite) -> float:
        """Items of a duel are won or lost."""
        return 1.0 if suite.duel else self.disagreement


def _sizes(suite: Suite) -> np.ndarray:
    """How many items each cluster of a suite has."""
    column = "cluster" if "cluster" in suite.items.column_names else "item"
    sizes: np.ndarray = np.unique(suite.items[column].to_numpy(), return_counts=True)[1]
    return sizes


def _joined(findings: Sequence[tuple[bool, str]]) -> str:
    return "; ".join(text for _, text in findings)
