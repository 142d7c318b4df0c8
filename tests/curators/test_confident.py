from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
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
    return table(
        [(False, generation, s, label) for s, label in zip(scores, labels or [0] * len(scores), strict=True)]
    )


def human(count: int) -> pa.Table:
    return table([(True, 0, None, 0)] * count)


def decide(curator: Confident, samples: pa.Table) -> pa.Table:
    decisions, carry = curator.curate(samples, {}, Key.root(0)("curate"))
    assert carry == {}
    return as_table(decisions).select(DECISIONS.names).cast(DECISIONS)


def newest(samples: pa.Table) -> np.ndarray:
    made_in = samples["made_in"].to_numpy()
    generated = samples["origin"].to_numpy() == "generated"
    return generated & (made_in == made_in.max())


@given(CURATORS, ROWS)
def test_there_is_one_decision_a_row_in_order(curator: Confident, rows: list[Any]) -> None:
    samples = table(rows)
    decisions = decide(curator, samples)
    assert decisions["id"].to_pylist() == samples["id"].to_pylist()
    assert all(reason for reason in decisions["reason"].to_pylist())
    kept = decisions.filter(decisions["keep"])
    assert all(count >= 1 for count in kept["count"].to_pylist())
    assert all(weight > 0 for weight in kept["weight"].to_pylist())


@given(CURATORS, ROWS)
def test_human_rows_are_always_kept(curator: Confident, rows: list[Any]) -> None:
    samples = table(rows)
    decisions = decide(curator, samples)
    for origin, keep, reason in zip(samples["origin"], decisions["keep"], decisions["reason"], strict=True):
        assert (origin.as_py() == "human") == (reason.as_py() == "human")
        assert keep.as_py() or origin.as_py() != "human"


@given(CURATORS, ROWS)
def test_only_rows_of_the_newest_generation_at_the_threshold_are_kept(
    curator: Confident, rows: list[Any]
) -> None:
    samples = table(rows)
    keep = decide(curator, samples)["keep"].to_numpy()
    scores = samples["confidence"].to_numpy(zero_copy_only=False)
    generated = keep & (samples["origin"].to_numpy() == "generated")
    assert (newest(samples) | ~generated).all()
    assert (scores[generated] >= curator.threshold).all()


@given(CURATORS, ROWS)
def test_no_row_is_kept_and_superseded(curator: Confident, rows: list[Any]) -> None:
    samples = table(rows)
    decisions = decide(curator, samples)
    superseded = decisions["reason"].to_numpy() == "superseded"
    assert not (superseded & decisions["keep"].to_numpy()).any()
    assert (superseded == (~newest(samples) & (samples["origin"].to_numpy() != "human"))).all()


@given(CURATORS, ROWS)
def test_of_each_label_the_top_fraction_is_kept(curator: Confident, rows: list[Any]) -> None:
    samples = table(rows)
    keep = decide(curator, samples)["keep"].to_numpy()
    scores = np.nan_to_num(samples["confidence"].to_numpy(zero_copy_only=False), nan=-1)
    sure = newest(samples) & (scores >= curator.threshold)
    turn = max(int(samples["made_in"].to_numpy().max()), 1)
    fraction = curator.fractions[min(turn, len(curator.fractions)) - 1]
    labels = samples["label"].to_numpy() if curator.by else np.zeros(len(rows))
    for label in np.unique(labels):
        rows_of = sure & (labels == label)
        quota = math.ceil(fraction * rows_of.sum() - 1e-9)
        assert (keep & rows_of).sum() == quota
        if quota and (rows_of & ~keep).any():
            assert scores[rows_of & keep].min() >= scores[rows_of & ~keep].max()


@settings(max_examples=30)
@given(CURATORS, ROWS)
def test_the_same_samples_are_decided_in_the_same_way(curator: Confident, rows: list[Any]) -> None:
    assert decide(curator, table(rows)).equals(decide(curator, table(rows)))


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


def test_fractions_follow_the_generation_and_the_last_one_holds() -> None:
    curator = Confident(fractions=[0.25, 0.5, 1.0])
    kept = [
        decide(curator, made(*[0.5] * 8, generation=turn))["keep"].to_numpy().sum() for turn in (1, 2, 3, 9)
    ]
    assert kept == [2, 4, 8, 8]


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
