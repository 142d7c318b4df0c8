"""A base for trackers that show a run as rows, derived from its ledger; see ``flywheel.trackers.rows``."""

from __future__ import annotations

from pathlib import Path

from flywheel.storage import ledger
from flywheel.storage.events import Event, SessionStarted
from flywheel.storage.state import RunState
from flywheel.storage.store import Store
from flywheel.trackers.base import NoTracker
from flywheel.trackers.rows import Row, Rows


class Mirror(NoTracker):
    """Gives each row of a run to ``row``; when a session begins, those of all that happened before.

    So a mirror keeps nothing from session to session: what it shows is made anew.
    """

    def open(self, directory: Path) -> None:
        """Remember where the run lies."""
        self._directory, self._store = directory, Store(directory)
        self._rows: Rows | None = None

    def event(self, event: Event, state: RunState) -> None:
        """Begin with the session; then show what each event says."""
        if self._rows is not None:
            self._show(event, state)
        elif isinstance(event, SessionStarted):
            self._rows = Rows(self._store)
            self.begin(state)
            replayed = RunState()
            for earlier in ledger.read(self._directory)[: event.seq + 1]:
                replayed.apply(earlier)
                self._show(earlier, replayed)
            self.caught_up()

    def begin(self, state: RunState) -> None:
        """The session has begun; rows follow."""

    def caught_up(self) -> None:
        """All that happened before the session was shown."""

    def row(self, row: Row, state: RunState) -> None:
        """Show a row."""
        raise NotImplementedError

    def _show(self, event: Event, state: RunState) -> None:
        assert self._rows is not None, "a mirror has begun"
        for row in self._rows.of(event, state):
            self.row(row, state)
