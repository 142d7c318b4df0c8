"""What a flaw reaches, edge by edge; who recalls it is in test_recall."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from flywheel.curators.confident import Confident
from flywheel.curators.curriculum import Curriculum
from flywheel.lineage.graph import descend
from flywheel.lineage.recall import recall
from flywheel.lineage.record import Record
from flywheel.lineage.status import read_state
from flywheel.lineage.trace import trace
from flywheel.lineage.views import edges
from flywheel.runtime.context import Context, StageOutput
from flywheel.storage.ids import batch_of
from flywheel.storage.rules import Carries
from flywheel.storage.sources import drawn_of, seen_of, sources_of
from flywheel.storage.state import Generation, RunState, Status
from flywheel.storage.store import Store
from flywheel.tables import with_provenance
from tests.support.events import event_of, facts
from tests.support.fake_stages import human, play, put

MADE = 6


pytestmark = pytest.mark.usefixtures("fakes")


def leveled(rows: pa.Table, level: int) -> pa.Table:
    return rows.append_column("level", pa.array([level] * len(rows), pa.int64()))


def generate(ctx: Context, *, parent: Any, **_: Any) -> StageOutput:
    """Six answers, one level above what people wrote."""
    where = {"made_in": ctx.generation, "made_by": parent.weights, "key": 1}
    rows = pa.table({"prompt": [f"p{n}" for n in range(MADE)], "word": ["made"] * MADE})
    made = with_provenance(rows, own=("prompt",), origin="generated", **where)
    return StageOutput({"samples": leveled(made, 2)}, facts("generate", made=MADE))


def grade(ctx: Context, *, samples: str, parent: Any) -> StageOutput:
    ids = ctx.store.table(samples)["id"]
    return StageOutput(
        {"scores": pa.table({"id": ids, "vote": np.ones(len(ids))})}, facts("grade", grader="Votes")
    )


@pytest.fixture
def ladder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Human samples are of level 1, all others of level 2."""
    put(monkeypatch, generate)
    put(monkeypatch, grade)
    monkeypatch.setattr("tests.support.fake_stages.human", lambda: leveled(human(), 1))


@pytest.fixture
def climbing(run: Path, ladder: None) -> Path:
    """A curriculum that took level 2 on six lessons of turn 1, none of which was drawn."""
    assert climb(run, 1) == 0
    return run


def climb(run: Path, generations: int, **options: Any) -> int:
    curator = Curriculum(level="level", batches=1, batch_size=1, newest=0, recent=0)
    return play(run, generations, seed=DRAWS_A_HUMAN_ROW, curator=curator, **options)


DRAWS_A_HUMAN_ROW = 5
WRONG = "made_in = 1 and origin = 'generated'"


def frontier(run: Path) -> int:
    state = read_state(run)
    return int(Store(run).json(state.carries.artifacts["curator"])["frontier"])


def test_a_level_frontier_that_wrong_lessons_raised_goes_back_with_them(climbing: Path) -> None:
    state, store = read_state(climbing), Store(climbing)
    first = state.generations[1]
    assert first.status is Status.PROMOTED
    assert (frontier(climbing), drawn_of(store, first)) == (2, [batch_of(state.generations[0])])
    assert len(sources_of(store, first)) == 2, "the lessons are kept for later"
    report = recall(climbing, where=WRONG, why="all six are wrong", yes=True).json()
    assert (report["generations"], report["suspect"][0]["by"]) == ([], ["saw"])
    assert report["champion"] == {"before": 1, "after": 1}
    assert [(c["component"], c["left_by"]) for c in report["carries"]] == [("curator", 0)]
    assert frontier(climbing) == 1
    assert climb(climbing, 2) == 0
    assert read_state(climbing).generations[2].suspect, "its champion is"


def test_who_began_with_such_a_carry_is_suspect_too(climbing: Path) -> None:
    climb(climbing, 2)
    report = recall(climbing, where=WRONG, why="all six are wrong").json()
    by = {g["generation"]: g["by"] for g in report["suspect"]}
    assert "saw" in by[1]
    assert "settings_from" in by[2]


def test_a_generation_under_way_whose_curator_saw_the_flaw_is_made_again(run: Path, ladder: None) -> None:
    climb(run, 1, stages=5 + 4)  # its curate is done, its fit is not
    assert recall(run, where=WRONG, why="wrong", yes=True).ends == 1
    state = read_state(run)
    assert (state.generations[1].status, state.generations[1].suspect) == (Status.FAILED, True)
    assert climb(run, 1) == 0
    assert not read_state(run).generations[2].suspect


def test_a_part_without_a_carry_keeps_nothing_of_what_it_saw(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, grade)
    play(run, 1, curator=Confident(score="vote", fractions=[0.3]))
    state, store = read_state(run), Store(run)
    drawn = set(store.table(str(state.generations[1].output("curate", "corpus")))["id"].to_pylist())
    made = store.table(str(batch_of(state.generations[1])))
    seen = [row["prompt"] for row in made.to_pylist() if row["id"] not in drawn]
    report = recall(run, where=f"made_in = 1 and prompt = '{seen[0]}'", why="odd").json()
    assert (report["samples"]["total"], report["generations"], report["suspect"]) == (1, [], [])


def test_what_was_hidden_from_a_curator_it_did_not_see(run: Path) -> None:
    play(run, 1, seed=1)
    recall(run, where="made_in = 1 and prompt = 'p0'", why="odd", yes=True)
    play(run, 4, seed=1)
    before = {g.number for g in read_state(run).generations if g.suspect or g.recalled}
    later = [g for g in read_state(run).generations[2:] if g.number not in before]
    again = recall(run, where="made_in = 1 and prompt = 'p0'", why="odd").json()
    assert again["suspect"] == again["generations"] == []
    assert later or before


@pytest.mark.parametrize("seed", range(4))
def test_a_rejected_generation_made_nothing_of_what_its_parent_made(run: Path, seed: int) -> None:
    play(run, 6, seed=seed)
    state, store = read_state(run), Store(run)
    rejected = [g for g in state.generations if g.status is Status.REJECTED]
    assert rejected or seed
    for generation in rejected:
        down = trace(run, generation=generation.number, up=False).json()["down"]
        assert [(g["generation"], g["by"]) for g in down["generations"]] == [(generation.number, ["named"])]
        assert down["samples"] == down["forks"] == []
        touched = recall(run, generation=generation.number, why="its batch is bad, too").json()
        drew = {g.number for g in state.generations if batch_of(generation) in drawn_of(store, g)}
        assert drew <= {g["generation"] for g in touched["generations"]}


def test_weights_that_two_generations_share_are_as_flawed_as_the_worse_of_them_has_them() -> None:
    def trained(number: int, own: str, **start: str) -> Generation:
        event = event_of("stage", stage="train", outputs={"weights": own}, facts={"start": start})
        parent = 0 if number else None
        return Generation(number, parent, Status.REJECTED, stages={"train": event})

    flawed, suspect = trained(1, "same", kind="fresh"), trained(2, "same", kind="fresh")
    suspect.carry_before = Carries({"tuner": "c"}, {"tuner": 1})
    generations = [
        trained(0, "w", kind="fresh"),
        flawed,
        suspect,
        trained(3, "x", kind="base", weights="same"),
    ]
    descent = descend(Store(Path()), RunState(generations=generations), generations={1})
    assert descent.suspect == {2: ["settings_from"]}
    assert descent.flawed == {1: ["named"], 3: ["init"]}


def test_up_names_who_has_the_weights_started_from(run: Path, fakes: pytest.MonkeyPatch) -> None:
    with fakes.context() as patch:
        patch.setattr("flywheel.stages.seed.read_base", lambda path: pa.table({"weights of": [0]}))
        play(run, 8, base="the weights of generation 0")
    starts = set()
    for generation in read_state(run).generations[1:]:
        entries = trace(run, generation=generation.number, down=False).json()["up"]
        (edge,) = [edge for edge in entries[0]["edges"] if edge["type"] == "init"]
        whose = {"parent": generation.parent, "base": 0, "fresh": None}[generation.init]
        assert edge["generation"] == whose
        assert whose is None or whose in [entry["generation"] for entry in entries]
        starts.add(generation.init)
    assert starts == {"parent", "base", "fresh"}


def test_up_lists_makers_of_what_was_drawn_only(run: Path) -> None:
    play(run, 8, seed=2)
    state, store = read_state(run), Store(run)
    kept_only = 0
    for generation in state.generations:
        entry = trace(run, generation=generation.number, down=False).json()["up"][0]
        listed = [e["made_in"] for e in entry["edges"] if e["type"] == "produced_by"]
        corpus = set(store.table(str(generation.output("curate", "corpus")))["id"].to_pylist())
        batches = {g.number: set(store.table(str(batch_of(g)))["id"].to_pylist()) for g in state.generations}
        assert sorted(listed) == [number for number, ids in batches.items() if ids & corpus]
        kept_only += len(sources_of(store, generation)) - len(listed)
        (saw,) = [e["made_in"] for e in entry["edges"] if e["type"] == "saw"]
        assert sorted(saw) == [
            n for n in batches if batch_of(state.generations[n]) in seen_of(store, generation)
        ]
    assert kept_only, "a batch of which something was kept and nothing drawn must occur"


def test_query_has_an_edge_for_each_batch_that_was_seen(run: Path) -> None:
    play(run, 2)
    record = Record.read(run)
    saw = [edge for edge in edges(record).to_pylist() if edge["type"] == "saw"]
    assert {(e["generation"], e["parent"]) for e in saw} == {
        (g.number, batch) for g in record.state.generations for batch in seen_of(record.store, g)
    }
