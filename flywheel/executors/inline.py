"""Units one after another, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from flywheel.records import Unit, UnitResult
from flywheel.runtime.work import attempt


@dataclass(frozen=True, slots=True)
class Inline:
    """Does the units itself. ``check`` is called before each and may raise to leave."""

    check: Callable[[], None]

    def run(self, work: Callable[[Unit], bytes], units: Iterable[Unit]) -> Iterator[UnitResult]:
        """See ``flywheel.protocols.Executor``."""
        for unit in units:
            self.check()
            yield attempt(work, unit)
