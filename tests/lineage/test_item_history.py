"""Since when the champion does worse on an item: on its line, by scores that can be compared."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from flywheel.cli.commands.trace import lines
from flywheel.errors import RunError
from flywheel.lineage.item_history import ItemHistory, item_history
from flywheel.lineage.record import Record
from flywheel.lineage.trace import trace
from flywheel.storage.state import Generation, RunState, Status
from flywheel.storage.store import Store
from flywheel.tables import OUTCOMES
from tests.support.events import event_of


def outcomes(store: Store, score: float, opponent: str | None = None) -> str:
    row = {"suite": "gate", "item": "a/b", "cluster": "a/b", "subject": "w", "opponent": opponent}
    other = row | {"item": "other", "score": 0.0}
    return store.put_table(pa.Table.from_pylist([other, row | {"score": score}], OUTCOMES))


def run_of(
    directory: Path,
    scores: list[float | None],
    *,
    parents: list[int | None] | None = None,
    champion: int | None = -1,
    opponents: list[str | None] | None = None,
    rejected: tuple[int, ...] = (),
    recalled: tuple[int, ...] = (),
) -> tuple[RunState, Store]:
    """Generations with these scores (None: not scored); each with the last as parent by default."""
    state, store = RunState(), Store(directory)
    for number, score in enumerate(scores):
        parent = (number - 1 if number else None) if parents is None else parents[number]
        status = Status.REJECTED if number in rejected else Status.PROMOTED
        g = Generation(number, parent, status, recalled=number in recalled)
        if score is not None:
            name = outcomes(store, score, opponents[number] if opponents else None)
            g.stages["evaluate"] = event_of("stage", stage="evaluate", outputs={"outcomes": name})
        state.generations.append(g)
    state.champion = None if champion is None else state.generations[champion]
    return state, store


def history(directory: Path, scores: list[float | None], **more: object) -> ItemHistory:
    return item_history(*run_of(directory, scores, **more), "gate", "a/b")


@pytest.mark.parametrize(
    ("scores", "since"),
    [
        ([1, 1, 0, 0], 2),
        ([1, 0, 1, 1], None),  # made up for
        ([1, 0, 1, 0], 3),  # the last fall, not the first
        ([0, 0, 1, 1], None),
        ([1, 0.5, 0.7, 0.7], 1),  # not wholly made up for
        ([1, 0, 0.9, 0.8, 0.9], 1),  # the fall from .9 was made up for, that from 1 was not
        ([0.3, 0.3 - 1e-12], None),
        ([0], None),
    ],
)
def test_the_last_fall_that_was_not_made_up_for(
    tmp_path: Path, scores: list[float], since: int | None
) -> None:
    past = history(tmp_path, scores)
    assert (past.worse_since, past.worse_between) == (since, None)


def test_what_is_not_on_the_champions_line_says_nothing(tmp_path: Path) -> None:
    """Generation 1 fell and was recalled, 2 was rejected, 3 rolled back; 4 has 0 as its parent."""
    parents = [None, 0, 1, 1, 0]
    past = history(tmp_path, [1, 0, 0, 0, 1], parents=parents, rejected=(2,), recalled=(1,))
    assert (past.line, past.worse_since) == ([0, 4], None)
    fell = history(tmp_path, [0, 1, 1, 1, 0], parents=[None, 0, 1, 2, 1], recalled=(2, 3))
    assert (fell.line, fell.worse_since) == ([0, 1, 4], 4)


def test_recalled_generations_are_left_out_of_a_line(tmp_path: Path) -> None:
    past = history(tmp_path, [1, 0, 1], recalled=(1,))
    assert (past.line, past.worse_since) == ([0, 2], None)


def test_a_suite_that_was_not_looked_at_in_between(tmp_path: Path) -> None:
    past = history(tmp_path, [1, None, None, 0])
    assert (past.worse_since, past.worse_between, past.last_scored) == (None, (0, 3), 3)


def test_a_champion_that_was_not_scored(tmp_path: Path) -> None:
    past = history(tmp_path, [1, 0, None])
    assert (past.worse_since, past.last_scored) == (1, 1)


def test_scores_against_different_opponents_are_not_compared(tmp_path: Path) -> None:
    past = history(tmp_path, [1, 0, 0], opponents=["x", "y", "y"])
    assert (past.worse_since, past.not_compared) == (None, 1)
    assert history(tmp_path, [1, 1, 0], opponents=["x", "y", "y"]).worse_since == 2


def test_without_a_champion_scores_are_listed(tmp_path: Path) -> None:
    past = history(tmp_path, [1, 0], champion=None)
    assert ([s.score for s in past.scores], past.line, past.worse_since) == ([1, 0], [], None)


@pytest.mark.parametrize(
    ("scores", "opponents", "text", "traced"),
    [
        ([1, 0, 0], None, "worse since generation 1", 1),
        ([1, 0, 1], None, "generation 2 does not do worse on it than those before", 2),
        ([1, None, 0], None, "worse since a generation after 0, at the latest 2", 2),
        ([1, 0, None], None, "the champion, generation 2, was not scored on it; the last one that was is", 1),
        ([1, 0], ["x", "y"], "cannot be said: scores against different opponents", 1),
    ],
)
def test_trace_says_so(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scores: list[float | None],
    opponents: list[str] | None,
    text: str,
    traced: int,
) -> None:
    state, store = run_of(tmp_path, scores, opponents=opponents)
    monkeypatch.setattr(Record, "read", lambda directory: Record(directory, [], state, store))
    answer = trace(tmp_path, item="gate/a/b", down=False)
    assert answer.generation == traced
    assert text in "\n".join(lines(answer))
    assert json.loads(json.dumps(answer.json())) == answer.json()


SUITES = {"gate/with/slash": ["a/b", "/a", "a/", "a b", "-x", "--json", "", "7", "[b]"], "gate/with": ["x"]}
NAMED = [(suite, item) for suite, items in SUITES.items() for item in items]


def run_of_suites(directory: Path, monkeypatch: pytest.MonkeyPatch, suites: dict[str, list[str]]) -> None:
    state, store = run_of(directory, [0])
    same = {"cluster": "c", "subject": "w", "opponent": None, "score": 1.0}
    rows = [{"suite": suite, "item": item, **same} for suite, items in suites.items() for item in items]
    name = store.put_table(pa.Table.from_pylist(rows, OUTCOMES))
    state.generations[0].stages["evaluate"] = event_of("stage", stage="evaluate", outputs={"outcomes": name})
    monkeypatch.setattr(Record, "read", lambda directory: Record(directory, [], state, store))


@pytest.mark.parametrize(("suite", "item"), NAMED)
def test_suites_and_items_may_have_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suite: str, item: str
) -> None:
    run_of_suites(tmp_path, monkeypatch, SUITES)
    for given in (f"{suite}/{item}", (suite, item)):
        traced = trace(tmp_path, item=given, down=False).item
        assert (traced.suite, traced.item, len(traced.scores)) == (suite, item, 1)


def test_what_names_two_items_is_refused_and_a_pair_names_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_of_suites(tmp_path, monkeypatch, {"gate": ["x/1"], "gate/x": ["1"]})
    with pytest.raises(RunError, match=r"'x/1' of suite 'gate' and '1' of suite 'gate/x'\. In Python"):
        trace(tmp_path, item="gate/x/1")
    assert trace(tmp_path, item=("gate/x", "1"), down=False).json()["item"]["suite"] == "gate/x"


def test_an_item_that_is_not_there_is_told_with_the_suites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_of_suites(tmp_path, monkeypatch, SUITES)
    for item in ("gate/with/slash/nothing", "gate", "", "/", "other/a/b"):
        with pytest.raises(RunError, match=r"Suites that were evaluated: gate/with, gate/with/slash\."):
            trace(tmp_path, item=item)
