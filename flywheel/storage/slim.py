"""What stays of objects that a policy removes: their sizes, and slim tables for recall and trace."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from flywheel.storage import parquet
from flywheel.storage.events import Pruned
from flywheel.storage.policy import Policy
from flywheel.storage.retention import TRIAL, Drop
from flywheel.storage.state import RunState
from flywheel.storage.store import Store, artifact_of

if TYPE_CHECKING:
    import pyarrow as pa

SLIM = ("id", "origin", "made_in", "made_by", "source", "group")
"""Columns that stay of a batch."""
WHOLE = ("weights", TRIAL, "keys")
"""Kinds of objects of which nothing stays."""
_REMEMBERED_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Removal:
    """What is removed, and the slim tables that stay in its place."""

    policy: Policy
    drops: list[Drop]
    objects: dict[str, int]
    """Size of each object that goes."""
    slim: dict[str, str]
    """Artifact that goes -> the one that stands in for it."""
    slim_bytes: dict[str, int]
    """Size of each of these that is new."""

    @property
    def event(self) -> Pruned:
        """What the ledger is to say of it."""
        return Pruned(policy=self.policy, objects=self.objects, slim=self.slim)


def plan_removal(
    store: Store,
    state: RunState,
    drops: Iterable[Drop],
    policy: Policy,
    *,
    write: bool,
    absent: Container[str] = (),
    measured: Measured | None = None,
) -> Removal:
    """What is removed of what a policy does not keep: that of which something smaller can take the place.

    ``write``: store the slim tables; else only say what would be. ``absent``: files that are there and
    will not be. ``measured``: what was found out of the same run and state before. Raises DamagedError if
    an object is missing, PrunedError if it was pruned since the state was read.
    """
    planner = _Planner(store, state, drops, {} if measured is None else measured)
    removed = [drop for drop in planner.drops if drop.name in planner.going[drop.generation].values()]
    tables = planner.slims.values()
    new = (table for table in tables if table.name in absent or not store.path(table.name).exists())
    slim_bytes = {table.name: table.size for table in new}
    if write:
        for number, table in planner.slims.items():
            store.put(table.data or parquet.encode(planner.table(number)), ".parquet")
    objects = {drop.name: planner.sizes[drop.name] for drop in removed}
    slimmed = (drop for drop in removed if drop.kind in ("samples", "decisions"))
    slim = {drop.name: planner.slims[drop.generation].name for drop in slimmed}
    return Removal(policy, removed, objects, slim, slim_bytes)


class Slim(NamedTuple):
    """A slim table."""

    name: str
    size: int
    data: bytes | None
    """Its bytes; None of a large one, which is made again when it is stored."""


Measured = dict[tuple[int, frozenset[str]], Slim]
"""The slim table in place of a generation's objects of these kinds."""


class _Planner:
    """Decides what is removed: a slim table may be larger than what it replaces, or be one of the tables."""

    def __init__(self, store: Store, state: RunState, drops: Iterable[Drop], measured: Measured) -> None:
        self._store, self._state, self.drops, self._measured = store, state, list(drops), measured
        self.sizes = {drop.name: _size(store, drop.name) for drop in self.drops}
        self.slims: dict[int, Slim] = {}
        self.going: dict[int, dict[str, str]] = {}
        for drop in self.drops:
            self.going.setdefault(drop.generation, {})[drop.kind] = drop.name
        changed: Collection[int] = list(self.going)
        while changed:
            for number in changed:
                self._settle(number)
            stay = {slim.name for slim in self.slims.values()} | self._state.replacements
            changed = [n for n, going in self.going.items() if not stay.isdisjoint(going.values())]
            for number in changed:
                self.going[number] = {k: name for k, name in self.going[number].items() if name not in stay}

    def _settle(self, number: int) -> None:
        """Decide on a generation's tables together: one slim table stands in for them."""
        going = self.going[number]
        batch = str(self._state.generations[number].output("generate", "samples"))
        if "samples" not in going and batch not in self._state.pruned:
            going.pop("scores", None)  # whoever reads samples reads their scores
        tables = [name for kind, name in going.items() if kind not in WHOLE]
        self.slims.pop(number, None)
        if not {"samples", "decisions"} & going.keys():
            return
        slim = self._measure(number)
        if slim.size < sum(self.sizes[name] for name in tables):
            self.slims[number] = slim
        else:
            self.going[number] = {kind: name for kind, name in going.items() if kind in WHOLE}

    def _measure(self, number: int) -> Slim:
        key = number, frozenset(self.going[number])
        if key not in self._measured:
            data = parquet.encode(self.table(number))
            cached = data if len(data) <= _REMEMBERED_BYTES else None
            self._measured[key] = Slim(artifact_of(data, ".parquet"), len(data), cached)
        return self._measured[key]

    def table(self, number: int) -> pa.Table:
        """What stays of a generation's batch, of the decisions on it, or of both in one table."""
        import pyarrow.compute as pc

        store, generation = self._store, self._state.generations[number]
        batch = store.table(self._state.resolve_pruned(str(generation.output("generate", "samples"))))
        rows = batch.select(SLIM if "samples" in self.going[number] else ["id"])
        if "decisions" in self.going[number]:
            decisions = store.table(str(generation.output("curate", "decisions")))
            where = pc.index_in(batch["id"], value_set=decisions["id"])
            for name in decisions.column_names[1:]:
                rows = rows.append_column(name, decisions[name].take(where))
        return rows


def _size(store: Store, name: str) -> int:
    try:
        return store.path(name).stat().st_size
    except FileNotFoundError:
        raise store.absent(name) from None
