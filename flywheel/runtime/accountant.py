"""The accountant: it holds the run's error budget, gives each comparison its level, and decides.

A gate says how strong the evidence is. Only the accountant says what is enough; no part can change it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flywheel.records import GateResult, Verdict


def level_of(error_budget: Mapping[str, Any]) -> float:
    """The level of a comparison: ``error_budget.alpha``, however many comparisons came before."""
    level: float = error_budget["alpha"]
    return level


def decide(result: GateResult, level: float) -> Verdict:
    """The verdict at a level: a p-value of at most that, or an e-value of at least its inverse.

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
        compared = f"p {p:.2g} {'<=' if promote else '>'} {level:g}"
    else:
        compared = f"e {e:.3g} {'>=' if promote else '<'} {1 / level:g}"
    return Verdict(promote, f"{result.reason}: {compared}", level, p, e, dict(result.numbers))


def reaches(p_value: float | None, e_value: float | None, level: float) -> bool:
    """Whether the evidence is enough at a level (Ville's inequality, for e-values)."""
    return p_value <= level if p_value is not None else e_value is not None and e_value * level >= 1
