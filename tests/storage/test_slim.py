"""What stays of what goes, and the bytes that are freed: on real files, of a run that was never run."""

from __future__ import annotations

import itertools
import random
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.errors import DamagedError
from flywheel.lineage.usage import usage
from flywheel.storage.ledger import Ledger
from flywheel.storage.policy import Policy
from flywheel.storage.pruning import prune, would_prune
from flywheel.storage.state import RunState
from flywheel.storage.store import Store
from flywheel.storage.verify import verify
from tests.support.events import event_of


def samples(*names: str, payload: int = 0) -> pa.Table:
    """Samples of these ids; with a payload of so many bytes, if any."""
    rows = len(names)
    columns: dict[str, Any] = {"id": list(names), "origin": ["generated"] * rows, "made_in": [1] * rows}
    columns |= {"made_by": ["w"] * rows, "source": ["s"] * rows, "group": ["g"] * rows}
    noise = random.Random(7)
    return pa.table(columns | ({"word": [noise.randbytes(payload).hex() for _ in names]} if payload else {}))


def scores(batch: pa.Table, turn: int) -> pa.Table:
    return pa.table({"id": batch["id"], "score": [float(turn)] * len(batch)})


def decisions(*batches: pa.Table) -> pa.Table:
    ids = [name for batch in batches for name in batch["id"].to_pylist()]
    chosen = {"keep": [True] * len(ids), "reason": ["x"] * len(ids), "weight": [1.0] * len(ids)}
    return pa.table({"id": ids} | chosen | {"count": [1] * len(ids)})


NEEDED = Policy()


class Book:
    """Writes turns on one champion, each with the tables that a test says."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.store = directory, Store(directory)
        self.ledger, self.state = Ledger(directory), RunState()
        self.add("run_created", config={})
        self.add("generation_started", generation=0, parent=None)
        self.stage("train", weights={"w": 0})
        self.end("promoted")

    def add(self, name: str, **content: Any) -> None:
        self.state.apply(self.ledger.append(event_of(name, **content)))

    def stage(self, name: str, **outputs: Any) -> None:
        names = {output: self.store.put_value(value) for output, value in outputs.items()}
        self.add("stage", generation=len(self.state.generations) - 1, stage=name, outputs=names)

    def turn(self, batch: pa.Table, *earlier: pa.Table, status: str = "failed", curated: bool = True) -> None:
        """A turn that made a batch, and decided on it and on earlier ones unless it failed before."""
        number = len(self.state.generations)
        self.add("generation_started", generation=number, parent=0, champion=0)
        self.stage("generate", samples=batch)
        self.stage("grade", scores=scores(batch, number))
        if curated:
            self.stage("curate", decisions=decisions(*earlier, batch))
            self.stage("train", weights={"w": number})
        self.end(status)

    def end(self, status: str) -> None:
        number = len(self.state.generations) - 1
        self.add("generation_ended", generation=number, status=status, reason="", carry={})

    def prune(self, policy: Policy = NEEDED) -> None:
        """Prune, as promised to the byte, and go on with what is left."""
        would = would_prune(self.directory, self.state, policy)
        promised = usage(self.directory).json()["prunable"]
        before = sizes(self.directory)
        self.ledger.close()
        done = prune(self.directory, promoted=policy.promoted, last=policy.last, yes=True)
        self.ledger = Ledger(self.directory)
        self.state = RunState.replay(self.ledger)
        assert done.json() == would.json() | {"done": True}
        assert promised.get(policy.options, would.freed) == would.freed >= 0
        assert before - sizes(self.directory) == would.freed + sum(would.orphans.values())

    def assert_all_is_answered(self) -> None:
        for generation in self.state.generations:
            for stage, output in (("generate", "samples"), ("curate", "decisions")):
                if name := generation.output(stage, output):
                    assert len(Store(self.directory).table(self.state.resolve_pruned(name))["id"])
        assert verify(self.directory).first_bad is None


def sizes(directory: Path) -> int:
    return sum(path.stat().st_size for path in (directory / "objects").rglob("*") if path.is_file())


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path)


def kinds_on_disk(book: Book, number: int) -> set[str]:
    stages = book.state.generations[number].stages.values()
    names = {output: name for event in stages for output, name in event.outputs.items()}
    gone = {output for output, name in names.items() if name in book.state.pruned}
    assert all(book.store.path(name).exists() == (output not in gone) for output, name in names.items())
    return names.keys() - gone


def test_decisions_of_which_the_slim_table_is_a_copy_stay(book: Book) -> None:
    """As where no human rows are: all that was decided on is the batch, which stays for later turns."""
    batch = samples("a", "b", payload=90)
    book.turn(batch, status="rejected")
    book.prune()
    assert kinds_on_disk(book, 1) == {"samples", "scores", "decisions"}
    book.assert_all_is_answered()


def test_a_batch_of_which_the_slim_table_is_a_copy_stays_with_its_scores(book: Book) -> None:
    book.turn(samples("a", "b"), curated=False)
    book.prune()
    assert kinds_on_disk(book, 1) == {"samples", "scores"}


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_a_table_that_stands_in_for_another_stays(book: Book, together: bool, first: bool) -> None:
    """Turn 1's slim table is what turn 2 made, whether that would go with it or later."""
    large, bare = samples("a", "b", payload=900), samples("a", "b")
    for batch in (large, bare) if first else (bare, large):
        book.turn(batch, curated=False)
        if not together:
            book.prune()
    for _ in range(3):
        book.prune()
        book.assert_all_is_answered()
    stays, goes = (2, 1) if first else (1, 2)
    assert kinds_on_disk(book, stays) == {"samples", "scores"}
    assert kinds_on_disk(book, goes) == set()
    name = str(book.state.generations[goes].output("generate", "samples"))
    assert book.state.resolve_pruned(name) == book.state.generations[stays].output("generate", "samples")


def test_what_is_dropped_made_again_and_dropped_again_is_answered(book: Book) -> None:
    batch = samples("a", "b", payload=900)
    for _ in range(3):
        book.turn(batch, samples("z"))
        book.prune()
        book.assert_all_is_answered()
        assert "samples" not in kinds_on_disk(book, len(book.state.generations) - 1)


def test_a_lost_stand_in_is_damage_though_it_was_pruned_once(book: Book) -> None:
    book.turn(samples("a", "b", payload=900), samples("z"))
    book.prune()
    (resolve_pruned,) = book.state.replacements
    assert verify(book.directory).first_bad is None
    book.store.path(resolve_pruned).unlink()
    assert f"objects/{resolve_pruned[:2]}/{resolve_pruned[2:]}" in str(verify(book.directory).first_bad)


def test_an_orphan_that_will_be_a_slim_table_is_counted_once(book: Book) -> None:
    """A kill between the slim table and the event leaves one: it goes, and comes again."""
    batch = samples("a", "b", payload=900)
    book.turn(batch, curated=False)
    book.store.put_table(batch.select(["id", "origin", "made_in", "made_by", "source", "group"]))
    book.prune()
    book.assert_all_is_answered()


def test_what_is_missing_is_not_pruned(book: Book) -> None:
    book.turn(samples("a", payload=900), samples("z"))
    book.store.path(str(book.state.generations[1].weights)).unlink()
    with pytest.raises(DamagedError, match="is missing"):
        prune(book.directory, last=0)


UNIVERSE = [
    samples(*names, payload=payload) for names in (("a",), ("a", "b"), ("b", "a")) for payload in (0, 1, 60)
]
TURNS = st.tuples(
    st.sampled_from(UNIVERSE),
    st.lists(st.sampled_from([samples("z"), *UNIVERSE[::3]]), max_size=1),
    st.sampled_from(["failed", "rejected"]),
    st.booleans(),
    st.sampled_from([None, Policy(), Policy(last=1)]),
)


@settings(max_examples=15)
@given(st.lists(TURNS, max_size=5))
def test_whatever_content_repeats_everything_is_answered_and_what_is_promised_is_freed(
    turns: list[Any],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        book = Book(Path(folder))
        for batch, earlier, status, curated, policy in turns:
            book.turn(batch, *earlier, status=status, curated=curated)
            if policy:
                book.prune(policy)
                book.assert_all_is_answered()
        for policy in itertools.islice(itertools.cycle([Policy(last=1), Policy()]), 3):
            book.prune(policy)
            book.assert_all_is_answered()
