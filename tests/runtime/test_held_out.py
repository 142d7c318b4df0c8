"""What suites ask is not taught, nor asked by suites of another role."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from flywheel.errors import DataError
from flywheel.records import Exhaustible, Role, Suite
from flywheel.runtime.data import read_data


class Words:
    """Words as seed samples, and suites of words, compared by ``word``."""

    identity_columns: tuple[str, ...] = ("word",)
    exhaustible: tuple[Exhaustible, ...] = ()

    def __init__(self, taught, **suites):
        self.taught, self.asked = taught, suites

    def seed(self):
        return rows("prompt", self.taught)

    def suites(self):
        return [
            Suite(name, Role(name.rstrip("2")), rows("item", words)) for name, words in self.asked.items()
        ]


class Raw(Words):
    """Two seed samples and one item of the gate, of any values."""

    def seed(self):
        return pa.table({"prompt": ["0", "1"], "word": self.taught})

    def suites(self):
        return [Suite("gate", Role.GATE, pa.table({"item": ["0"], "word": self.asked["gate"]}))]


def rows(key, words):
    names = [f"{key}-{row}" for row in range(len(words))]
    return pa.table({key: pa.array(names, pa.string()), "word": words, "length": [len(w) for w in words]})


FLOATS = pa.list_(pa.float32())


def read(task):
    return read_data(task, needs_seed=False)


@pytest.mark.parametrize("role", list(Role))
def test_a_suite_of_any_role_that_asks_what_was_taught_is_refused(role):
    suites = {"gate": ["new"]} | {role.value: ["ape", "bee", "cat", "dog", "elk"]}
    task = Words(["dog", "cat", "bee", "ape", "fox"], **suites)
    with pytest.raises(DataError) as refused:
        read(task)
    assert f"Suite {role.value} must hold out what it asks: 4 of its 5 items" in str(refused.value)
    assert "the seed samples too, by word: 'ape'; 'bee'; 'cat'." in str(refused.value)


@pytest.mark.parametrize("one", list(Role))
@pytest.mark.parametrize("other", list(Role))
def test_suites_of_other_roles_share_nothing_but_gate_and_guard(one, other):
    suites = {"gate": ["new"], one.value: ["ape", "bee"], f"{other.value}2": ["bee"]}
    if one == other or {one, other} == {Role.GATE, Role.GUARD}:
        shared = [(shared.suite, shared.items) for shared in read(Words([], **suites)).held_out.shared]
        assert shared == ([] if one == other else [(f"{other.value}2", 1)])
    else:
        with pytest.raises(DataError, match=r"1 of its 1 items are in .* too, by word: 'bee'"):
            read(Words([], **suites))


def test_problems_too_few_are_exempt_by_name_and_counted():
    task = Words(["a", "b", "ape"], gate=["a", "b", "bee"], sealed=["b", "cat"])
    task.exhaustible = (Exhaustible("length", (1,), "there are 26 letters"),)
    assert read(task).held_out.json() == {
        "columns": ["word"],
        "exhaustible": [{"column": "length", "values": [1], "reason": "there are 26 letters"}],
        "shared": [
            {"suite": "gate", "with": "the seed samples", "items": 2, "of": 3},
            {"suite": "sealed", "with": "the seed samples", "items": 1, "of": 2},
            {"suite": "sealed", "with": "gate", "items": 1, "of": 2},
        ],
    }
    task.taught.append("bee")
    with pytest.raises(DataError, match="1 of its 3 items are in the seed samples too, by word: 'bee'"):
        read(task)


def test_a_task_that_names_no_columns_is_not_compared():
    task = Words(["ape"], gate=["ape"])
    task.identity_columns = ()
    assert read(task).held_out.json() == {"columns": [], "exhaustible": [], "shared": []}


@pytest.mark.parametrize(
    ("column", "same", "other"),
    [
        ([[0.5, 1.0], [0.1, 0.2]], [[0.1, 0.2]], [[0.1, 0.3]]),
        (pa.array([[0.5], [0.1]], FLOATS), pa.array([[0.1]], pa.list_(pa.float32(), 1)), None),
        (np.array([0.5, 0.1], np.float32), np.array([0.1], np.float32), np.array([0.2], np.float32)),
        (pa.array([3, 4], pa.int8()), pa.array([4], pa.int64()), pa.array([5], pa.int64())),
        (["a", "b\x1f"], pa.array(["b\x1f"], pa.large_string()), ["b\\u"]),
        ([b"a", b"b"], [b"b"], [b"c"]),
        ([{"x": 1, "y": "b"}, {"x": 2, "y": "b"}], [{"x": 2, "y": "b"}], [{"x": 2, "y": "c"}]),
    ],
)
def test_problems_are_compared_by_their_content_whatever_its_type(column, same, other):
    with pytest.raises(DataError, match="1 of its 1 items are in the seed samples"):
        read(Raw(column, gate=same))
    if other is not None:
        assert read(Raw(column, gate=other)).shared == ()


@pytest.mark.parametrize(
    ("columns", "few", "message"),
    [
        ("word", (), "must be names of columns"),
        (("wrod",), (), r"Seed samples must have the task's identity_columns \['wrod'\]"),
        (("prompt",), (), r"The items of suite gate must have the task's identity_columns"),
        (("word",), Exhaustible("length", (1,), "few"), "must be a sequence of flywheel.records.Exhaustible"),
    ],
)
def test_what_cannot_be_compared_is_refused(columns, few, message):
    task = Words(["ape"], gate=["bee"])
    task.identity_columns, task.exhaustible = columns, few
    with pytest.raises(DataError, match=message):
        read(task)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ape", None], r"some of \['word'\] are null"),
        ([1, 2], "'word' must have one type everywhere; it is an integer in the seed"),
    ],
)
def test_null_and_another_type_are_refused(words, message):
    with pytest.raises(DataError, match=message):
        read(Raw(words, gate=["bee"]))


def test_prompts_that_a_suite_asks_are_left_out():
    task = Words(["ape"], gate=["a", "bee"], sealed=["cat"], dev=["dog"])
    task.exhaustible = (Exhaustible("length", (1,), "there are 26 letters"),)
    prompts = rows("prompt", ["a", "ape", "bee", "cat", "dog", "elk"])
    kept, left_out = read(task).hold_out(prompts)
    assert (kept["word"].to_pylist(), left_out) == (["a", "ape", "elk"], 3)
    assert read(task).hold_out(prompts.drop_columns("word")) == (prompts.drop_columns("word"), None)
