from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.errors import DataError
from flywheel.graders.vote import Vote
from flywheel.keys import Key

KEY = Key.root(0)


def test_voices_may_count_as_much_as_they_are_sure():
    table = pa.table(
        {
            "group": ["a", "a", "b", "b", "c"],
            "answer": ["1", "1", "1", "2", "2"],
            "probability": [0.9, 0.5, 0.4, 0.6, None],
        }
    )
    votes = Vote(weight="probability").grade(table, lambda: None, KEY)["vote"]
    assert votes.tolist() == [0.7, 0.7, 0.2, 0.3, 0.0], "what both say comes before what the surer one says"
    wrong = table.set_column(2, "probability", pa.array([0.9, 0.5, 0.4, 0.6, 1.5]))
    with pytest.raises(DataError, match=r"must lie in \[0, 1\]; column 'probability' has 0.4 to 1.5"):
        Vote(weight="probability").grade(wrong, lambda: None, KEY)


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
