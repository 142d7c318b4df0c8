"""Units one after another, in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from flywheel.records import Unit, UnitResult


@dataclass(frozen=True, slots=True)
class Inline:
    """Does the units itself. ``check`` is called before each and may raise to leave."""

    check: Callable[[], None]

    def run(self, work: Callable[[Unit], bytes], units: Iterable[Unit]) -> Iterator[UnitResult]:
        """See ``flywheel.protocols.Executor``."""
        for unit in units:
            self.check()
            yield attempt(work, unit)


def attempt(work: Callable[[Unit], bytes], unit: Unit) -> UnitResult:
    """A unit's result, or its failure, with the time it took."""
    began = time.monotonic()
    data, error = None, None
    try:
        data = work(unit)
    except Exception as failure:
        error = failure
    return UnitResult(unit.number, data, error, time.monotonic() - began)
