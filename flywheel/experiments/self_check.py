"""Whether a run's gate keeps its promise on the run's own data.

Of each look the differences are weighted so that their mean is 0, evidence is drawn from them, cluster by
cluster (a bootstrap), and the run's gate is applied at the level that was really spent: with candidate and
champion as they were, and exchanged. Where more is promoted than that level, the gate errs on such data. The
same is done once more with items that ask the same taken together, whatever their clusters are called.
"""

from __future__ import annotations

from collections.abc import Sequence

from flywheel.api import Run
from flywheel.experiments.looks import RecordedLook, recorded_looks
from flywheel.keys import Key
from flywheel.metrics.beta import beta_cdf
from flywheel.records import Answer

CHANCE = 0.001
"""Of a false alarm, over all that is compared."""
_DRAWS, _DRAWN_ITEMS = (400, 4000), 2_000_000
"""Fewest and most draws of a check, and how many items they may have together, where that leaves a choice."""


class LookCheck(Answer, frozen=True):
    """What the gate promotes of candidates that are no better, drawn from a look's own pairs."""

    generation: int
    level: float
    """That was spent on the look."""
    draws: int
    """In each direction; 0: none, all differences have the same sign."""
    promoted: int
    """Of those with candidate and champion as they were."""
    promoted_exchanged: int
    """Of those with candidate and champion exchanged."""


class SelfCheck(Answer, frozen=True):
    """Whether a run's gate keeps its promise on the run's own data."""

    looks: tuple[LookCheck, ...]
    joined: tuple[LookCheck, ...]
    """The same with items that ask the same taken together; empty: no two do in different clusters."""
    copies: dict[str, int]
    """By gate suite how many clusters are not of their own, since an item of another asks the same."""
    faults: tuple[str, ...]
    """What is wrong, for people; empty: nothing was found."""


def check_run(run: Run, most_draws: int = _DRAWS[1]) -> SelfCheck:
    """Check a run's gate on the run's own pairs; ``most_draws``: over all looks, fewer if items are many."""
    return check_looks(recorded_looks(run), most_draws)


def check_looks(looks: Sequence[RecordedLook], most_draws: int = _DRAWS[1]) -> SelfCheck:
    """See ``check_run``. Deterministic: draws are keyed by the generation."""
    copies = looks[-1].in_copies if looks else {}
    plain = _checked(looks, most_draws, joined=False)
    joined = _checked(looks, most_draws, joined=True) if copies else ()
    return SelfCheck(plain, joined, copies, tuple(_faults(looks, plain, joined, copies)))


def _checked(looks: Sequence[RecordedLook], most: int, *, joined: bool) -> tuple[LookCheck, ...]:
    if not looks:
        return ()
    items = looks[-1].items
    total = min(most, max(_DRAWS[0], _DRAWN_ITEMS // items))
    draws = max(10, total // (2 * len(looks)))
    return tuple(_check(look, draws, joined=joined) for look in looks)


def _check(look: RecordedLook, draws: int, *, joined: bool) -> LookCheck:
    equal = look.pairs(joined=joined).tilted(0.0)
    if equal is None:
        return LookCheck(look.generation, look.level, 0, 0, 0)
    promoted = []
    for name, pairs in (("as it was", equal), ("exchanged", equal.mirrored())):
        keys = [Key.root(0)("self check", look.generation, name, k) for k in range(draws)]
        promoted.append(sum(look.decider.promotes(pairs.draw(key), look.level, key) for key in keys))
    return LookCheck(look.generation, look.level, draws, *promoted)


def _faults(
    looks: Sequence[RecordedLook],
    plain: Sequence[LookCheck],
    joined: Sequence[LookCheck],
    copies: dict[str, int],
) -> list[str]:
    if excess := _excess(plain):
        gate = type(looks[0].decider.gate).__name__
        return [
            "The gate must promote no more of the candidates that are no better than its level says; on this "
            f"run's own differences {gate} promotes {excess}. Do not rely on its verdicts here: choose a "
            "gate that holds for differences that are skewed, or in few or unequal clusters."
        ]
    if excess := _excess(joined):
        listed = ", ".join(f"{count} clusters of suite {name}" for name, count in copies.items())
        return [
            f"Items that are not independent must share a cluster; {listed} have items that ask what an "
            f"item of another cluster asks. With these taken together the gate promotes {excess} of the "
            "candidates that are no better. Do not rely on its verdicts here: drop copies, or give them one "
            "cluster."
        ]
    return []


def _excess(checks: Sequence[LookCheck]) -> str:
    """By how much promotions exceed the level beyond chance, in all draws or in some; empty: they do not."""
    each = [
        (f" at generation {check.generation}", count, check.draws, check.level)
        for check in checks
        for count in (check.promoted, check.promoted_exchanged)
        if check.draws
    ]
    if not each:
        return ""
    draws = sum(one[2] for one in each)
    level = sum(one[2] * one[3] for one in each) / draws
    # Of draws with different levels together: at most the chance with their mean level (Hoeffding 1956).
    every = ("", sum(one[1] for one in each), draws, level)
    for compared, chance in ([every], CHANCE / 2), (each, CHANCE / 2 / len(each)):
        where, count, of, allowed = min(compared, key=lambda one: _tail(*one[1:]))
        if _tail(count, of, allowed) < chance:
            return f"{count / of:.2%} where the level is {allowed:.2%}{where}"
    return ""


def _tail(count: int, draws: int, level: float) -> float:
    """The chance of at least so many promotions at a rate of ``level``."""
    return beta_cdf(level, count, draws - count + 1) if count else 1.0
