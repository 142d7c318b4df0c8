from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.curators.curriculum import Curriculum
from flywheel.errors import DataError
from flywheel.keys import Key

KEY = Key.root(0)
HUMAN = [("human", 0, f"h{i}", 1 + i % 2, None) for i in range(8)]  # levels 1 and 2


def rows(*batches):
    """Samples of (origin, made_in, group, level, vote)."""
    columns = list(zip(*(row for batch in batches for row in batch), strict=True))
    names = ("origin", "made_in", "group", "level", "vote")
    kinds = (pa.string(), pa.int32(), pa.string(), pa.int64(), pa.float64())
    arrays = [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
    table = pa.table(dict(zip(names, arrays, strict=True)))
    return table.append_column("id", pa.array([str(i) for i in range(len(table))]))


def level(number, passed, of, generation=1, members=2):
    """``of`` groups of a level; the first ``passed`` of them pass, by the vote of all their members."""
    return [
        ("generated", generation, f"g{number}-{i}", number, 1.0 if i < passed else 0.3)
        for i in range(of)
        for _ in range(members)
    ]


def curated(table, carry=None, **options):
    curator = Curriculum(level="level", batches=10, batch_size=4, **options)
    decisions, carry = curator.curate(table, carry or {}, KEY)
    return {name: np.asarray(column) for name, column in decisions.items()}, carry


def test_genesis_draws_from_all_levels_that_people_gave():
    decisions, carry = curated(rows(HUMAN))
    assert carry["frontier"] == 2
    assert decisions["count"].sum() == 40
    assert decisions["keep"].all()
    assert set(decisions["reason"]) == {"human"}


def test_batches_are_of_one_level():
    table = rows(HUMAN, level(3, 9, 10))
    decisions, _ = curated(table)
    drawn = np.bincount(table["level"].to_numpy(), decisions["count"], 4)
    assert all(number % 4 == 0 for number in drawn)
    assert drawn.sum() == 40


def test_one_lesson_a_group_the_best_scored_the_first_among_equals():
    group = [("generated", 1, "g", 3, vote) for vote in (0.2, 0.7, 0.9, 0.9)]
    decisions, _ = curated(rows(HUMAN, group))
    assert list(decisions["keep"][8:]) == [False, False, True, False]
    assert list(decisions["reason"][8:]) == ["not its group's best"] * 2 + [
        "lesson",
        "not its group's best",
    ]


def test_the_same_group_name_in_another_generation_is_another_group():
    table = rows(HUMAN, level(3, 1, 1, generation=1), level(3, 1, 1, generation=2))
    assert curated(table)[0]["keep"][8:].sum() == 2


@pytest.mark.parametrize(
    ("passed", "frontier"),
    [
        ([2, 0, 0, 0], 3),  # 20% is enough for a first level
        ([1, 10, 10, 10], 2),  # the first that fails ends the climb
        ([2, 2, 2, 2], 4),  # only two unless sure
        ([2, 2, 10, 10], 6),
        ([10, 10, 10, 9], 5),
    ],
)
def test_the_climb(passed, frontier):
    batch = [row for i, n in enumerate(passed) for row in level(3 + i, n, 10)]
    decisions, carry = curated(rows(HUMAN, batch))
    assert carry == {"frontier": frontier, "oldest_new": 3 if frontier > 2 else 1}
    levels = np.array([row[3] for row in [*HUMAN, *batch]])
    assert not decisions["keep"][levels > frontier].any()


def test_a_frontier_that_is_carried_is_not_lost_and_the_newest_levels_stay_the_newest():
    batch = level(6, 0, 10, generation=2)
    _, carry = curated(rows(HUMAN, level(5, 10, 10), batch), {"frontier": 5, "oldest_new": 4})
    assert carry == {"frontier": 5, "oldest_new": 4}


def test_lessons_that_are_not_drawn_stay():
    table = rows(HUMAN, level(3, 100, 100))
    decisions, _ = curated(table)
    waiting = decisions["keep"] & (decisions["count"] == 0)
    assert waiting.sum() > 50


def test_half_of_the_batches_are_of_the_newest_levels():
    table = rows(HUMAN, level(3, 10, 10), level(4, 10, 10))
    decisions, _ = curated(table, newest=1.0, recent=0.0)
    assert decisions["count"][:8].sum() == 0


def test_a_score_that_the_grader_does_not_give_is_refused():
    with pytest.raises(DataError, match="score must be a column of the grader; 'trust' is none"):
        curated(rows(HUMAN, level(3, 1, 1)), score="trust")


@pytest.mark.parametrize("options", [{"newest": 0.8, "recent": 0.3}, {"newest": -0.1}, {"window": 0}])
def test_options_out_of_range(options):
    with pytest.raises(ValueError, match="must be"):
        curated(rows(HUMAN), **options)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 10), min_size=1, max_size=5), st.integers(0, 2**31))
def test_never_trains_on_what_did_not_pass(passed, seed):
    batch = [row for i, n in enumerate(passed) for row in level(3 + i, n, 10)]
    table = rows(HUMAN, batch)
    curator = Curriculum(level="level", batches=10, batch_size=4)
    decisions, carry = curator.curate(table, {}, Key.root(seed))
    human = np.array([True] * 8 + [False] * len(batch))
    bad = ~human & (np.nan_to_num(table["vote"].to_numpy()) < 0.5)
    assert not decisions["keep"][bad].any()
    assert (decisions["count"][~decisions["keep"]] == 0).all()
    assert decisions["count"].sum() == 40
    assert 2 <= carry["frontier"] <= 2 + len(passed)


def test_a_row_without_a_score_passes_nothing_and_leads_no_group():
    """A grader that failed on a row says nothing for it, whatever the threshold."""
    alone = [("generated", 1, f"g{i}", 3, None) for i in range(4)]
    beside = [("generated", 1, f"h{i}", 3, vote) for i in range(4) for vote in (None, 0.6)]
    decisions, carry = curated(rows(HUMAN, alone), threshold=0.0)
    assert carry["frontier"] == 2
    assert not decisions["keep"][len(HUMAN) :].any()
    decisions, _ = curated(rows(HUMAN, alone, beside), threshold=0.0)
    assert decisions["keep"][len(HUMAN) :].tolist() == [False] * 4 + [False, True] * 4


def audited(table, found):
    """The table with what an audit found of each row; None: it was not looked at."""
    return table.append_column("audited", pa.array(found, pa.float64()))


def test_lessons_of_a_later_generation_replace_those_of_the_same_level():
    table = rows(HUMAN, level(3, 10, 10, members=1), level(3, 4, 10, generation=2, members=1))
    decisions, _ = curated(table, {"frontier": 3})
    older, newer = decisions["keep"][8:18], decisions["keep"][18:]
    assert not older.any()
    assert newer.sum() == 4
    assert set(decisions["reason"][8:18]) == {"replaced by newer lessons"}
    decisions, _ = curated(table, {"frontier": 3}, renew=False)
    assert decisions["keep"][8:18].all()


def test_fewer_lessons_than_a_batch_has_rows_replace_none():
    table = rows(HUMAN, level(3, 10, 10, members=1), level(3, 3, 10, generation=2, members=1))
    decisions, _ = curated(table, {"frontier": 3})
    assert decisions["keep"][8:18].all()
    assert decisions["keep"][18:].sum() == 3


def test_what_an_audit_found_wrong_is_no_lesson_any_more():
    table = rows(HUMAN, level(3, 10, 10, members=1), level(4, 10, 10, generation=2, members=1))
    found = [None] * 8 + [0.0, 1.0] + [None] * 8 + [0.0] + [1.0] * 9
    decisions, carry = curated(audited(table, found), {"frontier": 3})
    assert carry["frontier"] == 4
    assert list(np.flatnonzero(decisions["reason"] == "wrong by the audit")) == [8, 18]
    assert not decisions["keep"][[8, 18]].any()


def test_a_level_that_an_audit_finds_wrong_too_often_ends_the_climb():
    table = rows(HUMAN, level(3, 10, 10, members=1), level(4, 10, 10, members=1), level(5, 10, 10, members=1))
    found = [None] * 8 + [1.0] * 10 + [0.0, 0.0] + [1.0] * 8 + [None] * 10
    _, carry = curated(audited(table, found), sure_pass_rate=0.5)
    assert carry["frontier"] == 3
    _, carry = curated(audited(table, found), sure_pass_rate=0.5, least_precision=0.8)
    assert carry["frontier"] == 5


def test_the_frontier_steps_back_below_a_level_that_was_taken_and_is_wrong_by_now():
    table = rows(HUMAN, level(3, 10, 10, generation=2, members=1), level(4, 10, 10, generation=2, members=1))
    found = [None] * 8 + [1.0] * 10 + [0.0] * 10
    decisions, carry = curated(audited(table, found), {"frontier": 6, "oldest_new": 5})
    assert carry == {"frontier": 3, "oldest_new": 3}
    assert not decisions["keep"][18:].any()
    found = [None] * 8 + [0.0] * 20
    _, carry = curated(audited(table, found), {"frontier": 6, "oldest_new": 5})
    assert carry["frontier"] == 2, "what people taught stays"


def test_an_audit_that_looked_at_nothing_changes_nothing():
    table = rows(HUMAN, level(3, 9, 10), level(4, 9, 10))
    plain, carry = curated(table)
    with_audit, same = curated(audited(table, [None] * len(table)))
    assert carry == same
    assert all((plain[name] == with_audit[name]).all() for name in plain)
