from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pytest

from flywheel.errors import ConfigError, DataError
from flywheel.graders import AllOf, AnyOf, Verifier, Vote
from flywheel.graders.controls import check_controls, wrong_answers
from tests.support import verifiers

PAIRS = [(a, b) for a in range(2, 12) for b in range(2, 12)]
SUMS = pa.table(
    {
        "prompt": [f"{a}+{b}" for a, b in PAIRS],
        "group": [f"{a}+{b}" for a, b in PAIRS],
        "answer": [str(a + b) for a, b in PAIRS],
    }
)


@contextmanager
def verifier(function: Any, **arguments: Any) -> Iterator[Verifier]:
    made = Verifier(function=function, workers=1, **arguments)
    yield made
    made.close()


def test_a_verifier_that_knows_right_from_wrong_passes() -> None:
    with verifier(verifiers.is_sum) as grader:
        check_controls(grader, SUMS)


GAMED = {
    "accepts_empty": "of empty ones may pass, with 0.5 or more; 64 of 64 do",
    "accepts_numbers": r"of constant ones may pass, with 0\.5 or more; \d\d of \d\d do",
    "accepts_shuffled": r"of shuffled ones may pass, with 0\.5 or more; \d\d of \d\d do",
}


@pytest.mark.parametrize(("function", "message"), GAMED.items())
def test_a_reward_that_can_be_gamed_is_refused_by_name(function: str, message: str) -> None:
    with verifier(getattr(verifiers, function)) as grader:
        with pytest.raises(ConfigError, match=message) as refused:
            check_controls(grader, SUMS)
        assert "negative_controls=false" in str(refused.value)
        grader.negative_controls = False
        check_controls(grader, SUMS)


def test_one_that_fails_on_the_seed_samples_own_answers_is_refused() -> None:
    with verifier(verifiers.never) as grader, pytest.raises(ConfigError) as refused:
        check_controls(grader, SUMS)
    assert "it failed on all 64 tried, most often: KeyError: 'no such column'" in str(refused.value)


@pytest.mark.parametrize("human", [SUMS.rename_columns(["prompt", "group", "sum"]), SUMS[:0]])
def test_there_must_be_answers_to_make_wrong_ones_of(human: pa.Table) -> None:
    with (
        verifier(verifiers.is_sum) as grader,
        pytest.raises(ConfigError, match=f"'answer' of the seed samples; these have {len(human)} rows"),
    ):
        check_controls(grader, human)


def test_a_composition_is_judged_as_a_whole() -> None:
    with verifier(verifiers.accepts_numbers, column="form") as form, verifier(verifiers.is_sum) as right:
        check_controls(AllOf(graders={"form": form, "right": right}), SUMS)
        with pytest.raises(ConfigError, match="of constant ones may pass"):
            check_controls(AnyOf(graders={"form": form, "right": right}), SUMS)


def test_graders_that_check_no_answers_are_not_tried() -> None:
    check_controls(Vote(), SUMS[:0])
    check_controls(AllOf(graders={"vote": Vote()}), SUMS[:0])


class AsksTheModel:
    checked_answer = "answer"

    def grade(self, samples: pa.Table, load_parent: Any, keys: Any) -> Any:
        return {"judged": load_parent().judge(samples)}


def test_a_grader_that_needs_the_parent_is_told_so() -> None:
    with pytest.raises(DataError, match="before there is a model; this grader asks for the parent's"):
        check_controls(AsksTheModel(), SUMS)


KINDS = {
    pa.string(): (["a", "b", "b", "c"], ""),
    pa.binary(): ([b"a", b"b", b"b", b"c"], b""),
    pa.list_(pa.int64()): ([[1], [2], [2], [3]], []),
    pa.list_(pa.int64(), 1): ([[1], [2], [2], [3]], None),
    pa.int64(): ([1, 2, 2, 3], None),
}


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_wrong_answers_are_other_answers_of_the_same_type(kind: pa.DataType) -> None:
    values, empty = KINDS[kind]
    seeds = pa.table({"prompt": list("wxyz"), "answer": pa.array(values, kind)})
    made = wrong_answers(seeds, "answer")
    assert list(made) == ["empty", "constant", "shuffled"]
    assert made["empty"]["answer"].to_pylist() == [empty] * 4
    assert made["constant"].to_pydict() == {"prompt": ["w", "z"], "answer": [values[1]] * 2}
    for rows in made.values():
        assert rows.schema == seeds.schema
        own = dict(zip("wxyz", values, strict=True))
        assert all(row["answer"] != own[row["prompt"]] for row in rows.to_pylist())


def test_where_all_answers_are_one_there_are_empty_ones_only() -> None:
    assert list(wrong_answers(pa.table({"answer": ["yes"] * 4}), "answer")) == ["empty"]
