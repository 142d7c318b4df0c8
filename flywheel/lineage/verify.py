"""Check that a run is what was written: every line, HEAD, and every artifact that the ledger names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flywheel.errors import DamagedError
from flywheel.lineage import ledger
from flywheel.lineage.state import RunState
from flywheel.lineage.store import Store


@dataclass(frozen=True, slots=True)
class Verification:
    """What ``verify`` found. ``first_bad`` None: everything is as written."""

    lines: int
    objects: int
    head: str
    first_bad: str | None

    def json(self) -> dict[str, Any]:
        """The result as JSON."""
        return {
            "ok": self.first_bad is None,
            "lines": self.lines,
            "objects": self.objects,
            "head": self.head,
            "first_bad": self.first_bad,
        }


def verify(directory: Path) -> Verification:
    """Check a run from its first line on, stopping at the first thing that is wrong."""
    found, reason = ledger.inspect(directory)
    head = ledger.read_head(directory)
    if reason:
        return Verification(len(found.events), 0, head, reason)
    try:
        pruned = RunState.replay(found.events).pruned
    except DamagedError as error:
        return Verification(len(found.events), 0, head, f"ledger.jsonl: {error}")
    store, checked = Store(directory), set[str]()
    for seq, name in _artifacts(found.events):
        if name in checked or (name in pruned and not store.path(name).exists()):
            continue
        if not store.path(name).exists():  # a writer may have pruned it since the ledger was read
            pruned = RunState.replay(ledger.read(directory)).pruned
            if name in pruned:
                continue
        bad = _object_damage(store.path(name), name)
        if bad:
            where = store.path(name).relative_to(directory)
            bad = f"{where} (named by ledger line {seq + 1}): {bad}"
            return Verification(len(found.events), len(checked), head, bad)
        checked.add(name)
    return Verification(len(found.events), len(checked), head, None)


def _artifacts(events: list[ledger.Event]) -> Iterator[tuple[int, str]]:
    for event in events:
        for key in ("inputs", "outputs", "carry", "slim"):
            for name in event.get(key, {}).values():
                yield event["seq"], name
        recalled = event.get("samples") if event["event"] == "recalled" else None
        inherited = (event.get("forked_from") or {}).get("recalled")
        for name in filter(None, (recalled, inherited)):
            yield event["seq"], name


def _object_damage(path: Path, name: str) -> str | None:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    if digest.hexdigest() != name.partition(".")[0]:
        return "its content does not match its hash"
    return None
