"""Which generations a run keeps whole when room is made; see ``storage.retention``."""

from __future__ import annotations

from flywheel.records import Answer


class Policy(Answer, frozen=True):
    """Generations to keep besides what a run needs to go on, e.g. ``Policy(promoted=True, last=3)``."""

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
