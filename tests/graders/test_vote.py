from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from flywheel.graders.vote import Vote
from flywheel.keys import Key

KEY = Key.root(0)


def graded(groups, answers):
    table = pa.table({"group": pa.array(groups, pa.string()), "answer": pa.array(answers, pa.string())})
    return list(Vote().grade(table, lambda: None, KEY)["vote"])


def test_the_share_of_the_group_that_says_the_same():
    votes = graded(["p", "p", "p", "q", "q", "r"], ["1", "2", "1", "1", "3", "4"])
    assert votes == [2 / 3, 1 / 3, 2 / 3, 1 / 2, 1 / 2, 1.0]


def test_a_null_agrees_with_nothing_but_counts_as_a_member():
    assert graded(["p", "p", "p"], [None, None, "1"]) == [0.0, 0.0, 1 / 3]
    assert graded(["p"], [None]) == [0.0]


def test_no_rows():
    assert graded([], []) == []


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["1", "2", None])), min_size=1))
def test_votes_are_shares_whatever_the_order(rows):
    groups, answers = [g for g, _ in rows], [a for _, a in rows]
    votes = graded(groups, answers)
    for (group, answer), vote in zip(rows, votes, strict=True):
        agree = 0 if answer is None else rows.count((group, answer))
        assert np.isclose(vote, agree / groups.count(group))
    order = np.random.default_rng(0).permutation(len(rows))
    assert graded([groups[i] for i in order], [answers[i] for i in order]) == [votes[i] for i in order]
