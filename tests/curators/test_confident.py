from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.curators.confident import Confident
from flywheel.keys import Key
from flywheel.tables import DECISIONS, as_table

SCORES = st.integers(0, 20).map(lambda n: n / 20)
ROWS = st.lists(
    st.tuples(st.booleans(), st.integers(1, 3), SCORES | st.none(), st.integers(0, 2)),
    min_size=1,
    max_size=40,
)
CURATORS = st.builds(
    Confident,
    threshold=SCORES,
    by=st.sampled_from([None, "label"]),
    fractions=st.lists(st.sampled_from([0.1, 0.25, 0.5, 1.0]), min_size=1, max_size=3),
)


def table(rows: list[tuple[bool, int, float | None, int]]) -> pa.Table:
    human, generation, scores, labels = zip(*rows, strict=True)
    return pa.table(
        {
            "id": [str(k) for k in range(len(rows))],
            "origin": ["human" if h else "generated" for h in human],
            "made_in": pa.array([0 if h else g for h, g in zip(human, generation, strict=True)], pa.int32()),
            "confidence": pa.array(
                [None if h else s for h, s in zip(human, scores, strict=True)], pa.float64()
            ),
            "label": labels,
        }
    )


def made(*scores: float | None, labels: list[Any] | None = None, generation: int = 1) -> pa.Table:
    labeled = zip(scores, labels or [0] * len(scores), strict=True)
    return table([(False, generation, score, label) for score, label in labeled])


def human(count: int) -> pa.Table:
    return table([(True, 0, None, 0)] * count)


def decide(curator: Confident, samples: pa.Table) -> pa.Table:
    decisions, carry = curator.curate(samples, {}, Key.root(0)("curate"))
    assert carry == {}
    return as_table(decisions).select(DECISIONS.names).cast(DECISIONS)


def test_of_a_group_the_best_row_alone_is_kept_where_that_is_asked() -> None:
    samples = made(0.7, 0.9, 0.9, None, 0.2).append_column("group", pa.array(["a", "a", "a", "b", "c"]))
    samples = pa.concat_tables([human(1).append_column("group", pa.array(["c"])), samples])
    both = decide(Confident(threshold=0.3), samples)
    assert both["keep"].to_pylist() == [True, True, True, True, False, False]
    best = decide(Confident(threshold=0.3, best_of_group=True), samples)
    assert best["keep"].to_pylist() == [True, False, True, False, False, False]
    assert best["reason"].to_pylist() == [
        *("human", "not its group's best", "top 1 by confidence", "not its group's best"),
        *("no score", "below threshold"),
    ]


@given(CURATORS, ROWS)
def test_of_the_newest_rows_of_each_label_the_top_fraction_is_kept_and_all_human_ones(
    curator: Confident, rows: list[Any]
) -> None:
    samples = table(rows)
    decisions = decide(curator, samples)
    assert decisions["id"] == samples["id"]
    assert decisions["count"].to_pylist() == decisions["weight"].to_pylist() == [1] * len(rows)
    keep, reasons = decisions["keep"].to_numpy(), decisions["reason"].to_numpy()
    human, made_in = samples["origin"].to_numpy() == "human", samples["made_in"].to_numpy()
    newest = ~human & (made_in == made_in.max())
    scores = np.nan_to_num(samples["confidence"].to_numpy(zero_copy_only=False), nan=-1)
    sure = newest & (scores >= curator.threshold)
    assert np.array_equal(reasons == "human", human)
    assert np.array_equal(reasons == "superseded", ~human & ~newest)
    assert np.array_equal(keep & ~sure, human)
    fraction = curator.fractions[min(max(int(made_in.max()), 1), len(curator.fractions)) - 1]
    labels = samples["label"].to_numpy() if curator.by else np.zeros(len(rows))
    for label in np.unique(labels):
        rows_of = sure & (labels == label)
        quota = math.ceil(fraction * rows_of.sum() - 1e-9)
        assert (keep & rows_of).sum() == quota
        if quota and (rows_of & ~keep).any():
            assert scores[rows_of & keep].min() >= scores[rows_of & ~keep].max()


def test_genesis_keeps_every_human_row_without_scores() -> None:
    samples = human(3).drop_columns("confidence")
    assert decide(Confident(threshold=0.9), samples)["keep"].to_pylist() == [True] * 3


def test_the_reasons_are_told() -> None:
    samples = pa.concat_tables([human(1), made(0.9), made(0.95, 0.8, 0.2, generation=2)])
    decisions = decide(Confident(threshold=0.5, fractions=[0.5]), samples)
    keep, reasons = decisions["keep"].to_pylist(), decisions["reason"].to_pylist()
    assert keep == [True, False, True, False, False]
    assert reasons[:2] == ["human", "superseded"]
    assert len(set(reasons)) == 5


def test_equal_scores_are_kept_in_their_order() -> None:
    decisions = decide(Confident(fractions=[0.5]), made(0.7, 0.7, 0.7, 0.7))
    assert decisions["keep"].to_pylist() == [True, True, False, False]


@pytest.mark.parametrize(("fraction", "rows", "kept"), [(0.07, 100, 7), (0.55, 100, 55), (0.2, 15, 3)])
def test_a_quota_does_not_depend_on_the_last_bit(fraction: float, rows: int, kept: int) -> None:
    assert decide(Confident(fractions=[fraction]), made(*[0.5] * rows))["keep"].to_numpy().sum() == kept


@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_a_score_that_no_grader_gave_is_named(threshold: float) -> None:
    """A typo must not keep everything, or nothing, in silence."""
    with pytest.raises(Exception, match="confidenc_"):
        Confident(score="confidenc_", threshold=threshold).curate(made(0.1, 0.9), {}, Key.root(0))


def test_rows_without_a_score_are_not_kept() -> None:
    assert decide(Confident(), made(None, float("nan"), 0.1))["keep"].to_pylist() == [False, False, True]


@pytest.mark.parametrize("fractions", [[], [0.0], [1.5], [0.5, -1]])
def test_fractions_must_be_shares(fractions: list[float]) -> None:
    with pytest.raises(ValueError, match="fractions must be above 0 and at most 1"):
        Confident(fractions=fractions)


def test_labels_of_text_are_balanced_too() -> None:
    samples = made(0.9, 0.8, 0.7, 0.6, labels=["cat", "cat", "cat", "dog"])
    decisions = decide(Confident(by="label", fractions=[0.5]), samples)
    assert decisions["keep"].to_pylist() == [True, True, False, True]


@pytest.mark.parametrize("threshold", [0.0, float("-inf")])
def test_a_row_without_a_score_is_not_kept_and_said_to_have_none(threshold):
    samples = pa.table(
        {
            "id": ["h", "x", "y"],
            "origin": ["human", "generated", "generated"],
            "made_in": pa.array([0, 1, 1], pa.int32()),
            "confidence": pa.array([None, None, 0.0]),
        }
    )
    decisions, _ = Confident(threshold=threshold).curate(samples, {}, Key.root(0))
    assert decisions["keep"].tolist() == [True, False, True]
    assert decisions["reason"].tolist() == ["human", "no score", "top 1 by confidence"]
