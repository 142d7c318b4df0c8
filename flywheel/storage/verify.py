"""Check that a run is what was written: every line, HEAD, and every artifact that the ledger names."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from flywheel.errors import DamagedError, PrunedError
from flywheel.records import Answer, Json
from flywheel.storage import ledger
from flywheel.storage.events import (
    Consented,
    Decided,
    Event,
    ForkedFrom,
    GenerationEnded,
    Pruned,
    Recalled,
    RunCreated,
    RunEnded,
    SessionStarted,
    StageDone,
)
from flywheel.storage.state import RunState
from flywheel.storage.store import Store, is_artifact


class Verification(Answer, frozen=True):
    """What ``verify`` found."""

    lines: int
    """Of the ledger, that are as written."""
    objects: int
    """Artifacts that were read and are as written."""
    pruned: int
    """Artifacts that were pruned: only their names and sizes are left."""
    head: str
    """SHA-256 of the last line, as HEAD has it."""
    first_bad: str | None
    """The first thing that is wrong, as a sentence; None: everything is as written."""

    @property
    def ok(self) -> bool:
        """Whether everything is as written."""
        return self.first_bad is None

    def json(self) -> dict[str, Json]:
        """Its fields by name, and ``ok``."""
        return {"ok": self.ok, **super().json()}


def verify(directory: Path, kept_head: str | None = None) -> Verification:
    """Check a run from its first line on, stopping at the first thing that is wrong.

    ``kept_head`` is the head at some earlier time, kept elsewhere: it must be the hash of a line. That
    alone finds lines that were cut off, or rewritten, together with HEAD.
    """
    if not (directory / "ledger.jsonl").is_file():
        return Verification(0, 0, 0, ledger.GENESIS_HASH, "ledger.jsonl is missing")
    scan, reason = ledger.inspect(directory)
    head, lines, pruned = ledger.read_head(directory), len(scan.events), dict[str, Pruned]()
    try:
        pruned = RunState.replay(scan.events).pruned
    except DamagedError as error:
        reason = reason or str(error)
    if bad := reason or _head_lost(scan.events, kept_head):
        return Verification(lines, 0, 0, head, bad)
    checked = 0
    for bad in _objects(directory, scan.events, pruned):
        if bad:
            return Verification(lines, checked, len(pruned), head, bad)
        checked += 1
    return Verification(lines, checked, len(pruned), head, None)


def _head_lost(events: list[Event], kept: str | None) -> str | None:
    if kept is None or kept == ledger.GENESIS_HASH or any(event.hash == kept for event in events):
        return None
    return (
        f"ledger.jsonl: the head that was kept, {kept}, is the hash of none of its {len(events)} lines: "
        "it was cut off or rewritten since, HEAD with it, or the head is another run's"
    )


def _objects(directory: Path, events: list[Event], pruned: Collection[str]) -> Iterator[str | None]:
    """What is wrong with each artifact that a line names, then with each file that none does; None: nothing.

    A file that no line names is what a killed process left. It is checked by its own name.
    """
    store, seen = Store(directory), set[str]()
    for seq, name in ((event.seq, name) for event in events for name in _named_by(event)):
        if name not in seen:
            seen.add(name)
            if is_artifact(name) and not store.path(name).exists():
                if name not in pruned:  # a writer may have pruned it since the ledger was read
                    pruned = RunState.replay(ledger.read(directory)).pruned
                if name in pruned:
                    continue
            try:
                bad = _damage(store, name)
            except PrunedError:  # between that look and this one
                continue
            yield bad and f"{_where(name)} (named by ledger line {seq + 1}): {bad}"
    for name in sorted(_present(directory / "objects")):
        if name not in seen:
            bad = _damage(store, name)
            if bad:
                yield f"{_where(name)} (named by no line): {bad}"


def _named_by(event: Event) -> Iterable[str]:
    match event:
        case StageDone():
            return [*event.inputs.values(), *event.outputs.values()]
        case SessionStarted():
            return event.outputs.values()
        case Decided(value=str(artifact)):
            return [artifact]
        case GenerationEnded():
            return event.carry.values()
        case Recalled():
            return [*event.carry.values(), event.samples]
        case Pruned():
            return event.slim.values()
        case RunCreated(forked_from=ForkedFrom(recalled=str(recalled))):
            return [recalled]
        case Consented() | RunEnded() if event.manifest:
            return [event.manifest]
    return ()


def _present(objects: Path) -> Iterator[str]:
    """Names of what lies under ``objects``; what is being written begins with a dot."""
    for folder in os.scandir(objects) if objects.is_dir() else ():
        if folder.name.startswith("."):
            continue
        if not folder.is_dir(follow_symlinks=False):
            yield folder.name
            continue
        yield from (folder.name + file.name for file in os.scandir(folder) if not file.name.startswith("."))


def _where(name: str) -> str:
    return f"objects/{name[:2]}/{name[2:]}" if is_artifact(name) else repr(name)


def _damage(store: Store, name: str) -> str | None:
    if not is_artifact(name):
        return "it is not the name of an artifact (64 hex digits and a suffix)"
    try:
        with store.open(name) as file:
            digest = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type]
    except DamagedError as error:
        return str(error)
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    if digest.hexdigest() != name.partition(".")[0]:
        return "its content does not match its hash"
    return None
