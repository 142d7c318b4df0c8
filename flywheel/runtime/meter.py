"""What the stage under way costs, and whether a limit of the run's budget is reached with it.

Seconds, device hours, FLOPs and money are held at every step and unit. Samples and tokens are held where more
of them would be made, so that what was made can still be graded, trained on and judged. With
``budget.at_limit=finish`` nothing is held within a stage.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flywheel import ranks
from flywheel.errors import DataError
from flywheel.records import Json
from flywheel.storage.events import Cost, Spent, device_hours, finishes, limit_is_spent

if TYPE_CHECKING:
    import pyarrow as pa

Counts = Mapping[str, Callable[["pa.Table"], int]]
"""``samples``, ``tokens`` -> how many the rows of a unit are, or took."""
_ALWAYS = ("seconds", "device_hours", "flops", "money")


class Meter:
    """Counts one stage, on rank 0."""

    def __init__(self, budget: Mapping[str, Json] | None = None, spent: Spent | None = None) -> None:
        """``budget``: as configured; ``spent``: what the run cost before this stage."""
        self._budget, self._spent = budget or {}, spent or Spent()
        self._wall, self._cpu = time.monotonic(), time.process_time()
        self._counted: dict[str, float] = {"samples": 0, "tokens": 0, "flops": 0.0}
        self._making: tuple[str, ...] = ()

    def cost(self, unit_seconds: float | None = None) -> Cost:
        """What the stage cost so far."""
        now = self._now()
        return Cost(
            seconds=round(now.seconds, 4),
            cpu_seconds=round(time.process_time() - self._cpu, 4),
            unit_seconds=None if unit_seconds is None else round(unit_seconds, 4),
            ranks=ranks.world_of_process(),
            samples=now.samples,
            tokens=now.tokens,
            flops=now.flops,
            money=round(now.money, 8) or None,
        )

    def reached(self) -> str | None:
        """Which limit is reached, as a sentence; None: none is, as far as it is held now."""
        held = {key: self._budget.get(key) for key in (*_ALWAYS, *self._making)}
        if not any(held.values()) or finishes(self._budget):
            return None
        key = self._spent.plus(self._now()).reached(held)
        return key and limit_is_spent(key, self._budget[key])

    def _now(self) -> Spent:
        """What the stage cost so far."""
        seconds, price = time.monotonic() - self._wall, self._budget.get("price") or {}
        hours, tokens = device_hours(seconds, ranks.world_of_process()), int(self._counted["tokens"])
        money = hours * price.get("device_hour", 0.0) + tokens / 1000 * price.get("thousand_tokens", 0.0)
        return Spent(
            seconds, hours, int(self._counted["samples"]), tokens, money, round(self._counted["flops"])
        )

    @contextmanager
    def making(self, counts: Counts) -> Iterator[None]:
        """Hold the limits of what is made within the block, too."""
        self._making = tuple(counts)
        try:
            yield
        finally:
            self._making = ()

    @property
    def counts(self) -> dict[str, float]:
        """Samples, tokens and FLOPs so far."""
        return dict(self._counted)

    def add(self, counts: Counts, rows: pa.Table) -> None:
        """Count the rows of a unit that was made in this session. Raises DataError if they cannot be."""
        self.add_counts({name: count(rows) for name, count in counts.items()})

    def add_counts(self, counts: Mapping[str, float]) -> None:
        """Count samples, tokens and FLOPs of this session."""
        for name, count in counts.items():
            self._counted[name] += count


def tokens_of(part: Any) -> Counts:
    """How the tokens of a part's rows are counted: by the column that it names; empty: it names none."""
    name = getattr(part, "tokens_column", None)
    if name is None:
        return {}

    def count(rows: pa.Table) -> int:
        numbers = rows[name].to_pylist() if name in rows.column_names else [None]
        if not all(isinstance(number, int) and number >= 0 for number in numbers):
            raise DataError(
                f"tokens_column must be a column of whole numbers, 0 or more, of what {type(part).__name__} "
                f"answers; {name!r} is none."
            )
        return sum(numbers)

    return {"tokens": count}
