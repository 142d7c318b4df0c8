"""No reader is told that something was pruned, only because its writer pruned while it read."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flywheel.errors import PrunedError
from flywheel.lineage.recall import recall
from flywheel.lineage.samples import read_samples, samples
from flywheel.lineage.sql import query
from flywheel.lineage.status import read_state
from flywheel.lineage.trace import trace
from flywheel.lineage.usage import usage
from flywheel.storage.pruning import prune
from flywheel.storage.reader import reread_when_pruned
from flywheel.storage.state import Status
from flywheel.storage.store import Store
from flywheel.storage.verify import verify
from tests.support.fake_stages import on_strings, play
from tests.support.loop_runs import quick_folder


@pytest.fixture(scope="module")
def run() -> Iterator[Path]:
    """A run of which a pruning to the champion drops batches, scores and decisions that others drew on."""
    with on_strings(), quick_folder() as folder:
        play(folder / "fake" / "run", 5, seed=4)
        yield folder / "fake" / "run"


@pytest.fixture
def copy(run: Path) -> Iterator[Path]:
    with quick_folder() as folder:
        yield Path(shutil.copytree(run, folder / "fake" / "run"))


def first_rejected(run: Path) -> int:
    return next(g.number for g in read_state(run).generations if g.status is Status.REJECTED)


READERS: dict[str, Callable[[Path, str], Any]] = {
    "trace --generation": lambda run, name: trace(run, generation=1),
    "trace --sample": lambda run, name: trace(run, sample=name),
    "recall --generation": lambda run, name: recall(run, generation=1, why="flawed"),
    "recall --where": lambda run, name: recall(run, where="prompt = 'p1'", why="flawed"),
    "samples": lambda run, name: read_samples(run, first_rejected(run)).to_pylist(),
    "query samples": lambda run, name: query(run, "SELECT id, keep FROM samples ORDER BY id").to_pylist(),
    "query edges": lambda run, name: query(run, "SELECT count(*) FROM edges").to_pylist(),
    "query decisions": lambda run, name: query(run, "SELECT count(*) FROM decisions").to_pylist(),
    "prune": lambda run, name: prune(run, last=0).json(),
    "du": lambda run, name: {**usage(run).json(), "bytes": None, "by_kind": None},  # a clock is in the ledger
    "verify": lambda run, name: verify(run).json()["ok"],
}


@pytest.mark.parametrize("reader", READERS)
def test_a_pruning_at_any_moment_is_no_error_for_a_reader(run: Path, copy: Path, reader: str) -> None:
    ask, name = READERS[reader], str(samples(run, read_state(run), first_rejected(run))["id"][0].as_py())
    reads, before = counted(lambda: ask(copy, name))
    prune(copy, last=0, yes=True)
    after = ask(copy, name)
    assert read_state(copy).pruned
    for at in range(reads):
        shutil.rmtree(copy)
        shutil.copytree(run, copy)
        _, between = counted(lambda: ask(copy, name), at, lambda: prune(copy, last=0, yes=True))
        assert between in (before, after), at


def counted(ask: Callable[[], Any], at: int = -1, meanwhile: Callable[[], Any] = lambda: None) -> Any:
    """How many objects were opened, and the answer; before the one of number ``at`` something happens."""
    count, real = 0, Store.open

    def opened(store: Store, name: str) -> Any:
        nonlocal count
        count += 1
        if count - 1 == at:
            with pytest.MonkeyPatch.context() as own:
                own.setattr(Store, "open", real)
                meanwhile()
        return real(store, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "open", opened)
        answer = ask()
    return count, answer


def test_what_was_pruned_before_is_said_at_once(copy: Path) -> None:
    prune(copy, last=0, yes=True)
    asked = 0

    @reread_when_pruned
    def question(run: Path) -> None:
        nonlocal asked
        asked += 1
        raise PrunedError("gone")

    with pytest.raises(PrunedError, match="gone"):
        question(copy)
    assert asked == 1


def test_a_writer_that_prunes_for_ever_is_not_asked_for_ever(copy: Path) -> None:
    @reread_when_pruned
    def question(run: Path) -> None:
        with open(run / "ledger.jsonl", "ab") as file:
            file.write(b'{"event":"pruned"}\n')
        raise PrunedError("gone")

    with pytest.raises(PrunedError, match="gone"):
        question(copy)
