"""The stage events of a generation, parsed when they are looked at: most questions need few of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, MutableMapping

from flywheel.storage.ledger import Event, StageLine

_COST = re.compile(rb'\{"cost":\{"cpu_seconds":([0-9.e+-]+),"seconds":([0-9.e+-]+)[,}]')


class Stages(MutableMapping[str, Event]):
    """Stage -> event. Lines are kept as bytes until somebody asks for their event."""

    def __init__(self) -> None:
        self._known: dict[str, Event | StageLine] = {}

    def add_line(self, line: StageLine) -> bool:
        """Add a line that is not to be parsed yet; False: there is one of that stage already."""
        return self._known.setdefault(line.stage, line) is line

    def output(self, stage: str, name: str) -> str | None:
        """An output of a stage, None if it or the stage is not there; a line is not parsed for it."""
        known = self._known.get(stage)
        if known is None or isinstance(known, StageLine):
            return known and known.output(name)
        output: str | None = known["outputs"].get(name)
        return output

    def cost(self, stage: str) -> dict[str, float]:
        """``seconds`` and ``cpu_seconds`` of a stage; a line is not parsed for them."""
        known = self._known[stage]
        return cost_of(known if isinstance(known, StageLine) else self[stage])

    def __getitem__(self, stage: str) -> Event:
        known = self._known[stage]
        if isinstance(known, StageLine):
            known = self._known[stage] = known.event()
        return known

    def __setitem__(self, stage: str, event: Event) -> None:
        self._known[stage] = event

    def __delitem__(self, stage: str) -> None:
        del self._known[stage]

    def __contains__(self, stage: object) -> bool:
        return stage in self._known

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def __repr__(self) -> str:
        return f"Stages({', '.join(self)})"


def cost_of(stage: Event | StageLine) -> dict[str, float]:
    """``seconds`` and ``cpu_seconds`` of a stage; a line is not parsed for them."""
    if isinstance(stage, StageLine):
        if found := _COST.match(stage.line):
            return {"cpu_seconds": float(found[1]), "seconds": float(found[2])}
        stage = stage.event()
    cost: dict[str, float] = stage["cost"]
    return cost
