"""A run's ledger, read once, for questions: events, state, store, and what hangs off them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.errors import RunError
from flywheel.lineage import ledger
from flywheel.lineage.ledger import Event
from flywheel.lineage.state import Generation, RunState
from flywheel.lineage.store import Store

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

    def generation(self, number: int) -> Generation:
        """A generation. Raises RunError if there is none of this number."""
        known = self.state.generations
        if not 0 <= number < len(known):
            there = f"has generations 0 to {len(known) - 1}" if known else "has none yet"
            raise RunError(f"A generation is named by its number; {self.directory} {there}, not {number}.")
        return known[number]

    @property
    def head(self) -> str:
        """Hash of the last event."""
        return str(self.events[-1]["hash"]) if self.events else ledger.GENESIS_HASH

    @cached_property
    def pruned(self) -> frozenset[str]:
        """Artifacts that a retention policy deleted, with a tombstone."""
        return frozenset(name for event in self._of("pruned") for name in event["objects"])

    @cached_property
    def recalled(self) -> frozenset[int]:
        """Generations that a recall named."""
        return frozenset(number for event in self._of("recalled") for number in event["generations"])

    @cached_property
    def suspect(self) -> frozenset[int]:
        """Generations that a recall reached only through what cannot pass a flaw on as data."""
        found = {number for event in self._of("recalled") for number in event.get("suspect", [])}
        return frozenset(found) - self.recalled

    @cached_property
    def batch_turns(self) -> dict[str, int]:
        """The generation in whose turn each batch of samples was made; 0 for the human one."""
        return {batch: g.number for g in self.state.generations if (batch := batch_of(g))}

    def flags(self, number: int) -> list[str]:
        """What has been said of a generation since its verdict."""
        champion = self.state.champion
        told = {
            "champion": champion is not None and champion.number == number,
            "recalled": number in self.recalled,
            "suspect": number in self.suspect,
        }
        return [name for name, holds in told.items() if holds]

    def is_gone(self, name: str) -> bool:
        """Whether an artifact was pruned."""
        return name in self.pruned and not self.store.path(name).exists()

    def table(self, name: str) -> pa.Table | None:
        """An artifact's table; None if it was pruned."""
        return None if self.is_gone(name) else self.store.table(name)

    def sessions(self, number: int) -> list[Event]:
        """The sessions in which a generation was made: the one that began it, and those that resumed it."""
        found: list[Event] = []
        latest: Event | None = None
        under_way = False
        for event in self.events:
            kind = event["event"]
            if kind == "session_started":
                latest = event
            if kind == "generation_started" and event["generation"] == number:
                under_way = True
            if under_way and latest and (not found or found[-1] is not latest):
                found.append(latest)
            if kind == "generation_ended" and event["generation"] == number:
                break
        return found

    def _of(self, kind: str) -> Iterator[dict[str, Any]]:
        return (event for event in self.events if event["event"] == kind)


def batch_of(generation: Generation) -> str | None:
    """The samples that were made in a generation's turn; genesis has the human ones."""
    return generation.output("generate", "samples") or generation.output("seed", "samples")
