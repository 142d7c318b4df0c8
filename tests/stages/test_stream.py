"""A curator that decides in a stream comes to what plain Python comes to, at once or turn by turn."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from flywheel.config.components import Components
from flywheel.curators import Dedupe, Pipeline, Threshold
from flywheel.errors import DataError, StageFailed
from flywheel.executors import Inline
from flywheel.keys import Key
from flywheel.records import Role, Suite
from flywheel.runtime.context import StageTools
from flywheel.runtime.data import Data
from flywheel.runtime.held_out import Problems
from flywheel.runtime.stop import Stop
from flywheel.stages import stream, table
from flywheel.storage.corpus import parts_of, read_chosen, read_corpus, read_stream
from flywheel.storage.store import Store
from flywheel.tables import with_provenance
from flywheel.testing.contracts import bench
from tests.support.loop_runs import quick_folder

ASKED = ["p1", "p3"]
"""Prompts of the gate."""


class Row(NamedTuple):
    """A sample before it has an id; one of people has no score."""

    prompt: str
    answer: int | None
    score: float | None = None


@functools.cache
def components_with(unique: tuple[str, ...]) -> Components:
    """The recipe ``moons`` with a pipeline."""
    steps = {"threshold": Threshold(score="score", least=0.5)}
    steps |= {"dedupe": Dedupe(unique=list(unique))} if unique else {}
    return bench.given(curator=Pipeline(steps=steps))


class Desk:
    """Batches in a store, and the stage on them."""

    def __init__(self, folder: Path, share: float | None = None, unique: tuple[str, ...] = ()) -> None:
        self.components = components_with(unique)
        self.components.resolved["human_share"] = share
        self.store, problems = Store(folder), Problems(("prompt",))
        gate = Suite("gate", Role.GATE, pa.table({"item": ASKED, "prompt": ASKED}))
        data = Data(pa.table({}), {"gate": gate}, problems, problems.held_out([gate]))
        stop = Stop(folder)
        self.tools = StageTools(self.components, self.store, data, stop, Inline(stop.check))

    def batch(self, turn: int, rows: list[Row]) -> list[str | None]:
        """The source of a turn's rows; of people's where that is 0."""
        payload = pa.table(
            {
                "prompt": pa.array([row.prompt for row in rows], pa.string()),
                "answer": pa.array([row.answer for row in rows], pa.int64()),
            }
        )
        origin = {"origin": "generated", "made_by": "w"} if turn else {"origin": "human", "source": "people"}
        samples = with_provenance(payload, own=("prompt",), made_in=turn, key=0, **origin)
        scores = pa.table({"id": samples["id"], "score": pa.array([row.score for row in rows], pa.float64())})
        return [self.store.put_table(samples), self.store.put_table(scores) if turn else None, None]

    def curate(self, sources: list[Any], turn: int = 9, **given: Any) -> tuple[Any, dict[str, str]]:
        """The facts, and the outputs, stored."""
        output = self.tools.run(table.curate, turn, Key.root(0), {}, sources=sources, **given)
        return output.facts, {name: self.store.put_value(value) for name, value in output.outputs.items()}


def rows_of(desk: Desk, source: list[Any]) -> list[dict[str, Any]]:
    samples = desk.store.table(source[0])
    scores = desk.store.table(source[1])["score"].to_pylist() if source[1] else [None] * len(samples)
    return [{**row, "score": score} for row, score in zip(samples.to_pylist(), scores, strict=True)]


def reference(
    rows: list[dict[str, Any]], unique: tuple[str, ...], share: float | None, recalled: set[str]
) -> tuple[dict[str, str], dict[str, int]]:
    """Reason by id, and draws by id, in order: written apart, row by row."""
    seen: set[tuple[Any, ...]] = set()
    reasons: dict[str, str] = {}
    for row in (row for row in rows if row["id"] not in recalled):
        is_human, values = row["origin"] == "human", tuple(row[name] for name in unique)
        if not is_human and row["score"] is None:
            reason = "no score"
        elif not is_human and row["score"] < 0.5:
            reason = "score below 0.5"
        elif not is_human and row["prompt"] in ASKED:
            reason = "leaked: suite gate asks it"
        elif values in seen:
            reason = "duplicate"
        else:
            reason = "kept"
            seen |= {values} if any(value is not None for value in values) else set()
        reasons[row["id"]] = reason
    kept = [row for row in rows if reasons.get(row["id"]) == "kept"]
    own = [row["id"] for row in kept if row["origin"] == "human"]
    counts = {row["id"]: 1 for row in kept}
    if share is not None and own:
        needed = math.ceil((len(kept) - len(own)) * share / (1 - share) - 1e-9)
        if len(own) < len(kept) and needed > len(own):
            sums = [math.floor((k + 1) * (needed / len(own)) + 1e-6) for k in range(len(own))]
            counts |= {name: n - m for name, n, m in zip(own, sums, [0, *sums], strict=False)}
    return reasons, counts


prompts = st.sampled_from([*ASKED, "p2", "p4", "long " * 30, "long " * 30 + "!"])
generated = st.builds(
    Row, prompts, st.none() | st.integers(0, 2), st.none() | st.sampled_from([0.2, 0.5, 0.9])
)
human = st.builds(Row, prompts, st.none() | st.integers(0, 2), st.none())
people = st.lists(human, min_size=1, max_size=5)
batches = st.tuples(people, st.lists(st.lists(generated, min_size=1, max_size=8), max_size=4))


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with quick_folder() as path:
        yield path


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # shrinking would run thousands of stages
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    batches=batches,
    unique=st.sampled_from([(), ("prompt", "answer"), ("answer",)]),
    share=st.sampled_from([None, 0.6]),
    recall=st.sets(st.integers(1, 30), max_size=3),
)
def test_it_comes_to_what_plain_python_does_at_once_and_turn_by_turn(
    folder: Path, monkeypatch: pytest.MonkeyPatch, batches: Any, unique: Any, share: Any, recall: set[int]
) -> None:
    monkeypatch.setattr(stream, "PIECE_ROWS", 3)
    desk = Desk(folder, share, unique)
    sources = [desk.batch(turn, rows) for turn, rows in enumerate([batches[0], *batches[1]])]
    rows = [row for source in sources for row in rows_of(desk, source)]
    recalled = {rows[k]["id"] for k in recall if k < len(rows)}
    given_ids = desk.store.put_table(pa.table({"id": pa.array(sorted(recalled), pa.string())}))
    for hidden in (set(), recalled):
        reasons, counts = reference(rows, unique, share, hidden)
        hide = {"recalled": given_ids} if hidden else {}
        if not counts or (share and "human" not in {row["origin"] for row in rows if row["id"] in counts}):
            continue
        facts, outputs = desk.curate(sources, **hide)
        decisions = desk.store.table(outputs["decisions"])
        assert dict(zip(decisions["id"].to_pylist(), decisions["reason"].to_pylist(), strict=True)) == reasons
        chosen = read_chosen(desk.store, outputs["corpus"])
        assert dict(zip(chosen["id"].to_pylist(), chosen["count"].to_pylist(), strict=True)) == counts
        assert read_corpus(desk.store, outputs["corpus"], sources)["id"].to_pylist() == list(counts)
        assert facts.by_reason == Counter(reasons.values())
        assert facts.rows == len(counts)
        assert facts.leaked == facts.by_reason.get("leaked: suite gate asks it", 0)
        after, decided = None, list[str]()
        for turn in range(1, len(sources) + 1):
            try:
                latest, made = desk.curate(sources[:turn], turn, after=after, **hide)
            except StageFailed:  # nothing is kept yet
                continue
            decided += desk.store.table(made["decisions"])["id"].to_pylist()
            after = made["stream"]
        assert decided == list(reasons)  # each row once
        assert latest == facts
        assert read_chosen(desk.store, made["corpus"]).equals(chosen)


def test_a_turn_goes_on_only_where_that_comes_to_the_same(folder: Path) -> None:
    desk = Desk(folder, unique=("prompt", "answer"))
    sources = [
        desk.batch(0, [Row("h", 1)]),
        desk.batch(1, [Row("a", 1, 0.9), Row("h", 1, 0.9)]),
        desk.batch(2, [Row("b", 1, 0.1)]),
        desk.batch(3, [Row("a", 1, 0.9), Row("c", 1, 0.9)]),
    ]

    def decided(given: list[Any], **more: Any) -> int:
        return len(desk.store.table(desk.curate(given, **more)[1]["decisions"]))

    _, first = desk.curate(sources[:3])
    after = {"after": first["stream"]}
    without_two = [sources[0], sources[1], sources[3]]
    assert decided(sources, **after) == 2
    assert decided(without_two, **after) == 2  # nothing was kept of the batch that is missing
    assert decided([sources[0], sources[3]], **after) == 3  # what is missing had been kept: all anew
    recalled = desk.store.put_table(pa.table({"id": desk.store.table(str(sources[1][0]))["id"].slice(0, 1)}))
    _, again = desk.curate(sources, recalled=recalled, **after)
    assert len(desk.store.table(again["decisions"])) == 5
    kept = read_corpus(desk.store, again["corpus"], sources)
    assert kept.select(["prompt", "made_in"]).to_pylist() == [
        {"prompt": "h", "made_in": 0},
        {"prompt": "a", "made_in": 3},
        {"prompt": "c", "made_in": 3},
    ]
    desk.store.path(read_stream(desk.store, first["stream"]).keys[0]).unlink()  # as if it were pruned
    assert decided(sources, **after) == 6
    other = Desk(folder, unique=("prompt",))
    assert len(other.store.table(other.curate(sources, **after)[1]["decisions"])) == 6


def test_in_a_refit_generated_rows_keep_their_share(folder: Path) -> None:
    desk = Desk(folder)
    human, made = (
        desk.batch(0, [Row("h", 1), Row("i", 1)]),
        desk.batch(1, [Row(f"g{k}", 1, 1.0) for k in range(4)]),
    )
    _, before = desk.curate([human, made])
    labels = desk.batch(0, [Row(f"label {k}", 1) for k in range(2)])
    facts, outputs = desk.curate([human, labels, made], like=before["corpus"])
    draws = {part.origin: part.draws for part in parts_of(desk.store, outputs["corpus"])}
    assert draws == {"human": 2, "generated": 8}
    assert facts.rows == 8


def test_columns_that_cannot_be_compared_and_scores_in_another_order_are_refused(folder: Path) -> None:
    desk = Desk(folder, unique=("answer",))
    human = desk.batch(0, [Row("h", 1)])
    samples = desk.store.table(str(desk.batch(1, [Row("a", 1, 1.0), Row("b", 2, 1.0)])[0]))
    scores = pa.table({"id": samples["id"], "score": [1.0, 1.0]})
    texts = samples.set_column(
        samples.column_names.index("answer"), "answer", samples["answer"].cast(pa.string())
    )
    wrong = [desk.store.put_table(texts), desk.store.put_table(scores), None]
    with pytest.raises(
        DataError, match=r"types that go together in all batches: 'answer' is integer and string"
    ):
        desk.curate([human, wrong])
    turned = scores.take([1, 0])
    with pytest.raises(DataError, match="Scores must be in the order of their samples"):
        desk.curate([human, [desk.store.put_table(samples), desk.store.put_table(turned), None]])
    with pytest.raises(StageFailed, match=r"human_share=0\.5 must be reached by human rows"):
        Desk(folder, share=0.5).curate([desk.batch(1, [Row("a", 1, 1.0)])])
    with pytest.raises(StageFailed, match="the corpus is empty: no sample was kept"):
        desk.curate([desk.batch(1, [Row("a", 1, 0.0)])])
