"""What a person adds to the ledger of a run between its sessions: a recall, a rollback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flywheel.errors import UnwritableError
from flywheel.storage import lock
from flywheel.storage.events import Event, GenerationEnded, Status
from flywheel.storage.ledger import Ledger
from flywheel.storage.state import Generation, RunState
from flywheel.storage.store import Store


@dataclass(frozen=True, slots=True)
class Amendment:
    """A run that is open for such an addition."""

    directory: Path
    state: RunState
    store: Store
    ledger: Ledger

    def record(self, event: Event) -> Event:
        """Append an event, if the rules allow it. Raises DamagedError, and writes nothing, if not."""
        self.state.check(event)
        recorded = self.ledger.append(event)
        self.state.apply(recorded)
        return recorded

    def end(self, generation: Generation, reason: str) -> None:
        """End the generation under way as failed: what it descends from is given up."""
        self.record(
            GenerationEnded(generation=generation.number, status=Status.FAILED, reason=reason, carry={})
        )


@contextmanager
def amend(directory: Path, work: lock.Work) -> Iterator[Amendment]:
    """Open a run that nobody is writing, for this work.

    Raises LockedError, DamagedError or UnwritableError.
    """
    try:
        lock.acquire(directory, work)
        with contextlib.ExitStack() as ends:
            ends.callback(lock.release, directory)
            ledger = Ledger(directory)
            ends.callback(ledger.close)
            yield Amendment(directory, RunState.replay(ledger), Store(directory), ledger)
    except OSError as error:
        raise UnwritableError.of(directory, error) from error
