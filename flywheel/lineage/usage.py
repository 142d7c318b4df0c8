"""What takes the room in a run's directory, and what could be freed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from flywheel.records import Answer
from flywheel.storage import ledger
from flywheel.storage.events import Event, Pruned, SessionStarted, StageDone
from flywheel.storage.policy import Policy
from flywheel.storage.pruning import Files, artifact_at, orphans, sizes, would_prune
from flywheel.storage.reader import reread_when_pruned
from flywheel.storage.slim import Measured
from flywheel.storage.state import RunState

_POLICIES = (Policy(promoted=True, last=3), Policy(promoted=True), Policy())
_KINDS = {
    "base": "weights",
    "corpus": "corpora",
    "carry": "carries",
    "HEAD": "ledger",
    "ledger.jsonl": "ledger",
}


class Usage(Answer, frozen=True):
    """What takes the room in a run's directory. Sizes are in bytes."""

    run: str
    """Its directory."""
    bytes: int
    by_kind: Mapping[str, int]
    """Largest first, e.g. ``{"weights": 41943040, "samples": 1048576}``."""
    by_generation: Mapping[int, int]
    """What each generation made first."""
    prunable: Mapping[str, int]
    """What ``prune`` with these options would free, e.g. ``{"--promoted --last 3": 1048576}``."""
    pruned: int
    """Freed so far, net of the tables that stand in."""
    orphans: Files
    """Files that no event names, left by a crash."""


@reread_when_pruned
def usage(directory: Path) -> Usage:
    """Bytes by kind and by generation, what ``prune`` could free and has freed, and orphans."""
    events = ledger.read(directory)
    state, makers = RunState.replay(events), _makers(events)
    on_disk, lost = sizes(directory), orphans(directory)
    by_kind, by_generation = Counter[str](), Counter[int]()
    for path in on_disk.keys() - lost.keys():
        kind, generation = makers.get(artifact_at(path), ("other", None))
        by_kind[kind] += on_disk[path]
        if generation is not None:
            by_generation[generation] += on_disk[path]
    for file in directory.iterdir():
        if file.is_file():
            by_kind[_KINDS.get(file.name, "other")] += file.stat().st_size
    measured: Measured = {}
    freed = (event.objects for event in events if isinstance(event, Pruned))
    return Usage(
        run=str(directory),
        bytes=sum(by_kind.values()) + sum(lost.values()),
        by_kind=dict(by_kind.most_common()),
        by_generation={number: by_generation[number] for number in sorted(by_generation)},
        prunable={
            policy.options: would_prune(directory, state, policy, measured).freed for policy in _POLICIES
        },
        pruned=sum(size for gone in freed for size in gone.values()) - by_kind["slim"],
        orphans=Files.of(lost),
    )


def _makers(events: list[Event]) -> dict[str, tuple[str, int | None]]:
    """Kind of each artifact that was made, and the generation that made it first."""
    makers: dict[str, tuple[str, int | None]] = {}
    for event in events:
        outputs = event.outputs if isinstance(event, StageDone | SessionStarted) else {}
        number = event.generation if isinstance(event, StageDone) else None
        for output, name in outputs.items():
            kind = "suites" if output.startswith("suite_") else _KINDS.get(output, output.partition(".")[0])
            makers.setdefault(name, (kind, number))
        for old, name in event.slim.items() if isinstance(event, Pruned) else ():
            makers.setdefault(name, ("slim", makers[old][1]))
    return makers
