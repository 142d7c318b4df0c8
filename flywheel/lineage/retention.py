"""Keeping disks small: what a policy drops, its tombstones in the ledger, and the deletion that follows.

A generation that is kept stays whole: what its stages made, and what its weights were trained and
evaluated from, so that it can be reproduced. Kept are the first champion and the one in force, a generation
under way and its parent, and those that the policy names. Of the others go

    weights      the file
    samples      the payload; a slim table stays with what recall and trace go by: SLIM
    scores       all
    decisions    those on earlier batches; the slim table has those on its own

unless somebody else needs them: a kept generation, or the next corpus. Human samples, suites, the base
weights, corpora, outcomes and carries always stay.

The ``pruned`` event comes first, with the size of each object that goes; then the files are deleted. What a
crash between the two leaves behind is deleted when the run is opened or pruned the next time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.errors import ConfigError, DamagedError
from flywheel.lineage import ledger, lock
from flywheel.lineage.objects import orphans
from flywheel.lineage.sources import sources_of
from flywheel.lineage.state import Generation, RunState, Status
from flywheel.lineage.store import Store
from flywheel.policy import Policy

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = (("generate", "samples"), ("grade", "scores"))
DROPPED = (("train", "weights"), ("adopt", "weights"), *_BATCH, ("curate", "decisions"))
"""(stage, output) that may go."""
SLIM = ("id", "origin", "source", "generation", "group")
"""Columns that stay of a batch."""


@dataclass(frozen=True, slots=True)
class Drop:
    """An object that goes, and whose it was."""

    name: str
    kind: str
    """weights, samples, scores or decisions."""
    generation: int


def plan(store: Store, state: RunState, policy: Policy) -> list[Drop]:
    """What the policy drops now: a function of what is recorded alone."""
    kept = _kept(state, policy)
    gone = {*_needed(store, state, kept), *state.pruned}
    drops = []
    for generation in state.generations:
        for stage, output in DROPPED if generation.number not in kept else ():
            name = generation.output(stage, output)
            slim_is_all = generation.is_genesis and output == "decisions"
            if name is not None and name not in gone and not slim_is_all:
                gone.add(name)
                drops.append(Drop(name, output, generation.number))
    return drops


def _kept(state: RunState, policy: Policy) -> set[int]:
    """Numbers of the generations that stay whole."""
    always = (state.champion, state.first_champion, state.current)
    kept = {generation.number for generation in always if generation}
    if state.current and state.current.parent is not None:
        kept.add(state.current.parent)
    ended = [g for g in state.generations if g is not state.current]
    kept |= {g.number for g in ended[-policy.last :] if policy.last}
    return kept | {g.number for g in ended if policy.promoted and g.status is Status.PROMOTED}


def _needed(store: Store, state: RunState, kept: set[int]) -> Iterator[str]:
    """Artifacts that kept generations, or the next corpus, are made from."""
    since = state.champion.number if state.champion else -1
    for generation in state.generations:
        if generation.number in kept or "seed" in generation.stages:
            yield from (name for source in sources_of(store, generation) for name in source if name)
            for stage, event in generation.stages.items():
                yield from event["outputs"].values()
                if stage in ("train", "adopt", "evaluate"):
                    yield from event["inputs"].values()
        if generation.number > since and generation.status is Status.REJECTED:  # see loop.sources_before
            yield from filter(None, (generation.output(stage, name) for stage, name in _BATCH))


def tombstones(store: Store, state: RunState, drops: Iterable[Drop], policy: str) -> dict[str, Any]:
    """Content of the ``pruned`` event. Stores the slim tables that it names. Raises DamagedError."""
    objects, slim = dict[str, int](), dict[str, str]()
    going = {drop.name for drop in drops}
    for drop in drops:
        try:
            objects[drop.name] = store.path(drop.name).stat().st_size
        except FileNotFoundError:
            raise DamagedError(
                f"Only what is there is pruned; {store.path(drop.name)} is missing. Run verify on the run."
            ) from None
        if drop.kind in ("samples", "decisions"):
            table = _slim(store, state.generations[drop.generation], going)
            slim[drop.name] = store.put_table(table)
    return {"policy": policy, "objects": objects, "slim": slim}


def _slim(store: Store, generation: Generation, going: set[str]) -> pa.Table:
    """What stays of a generation's batch, of the decisions on it, or of both in one table."""
    import pyarrow.compute as pc

    samples = str(generation.output("generate", "samples"))
    decided = generation.output("curate", "decisions")
    batch = store.table(samples)
    rows = batch.select(SLIM if samples in going else ["id"])
    if decided in going:
        decisions = store.table(decided)
        where = pc.index_in(batch["id"], value_set=decisions["id"])
        for name in decisions.column_names[1:]:
            rows = rows.append_column(name, decisions[name].take(where))
    return rows


def delete(store: Store, names: Iterable[str]) -> None:
    """Delete the files of objects that the ledger says are pruned, unless that was done."""
    for name in names:
        store.path(name).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Pruning:
    """What a prune did, or would do."""

    policy: str
    done: bool
    drops: list[Drop]
    bytes: dict[str, int]
    """Size of each object that goes."""
    orphans: dict[str, int]
    """Files that no event names, left by a crash, and their sizes: they go too."""

    def json(self) -> dict[str, Any]:
        """The pruning as JSON."""
        return {
            "policy": self.policy,
            "done": self.done,
            "bytes": sum(self.bytes.values()),
            "objects": [{**asdict(drop), "bytes": self.bytes[drop.name]} for drop in self.drops],
            "orphans": {"files": len(self.orphans), "bytes": sum(self.orphans.values())},
        }


def prune(directory: Path, keep: str, *, yes: bool = False) -> Pruning:
    """Drop what the policy ``keep`` does not name; only say what would go, unless ``yes``.

    Raises ConfigError for a policy that is none, LockedError if the run is being written.
    """
    try:
        policy = Policy.parse(keep)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if not yes:
        state = RunState.replay(ledger.read(directory))
        store = Store(directory)
        drops = plan(store, state, policy)
        return Pruning(str(policy), False, drops, _sizes(store, drops), orphans(directory))
    lock.acquire(directory, lock.Work.PRUNE)
    try:
        return _prune(directory, policy)
    finally:
        lock.release(directory)


def _prune(directory: Path, policy: Policy) -> Pruning:
    pen, store = ledger.Ledger(directory), Store(directory)
    try:
        state = RunState.replay(pen)
        drops, lost = plan(store, state, policy), orphans(directory)
        delete(store, state.pruned)
        for path in lost:
            (directory / path).unlink(missing_ok=True)
        weights = [drop for drop in drops if drop.kind == "weights"]
        objects: dict[str, int] = {}
        for part in (weights, [drop for drop in drops if drop.kind != "weights"]):
            if part:  # weights first: the disk may be full, and the others need room for their slim tables
                content = tombstones(store, state, part, str(policy))
                state.check({"event": "pruned", **content})
                state.apply(pen.append("pruned", **content))
                delete(store, content["objects"])
                objects |= content["objects"]
    finally:
        pen.close()
    return Pruning(str(policy), True, drops, objects, lost)


def _sizes(store: Store, drops: list[Drop]) -> dict[str, int]:
    paths = {drop.name: store.path(drop.name) for drop in drops}
    return {name: path.stat().st_size if path.exists() else 0 for name, path in paths.items()}
