"""The accountant: it holds the run's error budget, gives each look its level, and decides.

A gate says how strong the evidence is. Only the accountant says what is enough; no part can change it. What
it gives follows from the ledger alone, and nothing gives it back: no recall, rollback, restart or fork.

The chance that a run ever promotes a candidate that is no better than its champion is at most ``alpha``: the
looks that were planned share it evenly, but for a reserve for looks beyond those, and a promotion passes its
level on to the next look. That is the online fallback of Tian and Ramdas, "Online control of the familywise
error rate" (2021): proved for p-values that depend on each other in any way, as long as each is valid given
the verdicts before it. Here the same items are looked at again, so that is simulated: see docs/gates.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flywheel.records import Answer, GateResult, Json, Verdict
from flywheel.storage.policy import Promotion

if TYPE_CHECKING:
    from flywheel.storage.state import RunState

FAMILYWISE, FALSE_DISCOVERY = "familywise", "false_discovery"
RULES = (FAMILYWISE, FALSE_DISCOVERY)


class ErrorBudget(Answer, frozen=True, omit_defaults=True):
    """What a run may spend on promotions that are wrong, e.g. ``ErrorBudget(alpha=0.05, looks=20)``."""

    alpha: float
    """The chance of ever promoting what is no better, in (0, 1)."""
    looks: int
    """Looks that were planned: those of the turns that the run was created for."""
    reserve: float = 0.1
    """The share of alpha that is kept for looks beyond those, in [0, 1)."""
    rule: str = FAMILYWISE
    """``familywise``: any wrong promotion counts; ``false_discovery``: their expected share of all (LOND)."""
    spent: float = 0.0
    """What was charged in the run that a fork came from, on gate items that both have."""

    @classmethod
    def of(cls, config: Mapping[str, Any], spent: float = 0.0) -> ErrorBudget:
        """That of a new run of a resolved configuration; by default its looks are what its turns may have."""
        own, looks = config["error_budget"], Promotion.of(config).looks(config["generations"])
        return cls(own["alpha"], own["looks"] or looks, own["reserve"], own["rule"], spent)

    @property
    def left(self) -> float:
        """What there was to share out when the run began."""
        return max(0.0, self.alpha - self.spent)

    def base_level(self, number: int) -> float:
        """The share of look ``number`` (1, 2, ...) alone; all of them together are ``left``."""
        if number <= self.looks:
            return self.left * (1 - self.reserve) / self.looks
        beyond = number - self.looks
        return self.left * self.reserve / (beyond * (beyond + 1))

    def level(self, number: int, passed_on: float = 0.0, promotions: int = 0) -> float:
        """The level of look ``number``.

        ``passed_on``: the level of the look before, if it made the champion in force. ``promotions``: how
        many there were that are not recalled; with ``false_discovery`` the level grows with them (Javanmard
        and Montanari 2018).
        """
        base = self.base_level(number)
        level = base * (promotions + 1) if self.rule == FALSE_DISCOVERY else base + passed_on
        return float(f"{level:.12g}")

    def charged(self, looks: int) -> float:
        """What so many looks were charged together, without what promotions passed on."""
        return sum(self.base_level(number) for number in range(1, looks + 1))


def level_due(state: RunState) -> float:
    """The level of the next look of a run."""
    if state.created is None:
        return 0.0
    last, champion = (state.looks[-1] if state.looks else None), state.champion
    passes = last is not None and champion is not None and last.generation == champion.number
    passed_on = (last.level or 0.0) if last and passes else 0.0
    return state.created.error_budget.level(len(state.looks) + 1, passed_on, state.turns_in_force)


def decide(result: GateResult, level: float) -> Verdict:
    """The verdict at a level: a p-value of at most that, or an e-value of at least its inverse.

    Of what is rejected the verdict has the value and on how many items, but neither the gate's sentence nor
    its other numbers: how far off it was would tell what to choose next (see ``metrics.ladder``).

    Raises ValueError unless the gate gave exactly one of the two, in its range.
    """
    p, e = result.p_value, result.e_value
    if (p is None) == (e is None):
        raise ValueError("a gate gives a p-value or an e-value; it gave " + ("none" if p is None else "both"))
    if p is not None and not 0 <= p <= 1:
        raise ValueError(f"a p-value lies in [0, 1]; the gate gave {p}")
    if e is not None and not e >= 0:
        raise ValueError(f"an e-value is 0 or more; the gate gave {e}")
    promote = reaches(p, e, level)
    if p is not None:
        compared = f"p {p:.2g} {'<=' if promote else '>'} {level:.3g}"
    else:
        compared = f"e {e:.3g} {'>=' if promote else '<'} {1 / level if level else float('inf'):.3g}"
    if promote:
        return Verdict(promote, f"{result.reason}: {compared}", level, p, e, dict(result.numbers))
    numbers = {name: value for name, value in result.numbers.items() if name in _OF_ANY_CANDIDATE}
    return Verdict(promote, f"not shown to be better{_on(numbers)}: {compared}", level, p, e, numbers)


_OF_ANY_CANDIDATE = ("test", "n", "clusters")
"""What a gate's numbers say whatever the candidate is."""


def _on(numbers: Mapping[str, Json]) -> str:
    """``on 750 items in 30 clusters, exact McNemar``, as far as the numbers say it."""
    items = f" on {numbers['n']} items" if "n" in numbers else ""
    clusters = f" in {numbers['clusters']} clusters" if "clusters" in numbers else ""
    return items + clusters + (f", {numbers['test']}" if "test" in numbers else "")


def reaches(p_value: float | None, e_value: float | None, level: float) -> bool:
    """Whether the evidence is enough at a level (Ville's inequality, for e-values)."""
    if level <= 0:  # nothing is left: not even a p-value of 0 is enough
        return False
    return p_value <= level if p_value is not None else e_value is not None and e_value * level >= 1
