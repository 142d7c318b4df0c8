"""Units in rounds, one a rank of torchrun."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from msgspec.structs import replace

from flywheel import ranks
from flywheel.errors import RankDied, StopRequested
from flywheel.records import Unit, UnitResult
from flywheel.runtime.work import CutOff, attempt


@dataclass(frozen=True, slots=True)
class Ranks:
    """Rank 0 pulls a round of units, each rank does one, and rank 0 is handed the results.

    All ranks must run it to its end. ``check`` is called before each round by all of them together; it may
    raise to leave. No more than a round of results is in memory.
    """

    check: Callable[[], None]

    def run(self, work: Callable[[Unit], bytes], units: Iterable[Unit]) -> Iterator[UnitResult]:
        """See ``flywheel.protocols.Executor``."""
        waiting = iter(units)
        while True:
            self.check()
            batch = ranks.from_rank_0(lambda: list(islice(waiting, ranks.world_size())))
            if not batch:
                return
            mine = [_attempt(work, unit) for unit in batch[ranks.rank() :][:1]]
            portable = [replace(result, error=ranks.portable(result.error)) for result in mine]
            try:
                results = ranks.gather(portable)
            except RankDied:
                # What is finished here need not be lost, too; a failure may be of the death.
                yield from (result for result in mine if ranks.rank() == 0 and result.error is None)
                raise
            causes = [result.error for result in results if result.error is not None]
            cause = min(causes, key=ranks.is_of_collective, default=None)
            for result in results:  # a collective that failed since another rank left it is not to blame
                is_victim = result.error is not None and ranks.is_of_collective(result.error)
                yield replace(result, error=cause) if is_victim else result


def _attempt(work: Callable[[Unit], bytes], unit: Unit) -> UnitResult:
    """A unit's result. A stop that this rank sees alone is agreed upon before the next round."""
    try:
        return attempt(work, unit)
    except StopRequested:
        return UnitResult(unit.number, None, CutOff(), 0.0)
