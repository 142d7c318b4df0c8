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


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["1", "2", None]))))
def test_votes_are_shares_whatever_the_order(rows):
    groups, answers = [g for g, _ in rows], [a for _, a in rows]
    votes = graded(groups, answers)
    for (group, answer), vote in zip(rows, votes, strict=True):
        agree = 0 if answer is None else rows.count((group, answer))
        assert np.isclose(vote, agree / groups.count(group))
    order = np.random.default_rng(0).permutation(len(rows))
    assert graded([groups[i] for i in order], [answers[i] for i in order]) == [votes[i] for i in order]
