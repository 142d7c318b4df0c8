"""What a run's configuration decides about its record: what is promoted, and what is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flywheel.records import Answer

if TYPE_CHECKING:
    from flywheel.storage.events import Compared

EACH, FRONTIER, GREEDY = "each", "frontier", "greedy"
RULES = (EACH, FRONTIER, GREEDY)


class Promotion(Answer, frozen=True, omit_defaults=True):
    """How a run goes on from its candidates, and how one becomes champion."""

    rule: str = EACH
    """``each``: every candidate is looked at, and what is certified is built on; ``frontier``: whatever does
    no shown harm on dev is built on, and looked at now and then; ``greedy``: no test, the higher mean on dev.
    """
    every: int | None = None
    """Turns between looks at the frontier; None: it has no frontier."""
    patience: int | None = None
    """Looks in a row that may fail before the frontier falls back to the champion; None likewise."""
    harm: float | None = None
    """Level at which harm is shown on dev, in (0, 0.5], shared by the comparisons; None likewise."""

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"promotion.rule must be one of {', '.join(RULES)}; it is {self.rule!r}.")
        if self.rule == FRONTIER and not (self.every and self.patience and self.harm):
            raise ValueError("promotion=frontier needs every, patience and harm above 0.")

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Promotion:
        """That of a resolved configuration."""
        return cls(**config.get("promotion", {}))

    def __str__(self) -> str:
        """The rule for people, e.g. ``promotion=greedy: no test, ...``."""
        if self.rule == GREEDY:
            return "promotion=greedy: no test, what has the higher mean on dev becomes champion"
        if self.rule == FRONTIER:
            turns = "turn" if self.every == 1 else f"{self.every} turns"
            return (
                f"promotion=frontier: what does no shown harm on dev, at level {self.harm:g}, is built on; a "
                f"look at the gate's items every {turns}, back to the champion after {self.patience} in vain"
            )
        return "promotion=each: every candidate is looked at, and what is certified is built on"

    @property
    def turns_between_looks(self) -> int:
        """1 with each: every turn is looked at."""
        return self.every or 1

    def advances(self, against: Sequence[Compared]) -> bool:
        """Whether a candidate goes on that was compared on dev with these, the champion first."""
        if self.rule == GREEDY:
            return bool(against) and against[0].effect > 0
        return all(one.p_value > self.harm_level(len(against)) for one in against)

    def harm_level(self, comparisons: int) -> float:
        """The level of one of so many comparisons."""
        return (self.harm or 0.0) / comparisons

    def looks(self, generations: int) -> int:
        """How many looks at gate items so many turns have at most."""
        return -(-generations // self.turns_between_looks)


class Policy(Answer, frozen=True):
    """Generations to keep whole besides what a run needs to go on, e.g. ``Policy(promoted=True, last=3)``.

    See ``storage.retention``.
    """

    promoted: bool = False
    """Every generation that became a champion."""
    last: int = 0
    """That many of those that ended last, whatever their verdicts."""

    def __post_init__(self) -> None:
        if self.last < 0:
            raise ValueError(f"last must be 0 or more generations, got {self.last}.")

    @classmethod
    def of(cls, *, promoted: bool, last: int | None) -> Policy | None:
        """The policy that the key ``retention`` or ``prune`` asks for; None: keep everything."""
        return cls(promoted, last or 0) if promoted or last is not None else None

    @property
    def options(self) -> str:
        """As options of ``prune``: ``--promoted --last 3``."""
        last = [f"--last {self.last}"] if self.last or not self.promoted else []
        return " ".join(["--promoted"] * self.promoted + last)

    def __str__(self) -> str:
        last = ["the last generation" if self.last == 1 else f"the last {self.last} generations"]
        kept = ["all champions"] * self.promoted + last * bool(self.last)
        return " and ".join(kept) or "only what the run needs"
