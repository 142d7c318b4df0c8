"""Making room in a run that nobody is writing; ``runner`` does the same after each generation that ends."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from flywheel.errors import ConfigError
from flywheel.records import Answer, Json, as_json
from flywheel.storage import ledger, lock
from flywheel.storage.policy import Policy
from flywheel.storage.reader import reread_when_pruned
from flywheel.storage.retention import Drop, plan
from flywheel.storage.slim import WHOLE, Measured, Removal, plan_removal
from flywheel.storage.state import RunState
from flywheel.storage.store import Store

_ARTIFACT = re.compile(rb"[0-9a-f]{64}\.[a-z]+")


class Files(Answer, frozen=True):
    """How many files, and their size together in bytes."""

    files: int
    bytes: int

    @classmethod
    def of(cls, sizes: Mapping[str, int]) -> Files:
        """Those of ``{name: bytes}``."""
        return cls(len(sizes), sum(sizes.values()))


class Pruning(Answer, frozen=True):
    """What a prune did, or would do."""

    policy: Policy
    done: bool
    drops: list[Drop] = msgspec.field(default_factory=list)
    bytes: dict[str, int] = msgspec.field(default_factory=dict)
    """Size of each object that goes."""
    slim_bytes: dict[str, int] = msgspec.field(default_factory=dict)
    """Size of each slim table that comes in place of some of them."""
    orphans: dict[str, int] = msgspec.field(default_factory=dict)
    """Files that no event names, left by a crash, and their sizes: they go too."""

    @property
    def freed(self) -> int:
        """Bytes that are free afterwards in ``objects/``, without the orphans."""
        return sum(self.bytes.values()) - sum(self.slim_bytes.values())

    def add(self, removal: Removal) -> None:
        """Take in what went, or would go."""
        self.drops.extend(removal.drops)
        self.bytes.update(removal.objects)
        self.slim_bytes.update(removal.slim_bytes)

    def json(self) -> dict[str, Json]:
        """The pruning as JSON."""
        return {
            "policy": self.policy.json(),
            "done": self.done,
            "bytes": self.freed,
            "objects": [{**as_json(drop), "bytes": self.bytes[drop.name]} for drop in self.drops],
            "slim": Files.of(self.slim_bytes).json(),
            "orphans": Files.of(self.orphans).json(),
        }


def prune(directory: Path, *, promoted: bool = False, last: int | None = None, yes: bool = False) -> Pruning:
    """Drop all but what is kept: see ``Policy``; only say what would go, unless ``yes``.

    Raises ConfigError unless it is said what to keep, LockedError if the run is being written.
    """
    try:
        policy = Policy.of(promoted=promoted, last=last)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if policy is None:
        raise ConfigError(
            "What to keep must be said: all champions (promoted), the last N generations (last; 0 keeps "
            "only what the run needs), or both."
        )
    if not yes:
        return _dry(directory, policy)
    lock.acquire(directory, lock.Work.PRUNE)
    try:
        return _prune(directory, policy)
    finally:
        lock.release(directory)


@reread_when_pruned
def _dry(directory: Path, policy: Policy) -> Pruning:
    return would_prune(directory, RunState.replay(ledger.read(directory)), policy)


def would_prune(
    directory: Path, state: RunState, policy: Policy, measured: Measured | None = None
) -> Pruning:
    """What a prune would do. It reads each batch that would go, to know how much stays of it.

    ``measured``: what was found out for another policy of the same run and state.
    """
    store, pruning = Store(directory), Pruning(policy, False, orphans=orphans(directory))
    absent = set(map(artifact_at, pruning.orphans))
    for part in _parts(plan(store, state, policy)):
        pruning.add(plan_removal(store, state, part, policy, write=False, absent=absent, measured=measured))
    return pruning


def _prune(directory: Path, policy: Policy) -> Pruning:
    writer, store = ledger.Ledger(directory), Store(directory)
    try:
        state, pruning = RunState.replay(writer), Pruning(policy, True, orphans=orphans(directory))
        delete(store, state.pruned)
        for path in pruning.orphans:
            (directory / path).unlink(missing_ok=True)
        for part in _parts(plan(store, state, policy)):
            removal = plan_removal(store, state, part, policy, write=True)
            if removal.drops:
                state.check(removal.event)
                state.apply(writer.append(removal.event))
                delete(store, removal.objects)
                pruning.add(removal)
    finally:
        writer.close()
    return pruning


def _parts(drops: list[Drop]) -> tuple[list[Drop], list[Drop]]:
    """Weights and keys first: the disk may be full, and the others need room for their slim tables."""
    whole = [drop for drop in drops if drop.kind in WHOLE]
    return whole, [drop for drop in drops if drop.kind not in WHOLE]


def delete(store: Store, names: Iterable[str]) -> None:
    """Delete the files of objects that the ledger says are pruned, unless that was done."""
    for name in names:
        store.path(name).unlink(missing_ok=True)


def sizes(directory: Path) -> dict[str, int]:
    """Size of each file in the folders of ``objects/``, by its path within the run. Follows no link."""
    objects = directory / "objects"
    folders = [] if objects.is_symlink() or not objects.is_dir() else sorted(objects.iterdir())
    real = (folder for folder in folders if folder.is_dir() and not folder.is_symlink())
    files = (path for folder in real for path in sorted(folder.iterdir()) if path.is_file())
    return {str(path.relative_to(directory)): path.stat().st_size for path in files}


def orphans(directory: Path) -> dict[str, int]:
    """Sizes of files that no event names, whatever for: what a crash left.

    Of a run that is being written, also what a stage has made and not recorded yet.
    """
    text = (directory / "ledger.jsonl").read_bytes()
    named = {name.decode() for name in _ARTIFACT.findall(text)}
    return {path: size for path, size in sizes(directory).items() if artifact_at(path) not in named}


def artifact_at(path: str) -> str:
    """Name of the artifact whose path is ``objects/ab/cd….suffix``."""
    return "".join(Path(path).parts[-2:])
