"""Which generations a run keeps whole when room is made; see ``storage.retention``."""

from __future__ import annotations

import re
from dataclasses import dataclass

_RULE = "must be a comma-separated list of promoted, last=N (N of 1 or more) and champion"


@dataclass(frozen=True, slots=True)
class Policy:
    """Generations to keep besides what a run needs to go on, e.g. ``promoted,last=3``."""

    promoted: bool = False
    """Every generation that became a champion."""
    last: int = 0
    """That many of those that ended last, whatever their verdicts."""

    @classmethod
    def parse(cls, text: str) -> Policy:
        """The policy of a text. ``champion`` asks for nothing more, as it is always kept.

        Raises ValueError.
        """
        words = [word.strip() for word in text.split(",")]
        counts = [int(found[1]) for word in words if (found := re.fullmatch(r"last=([1-9]\d{0,8})", word))]
        if len(counts) + sum(word in ("promoted", "champion") for word in words) != len(words):
            raise ValueError(f"A retention policy {_RULE}; it is {text!r}.")
        return cls(promoted="promoted" in words, last=max(counts, default=0))

    def __str__(self) -> str:
        rules = ["promoted"] * self.promoted + [f"last={self.last}"] * bool(self.last)
        return ",".join(rules) or "champion"
