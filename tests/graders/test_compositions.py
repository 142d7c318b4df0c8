from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from flywheel.errors import DataError
from flywheel.graders import AllOf, AnyOf, Cascade, Vote
from flywheel.keys import Key

TRUTH = (1.0, 0.0, None)


@dataclass
class Given:
    """Scores from a payload column; null where that is null, with a reason. Notes which rows it was asked."""

    column: str
    name: str | None = None

    def __post_init__(self) -> None:
        self.asked: list[str] = []

    def grade(self, samples: pa.Table, load_parent: Any, keys: Any) -> dict[str, Any]:
        assert len(keys) == len(samples)
        self.asked += samples["prompt"].to_pylist()
        scores = samples[self.column]
        reasons = [None if score.is_valid else f"no {self.column}" for score in scores]
        return {self.name or f"{self.column}_score": scores, "failure": pa.array(reasons, pa.string())}


def graded(
    grader: Any, columns: Mapping[str, Sequence[Any]], groups: str | None = None
) -> dict[str, list[Any]]:
    prompts = [str(row) for row in range(len(next(iter(columns.values()))))]
    names = list(groups or prompts)
    values = {name: pa.array(column, pa.float64()) for name, column in columns.items()}
    samples = pa.table({"prompt": prompts, "group": names, **values})
    answer = pa.table(grader.grade(samples, lambda: None, Key.root(0).each(names)))
    found: dict[str, list[Any]] = answer.to_pydict()
    return found


def both() -> dict[str, list[Any]]:
    """Every pair of what is true, false and not known."""
    pairs = list(itertools.product(TRUTH, repeat=2))
    return {"a": [a for a, _ in pairs], "b": [b for _, b in pairs]}


def parts() -> dict[str, Given]:
    return {"first": Given("a"), "second": Given("b")}


def test_all_of_is_threevalued_and() -> None:
    scores = graded(AllOf(graders=parts()), both())
    for a, b, score in zip(*both().values(), scores["all_of"], strict=True):
        assert score == (0.0 if 0.0 in (a, b) else None if None in (a, b) else 1.0)


def test_any_of_is_threevalued_or() -> None:
    scores = graded(AnyOf(graders=parts()), both())
    for a, b, score in zip(*both().values(), scores["any_of"], strict=True):
        assert score == (1.0 if 1.0 in (a, b) else None if None in (a, b) else 0.0)


@pytest.mark.parametrize("kind", [AllOf, AnyOf])
def test_reasons_and_columns_of_parts_are_kept(kind: Any) -> None:
    scores = graded(kind(graders=parts()), {"a": [None, None], "b": [None, 0.5]})
    own = kind.COLUMN
    assert list(scores) == [own, "failure", "a_score", "failure_first", "b_score", "failure_second"]
    assert scores["failure"][0] == "first: no a; second: no b"
    assert scores["failure_first"] == ["no a", "no a"]
    assert scores["failure_second"] == ["no b", None]
    assert scores["b_score"] == [None, 0.5]


def test_each_part_passes_from_a_score_of_its_own() -> None:
    columns = {"a": [0.4, 0.5, 0.6, 0.7], "b": [1.0] * 4}
    assert graded(AllOf(graders=parts()), columns)["all_of"] == [0.0, 1.0, 1.0, 1.0]
    strict = AllOf(graders=parts(), pass_at={"first": 0.65})
    assert graded(strict, columns)["all_of"] == [0.0, 0.0, 0.0, 1.0]


def test_a_cascade_asks_the_dear_one_what_the_cheap_one_passed() -> None:
    cheap, dear = Given("a"), Given("b")
    scores = graded(
        Cascade(graders={"cheap": cheap, "dear": dear}),
        {"a": [1, 0, None, 1, 1], "b": [0.2, 1, 1, 0.9, None]},
    )
    assert cheap.asked == list("01234")
    assert dear.asked == list("034")
    assert scores["cascade"] == [0.2, 0.0, None, 0.9, None]
    assert scores["failure"] == [None, None, "cheap: no a", None, "dear: no b"]
    assert scores["b_score"] == [0.2, None, None, 0.9, None], "null where it was not asked"
    assert scores["failure_dear"] == [None, None, None, None, "no b"]


def test_a_cascade_asks_in_the_order_that_it_was_given() -> None:
    last, first = Given("a"), Given("b")
    graded(Cascade(graders={"z": first, "a": last}), {"a": [1, 1], "b": [0, 1]})
    assert (first.asked, last.asked) == (["0", "1"], ["1"])


def test_a_cascade_may_ask_for_whole_groups() -> None:
    cheap, dear = Given("a"), Given("b")
    cascade = Cascade(graders={"cheap": cheap, "dear": dear}, asks="groups")
    scores = graded(cascade, {"a": [1, 0, 0, 0], "b": [0.8, 1, 1, 1]}, groups="xyxy")
    assert dear.asked == ["0", "2"]
    assert scores["cascade"] == [0.8, 0.0, 0.0, 0.0], "one asked for its group's sake passes nothing"


def test_a_cascade_of_which_nothing_passes_asks_no_further() -> None:
    cheap, dear = Given("a"), Given("b")
    scores = graded(Cascade(graders={"cheap": cheap, "dear": dear}), {"a": [0, 0], "b": [1, 1]})
    assert dear.asked == []
    assert scores["cascade"] == [0.0, 0.0]
    assert "b_score" not in scores


def test_a_vote_among_what_passed() -> None:
    samples = pa.table(
        {"prompt": list("pppp"), "group": list("gggg"), "a": [1.0, 1.0, 0.0, 1.0], "answer": list("1122")}
    )
    cascade = Cascade(graders={"form": Given("a"), "vote": Vote()})
    scores = cascade.grade(samples, lambda: None, Key.root(0).each("gggg"))
    assert np.allclose(scores["cascade"].to_pylist(), [2 / 3, 2 / 3, 0, 1 / 3])


def test_compositions_may_be_composed() -> None:
    inner = AnyOf(graders={"one": Given("a"), "other": Given("b")})
    outer = AllOf(graders={"either": inner, "third": Given("c")})
    scores = graded(outer, {"a": [1, 0, None], "b": [0, 0, 0], "c": [1, 1, 1]})
    assert scores["all_of"] == [1.0, 0.0, None]
    assert scores["failure"][2] == "either: one: no a"
    assert scores["failure_one"][2] == scores["failure_either"][2].removeprefix("one: ") == "no a"


def test_two_graders_with_one_column_are_refused() -> None:
    clash = AllOf(graders={"first": Given("a", "score"), "second": Given("b", "score")})
    with pytest.raises(DataError, match=r"columns of their own; second and another one have \['score'\]"):
        graded(clash, {"a": [1], "b": [1]})


class Unexplained:
    def grade(self, samples: pa.Table, load_parent: Any, keys: Any) -> dict[str, Any]:
        return {"score": pa.array([None] * len(samples), pa.float64())}


def test_a_part_that_does_not_say_why_is_refused() -> None:
    with pytest.raises(DataError, match="without a score must have a reason; 2 values of column 'score'"):
        graded(AllOf(graders={"one": Unexplained()}), {"a": [1, 1]})


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"graders": {}}, "must be one or more"),
        ({"graders": {"a b": Given("a")}}, "names of letters, digits and _; one is 'a b'"),
        ({"graders": parts(), "pass_at": {"frist": 1.0}}, "pass_at must name graders of it, first, second"),
        (
            {"graders": {"x": Given("a"), "y": AllOf(graders={"x": Given("b")})}},
            "names of their own; two are 'x'",
        ),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        AnyOf(**arguments)


def test_what_parts_declare_holds_for_the_whole() -> None:
    paid, counts = Given("a"), Given("b")
    paid.outside_service, counts.tokens_column = True, "tokens"  # type: ignore[attr-defined]
    whole = AllOf(graders={"paid": paid, "counts": counts})
    assert (whole.outside_service, whole.tokens_column) == (True, "tokens")
    plain = AllOf(graders=parts())
    assert (plain.outside_service, plain.tokens_column, plain.checked_answer) == (False, None, None)
