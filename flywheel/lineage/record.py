"""A run's ledger, read once, for questions: events, state, store, and what hangs off them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.lineage.generation import Which, find_generation
from flywheel.lineage.status import is_untested
from flywheel.storage import ledger
from flywheel.storage.events import CodeChanged, Event, GenerationEnded, GenerationStarted, SessionStarted
from flywheel.storage.state import Generation, RunState
from flywheel.storage.store import Store

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Record:
    """What a run had recorded when it was read."""

    directory: Path
    events: Sequence[Event]
    state: RunState
    store: Store

    @classmethod
    def read(cls, directory: Path) -> Record:
        """Read a run. Raises DamagedError if its ledger is not what was written."""
        events = ledger.read(directory)
        return cls(directory, events, RunState.replay(events), Store(directory))

    @property
    def name(self) -> str:
        """The run's name, as it was given: the folder may be called otherwise, or moved."""
        return self.state.created.name if self.state.created else ""

    def generation(self, which: Which) -> Generation:
        """A generation. Raises RunError if there is none of this name."""
        return find_generation(self.directory, self.state, which)

    @property
    def head(self) -> str:
        """Hash of the last event."""
        return self.events[-1].hash if self.events else ledger.GENESIS_HASH

    def flags(self, number: int) -> list[str]:
        """What is to be said of a generation beside its verdict; ``pruned``: its weights were."""
        generation = self.state.generations[number]
        flags = {
            "champion": generation is self.state.champion,
            "frontier": generation in self.state.ahead[-1:],
            "no test": is_untested(generation, self.state),
            "abandoned": generation.abandoned,
            "recalled": generation.recalled,
            "suspect": generation.suspect,
            "pruned": self.is_gone(str(generation.weights)),
        }
        return [name for name, holds in flags.items() if holds]

    def is_gone(self, name: str) -> bool:
        """Whether an artifact was pruned."""
        return name in self.state.pruned

    def table(self, name: str | None) -> pa.Table | None:
        """An artifact's table, or what stays of it if it was pruned; None if nothing does."""
        place = self.state.resolve_pruned(name) if name else ""
        return None if not place or self.is_gone(place) else self.store.table(place)

    def lines(self) -> list[bytes]:
        """The lines of the events, as they lie."""
        with open(self.directory / "ledger.jsonl", "rb") as file:
            return file.readlines()[: len(self.events)]

    def code(self, session: SessionStarted) -> dict[str, dict[str, str | None]]:
        """{module: its ``sha256`` and perhaps ``text``} that a session ran; None: not known."""
        return self._json(session, "code")

    def distributions(self, session: SessionStarted) -> dict[str, str]:
        """{name: version} of what was installed in a session."""
        return self._json(session, "distributions")

    def _json(self, session: SessionStarted, output: str) -> dict[str, Any]:
        name = session.outputs.get(output)
        return dict(self.store.json(name)) if name else {}

    def code_change(self, session: SessionStarted) -> CodeChanged | None:
        """The event that says how a session's code differs from that of the session before."""
        before = self.events[session.seq - 1]
        return before if isinstance(before, CodeChanged) else None

    def sessions(self, number: int) -> list[SessionStarted]:
        """The sessions in which a generation was made: the one that began it, and those that resumed it."""
        sessions: list[SessionStarted] = []
        latest: SessionStarted | None = None
        under_way = False
        for event in self.events:
            if isinstance(event, SessionStarted):
                latest = event
            if isinstance(event, GenerationStarted) and event.generation == number:
                under_way = True
            if under_way and latest and (not sessions or sessions[-1] is not latest):
                sessions.append(latest)
            if isinstance(event, GenerationEnded) and event.generation == number:
                break
        return sessions
