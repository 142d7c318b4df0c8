"""How two generations differ: what ``diff RUN A B`` prints."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from flywheel.config.identity import ABSENT, differences
from flywheel.lineage.code_changes import differing
from flywheel.lineage.data import corpus_of
from flywheel.lineage.generation import Which
from flywheel.lineage.graph import Graph
from flywheel.lineage.record import Record
from flywheel.lineage.show import Shown, shown
from flywheel.lineage.status import Metrics, bare
from flywheel.lineage.views import outcomes_of
from flywheel.records import Answer
from flywheel.storage.reader import reread_when_pruned
from flywheel.storage.state import Generation

T = TypeVar("T")
_ENVIRONMENT = ("command", "world_size", "threads", "machine", "python", "versions")


Change = Mapping[str, Any]
"""``{"a": value, "b": value}``; what a side lacks is not there."""


class Side(Answer, frozen=True):
    """One of the two generations."""

    run: str
    """Its run's directory."""
    generation: int
    status: str
    flags: Sequence[str]
    weights: str | None
    """SHA-256 of its weights."""


class Pair(Answer, Generic[T], frozen=True):
    """What each of the two has."""

    a: T
    b: T


class Start(Answer, frozen=True):
    """What a fit began from."""

    init: str
    """E.g. ``parent``."""
    weights: str | None
    """SHA-256 of the weights."""


class GraderSource(Answer, frozen=True):
    """What graded a turn's batch."""

    grader: str | None
    version: str | None
    """Hash of its source and arguments."""


class RowCounts(Answer, frozen=True):
    """Rows of the two corpora, and those with the same id."""

    a: int
    b: int
    shared: int


class DrawnBatch(Answer, frozen=True):
    """A batch that a corpus drew on."""

    samples: str | None
    """SHA-256 of it."""
    made_in: int
    """The generation in whose turn it was made; 0: people made it."""


class DrawnBatches(Answer, frozen=True):
    """The batches that the two corpora drew on."""

    shared: tuple[DrawnBatch, ...]
    only_a: tuple[DrawnBatch, ...]
    only_b: tuple[DrawnBatch, ...]


class DataDifference(Answer, frozen=True):
    """How two corpora differ."""

    same: bool
    """Whether they are the same samples in the same order."""
    rows: RowCounts
    by_origin: Pair[Mapping[str, int]]
    batches: DrawnBatches


class CheckoutDifference(Answer, frozen=True):
    """How one checkout differs."""

    commit: Pair[str | None]
    diff: Pair[str | None]
    """SHA-256 of the uncommitted changes."""
    uncommitted: tuple[str, ...]
    """Files whose uncommitted changes differ."""
    untracked: tuple[str, ...]
    """Files that only one has, and git does not know."""

    @property
    def differs(self) -> bool:
        """Whether anything does."""
        return bool(self.commit.a != self.commit.b or self.uncommitted or self.untracked)


class CodeDifference(Answer, frozen=True):
    """How the code of two generations differs."""

    same: bool
    modules: Mapping[str, Change]
    """{module: SHA-256 in each} of those that differ."""
    distributions: Mapping[str, Change]
    """{distribution: version in each} of those that differ."""
    checkouts: Mapping[str, CheckoutDifference]


class ItemCounts(Answer, frozen=True):
    """Items of a suite that each was scored on."""

    a: int
    b: int
    shared: int
    """By name."""
    other_rows: int
    """Of these, not compared: another item of the same name."""
    other_opponents: int
    """Nor these: scored against other opponents."""
    compared: int


class Flip(Answer, frozen=True):
    """An item whose score changed."""

    item: str
    a: float
    """A's score, in [0, 1]."""
    b: float


class SuiteDifference(Answer, frozen=True):
    """On which items of a suite two generations can be compared, and those whose score changed."""

    items: ItemCounts
    gained: int
    """Items on which B scores more."""
    lost: int
    flipped: tuple[Flip, ...]
    """Most changed first."""


class Difference(Answer, frozen=True):
    """How generation B differs from A."""

    a: Side
    b: Side
    settings: Mapping[str, Change]
    """{dotted key: change} of what differs, e.g. ``{"lr": {"a": 0.01, "b": 0.1}}``."""
    config: Mapping[str, Change]
    init: Pair[Start | None] | None
    """None: they began from the same."""
    data: DataDifference
    code: CodeDifference
    environment: Mapping[str, Change]
    grader: Pair[GraderSource] | None
    """None: the same one graded."""
    metrics: Pair[Metrics]
    outcomes: Mapping[str, SuiteDifference]
    """By suite."""


@reread_when_pruned
def diff(run_a: Path, a: Which, run_b: Path, b: Which) -> Difference:
    """``difference`` of two runs, or of one, as they are now."""
    record = Record.read(run_a)
    return difference(record, a, record if run_a == run_b else Record.read(run_b), b)


def difference(a: Record, which_a: Which, b: Record, which_b: Which) -> Difference:
    """What changed from generation A to generation B, of one run or of two.

    Raises RunError if there is none of such a name.
    """
    before, after = a.generation(which_a), b.generation(which_b)
    old, new = shown(a, before), shown(b, after)
    return Difference(
        a=_named(old),
        b=_named(new),
        settings=changes(old.settings, new.settings),
        config=changes(old.config, new.config),
        init=_pair(_start(old), _start(new)),
        data=_data(a, before, b, after),
        code=_code(a, b, old, new),
        environment=changes(_environment(old), _environment(new)),
        grader=_pair(_grader(old), _grader(new)),
        metrics=Pair(old.metrics, new.metrics),
        outcomes=flips(a, before, b, after),
    )


def changes(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Mapping[str, Change]:
    """{dotted key: {a, b}} of the leaves that differ as JSON; what a side lacks is not there."""
    return {
        prefix + key: {side: value for side, value in zip("ab", pair, strict=True) if value is not ABSENT}
        for key, pair in differences(old, new).items()
    }


def _environment(report: Shown) -> dict[str, Any]:
    """That of the last session."""
    session = report.sessions[-1].json() if report.sessions else {}
    return {key: session.get(key) for key in _ENVIRONMENT}


def _pair(old: T, new: T) -> Pair[T] | None:
    return Pair(old, new) if old != new else None


def _named(report: Shown) -> Side:
    return Side(report.run, report.generation, report.status, report.flags, report.weights)


def _start(report: Shown) -> Start | None:
    return Start(report.init.init, report.init.weights) if report.init else None


def _grader(report: Shown) -> GraderSource:
    batch = report.batch
    return GraderSource(batch.grader, batch.version) if batch else GraderSource(None, None)


def _data(a: Record, before: Generation, b: Record, after: Generation) -> DataDifference:
    """Rows that both corpora have, by id, and the batches they were drawn from."""
    corpora = [corpus_of(a, before), corpus_of(b, after)]
    left, right = (pa.array([], pa.string()) if t is None else t["id"].combine_chunks() for t in corpora)
    shared = pc.sum(pc.is_in(left, value_set=right)).as_py() or 0
    old, new = (
        [DrawnBatch(edge.samples, edge.made_in) for edge in Graph(record.store, record.state).produced_by(g)]
        for record, g in ((a, before), (b, after))
    )
    theirs, ours = ({batch.samples for batch in batches} for batches in (old, new))
    curated = [g.curate.facts if g.curate else None for g in (before, after)]
    digests = [facts.corpus if facts else None for facts in curated]
    return DataDifference(
        same=digests[0] == digests[1],
        rows=RowCounts(len(left), len(right), shared),
        by_origin=Pair(*(facts.by_origin if facts else {} for facts in curated)),
        batches=DrawnBatches(
            shared=tuple(batch for batch in old if batch.samples in ours),
            only_a=tuple(batch for batch in old if batch.samples not in ours),
            only_b=tuple(batch for batch in new if batch.samples not in theirs),
        ),
    )


def _code(a: Record, b: Record, old: Shown, new: Shown) -> CodeDifference:
    """Modules and distributions that differ; of each checkout the commits, and which changed files differ."""
    trees = [report.sessions[-1].checkouts if report.sessions else {} for report in (old, new)]
    nothing: dict[str, Any] = {"commit": None, "diff": None, "untracked": []}
    checkouts: dict[str, CheckoutDifference] = {}
    for name in {**trees[0], **trees[1]}:
        left, right = (nothing | dict(tree.get(name, {})) for tree in trees)
        patches = [_patches(a, left["diff"]), _patches(b, right["diff"])]
        changed = [
            file for file in {**patches[0], **patches[1]} if patches[0].get(file) != patches[1].get(file)
        ]
        checkouts[name] = CheckoutDifference(
            commit=Pair(left["commit"], right["commit"]),
            diff=Pair(bare(left["diff"]), bare(right["diff"])),
            uncommitted=tuple(sorted(changed)),
            untracked=tuple(sorted(set(left["untracked"]) ^ set(right["untracked"]))),
        )
    is_one = a.directory == b.directory and _seqs(old) == _seqs(new)  # also where nobody knows which code
    modules, installed = (
        {} if is_one else _code_pairs(key, old, new) for key in ("modules", "distributions")
    )
    same = not modules and not installed and not any(tree.differs for tree in checkouts.values())
    return CodeDifference(same, modules, installed, checkouts)


def _seqs(report: Shown) -> list[int]:
    return [session.seq for session in report.sessions]


def _code_pairs(key: str, old: Shown, new: Shown) -> Mapping[str, Change]:
    """Modules, or distributions, that differ between two generations: {name: hash or version in each}."""
    pairs = differing(_over_sessions(old, key), _over_sessions(new, key))
    return {name: {"a": then, "b": now} for name, (then, now) in pairs.items()}


def _over_sessions(report: Shown, key: str) -> dict[str, str | None]:
    """What a generation's sessions ran, by name; of several things, all in order, e.g. ``HASH, HASH``."""
    values_of: dict[str, list[str | None]] = {}
    for session in report.sessions:
        for name, value in getattr(session, key).items():
            values_of.setdefault(name, []).append(value)
    return {
        name: None if None in values else ", ".join(dict.fromkeys(map(str, values)))
        for name, values in values_of.items()
    }


def code_diff(run_a: Path, a: Which, run_b: Path, b: Which) -> str:
    """How the source of B's modules differs from that of A's, as a unified diff, where its text is kept."""
    old, new = _last_code(Record.read(run_a), a), _last_code(Record.read(run_b), b)
    lines = (line for module in sorted({*old, *new}) for line in _module_diff(module, old, new))
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def _last_code(record: Record, which: Which) -> Mapping[str, Mapping[str, str | None]]:
    return record.code(record.sessions(record.generation(which).number)[-1])


def _module_diff(module: str, *codes: Mapping[str, Mapping[str, str | None]]) -> Iterator[str]:
    old, new = ((code.get(module, {}).get("text") or "").splitlines(keepends=True) for code in codes)
    return difflib.unified_diff(old, new, f"a/{module}", f"b/{module}")


def _patches(record: Record, diff: str | None) -> dict[str, str]:
    """{file: its part} of a stored diff."""
    if diff is None or record.is_gone(diff):
        return {}
    text = record.store.get(diff).decode(errors="replace")
    parts = re.split(r"(?m)^diff --git ", text)[1:]
    return {part.partition("\n")[0].rpartition(" b/")[2]: part for part in parts}


def flips(a: Record, before: Generation, b: Record, after: Generation) -> Mapping[str, SuiteDifference]:
    """By suite: on which items two generations can be compared, and those whose score changed.

    An item is the same if its row in the suite that the run recorded is, floats included: names may be those
    of other items in another run. A score in a duel says nothing without its opponent.
    """
    old, new = _scored(a, before), _scored(b, after)
    suites = pc.unique(pa.chunked_array([*old["suite"].chunks, *new["suite"].chunks])).to_pylist()
    flips = {}
    for suite in suites:
        left, right = (t.filter(pc.equal(t["suite"], suite)) for t in (old, new))
        same_rows = None if a is b else _same_rows(_items(a, suite), _items(b, suite))
        flips[suite] = _flips(left, right, same_rows)
    return flips


def _scored(record: Record, generation: Generation) -> pa.Table:
    """Its outcomes, each item once: those of its screening only where it was not evaluated."""
    outcomes = outcomes_of(record, [generation])
    is_counted = pc.not_equal(outcomes["stage"], "screen")
    return outcomes.filter(is_counted) if generation.evaluate else outcomes


def _items(record: Record, suite: str) -> pa.Table | None:
    """A suite as the run recorded it."""
    seeds = (g.output("seed", f"suite_{suite}") for g in record.state.generations)
    return record.table(next((name for name in seeds if name), None))


def _same_rows(left: pa.Table | None, right: pa.Table | None) -> set[str]:
    """Names of the items whose rows are equal in two tables of items."""
    if left is None or right is None or set(left.column_names) != set(right.column_names):
        return set()
    names = sorted(left.column_names)
    rows = [{row["item"]: repr(row) for row in t.select(names).to_pylist()} for t in (left, right)]
    # repr tells floats apart to the last bit, but not one NaN from another.
    return {item for item, row in rows[0].items() if row == rows[1].get(item)}


def _flips(old: pa.Table, new: pa.Table, same_rows: set[str] | None) -> SuiteDifference:
    """Items whose score changed, most changed first, of those that can be compared.

    ``same_rows``: names of the items that are the same on both sides; None: all of a name are.
    """
    left, right = (t.select(["item", "opponent", "score"]) for t in (old, new))
    rows = left.join(right, "item", join_type="inner", right_suffix="_b").to_pylist()
    same = [row for row in rows if same_rows is None or row["item"] in same_rows]
    compared = [row for row in same if row["opponent"] == row["opponent_b"]]
    gains = {row["item"]: round(row["score_b"] - row["score"], 9) for row in compared}
    moved = [row for row in compared if gains[row["item"]]]
    moved.sort(key=lambda row: (-abs(gains[row["item"]]), row["item"]))
    gained = sum(gains[row["item"]] > 0 for row in moved)
    return SuiteDifference(
        items=ItemCounts(
            a=len(left),
            b=len(right),
            shared=len(rows),
            other_rows=len(rows) - len(same),
            other_opponents=len(same) - len(compared),
            compared=len(compared),
        ),
        gained=gained,
        lost=len(moved) - gained,
        flipped=tuple(Flip(row["item"], row["score"], row["score_b"]) for row in moved),
    )
