"""Slices that got worse: which are nominated on dev, and what the guard suites confirm."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from flywheel.guards import Slices
from flywheel.protocols import GuardView
from flywheel.records import Action, Alarm, Role, Suite
from flywheel.storage.state import Generation
from flywheel.testing import FixedEvidence

DIGITS, OF_EACH = range(6), 40


def suite(name: str, role: Role) -> Suite:
    names = [f"{name}-{digit}-{number}" for digit in DIGITS for number in range(OF_EACH)]
    items = pa.table({"item": names, "digit": [name.split("-")[1] for name in names]})
    return Suite(name, role, items)


SUITES = {one.name: one for one in (suite("dev", Role.DEV), suite("guard", Role.GUARD))}


def outcomes(wrong: set[int], *suites: str) -> pa.Table:
    """Every item is right, but for those of some digits."""
    items = [item for name in suites for item in SUITES[name].items["item"].to_pylist()]
    scores = [float(int(item.split("-")[1]) not in wrong) for item in items]
    suite_of = [item.split("-")[0] for item in items]
    return pa.table({"suite": suite_of, "item": items, "cluster": items, "score": scores})


def said(wrong: set[int], *, parent_has: tuple[str, ...] = ("dev", "guard"), **arguments: Any) -> Alarm:
    """What the guard says where champion, parent and first champion have all items right."""
    nobody: Any = None
    right, first = outcomes(set(), "dev", "guard"), Generation(0, None)
    earlier = {3: outcomes(set(), *parent_has), 0: right}
    view = GuardView(
        Generation(4, 3),
        Generation(2, 1),
        nobody,
        outcomes(wrong, "dev", "guard"),
        right,
        FixedEvidence({}),
        suites=SUITES,
        parent=Generation(3, 2),
        first_champion=first,
        outcomes=earlier,
    )
    alarm = Slices(columns=["digit"], **arguments).check(view)
    assert alarm is not None
    return alarm


def test_each_slice_takes_one_nomination_whoever_it_is_worse_than() -> None:
    alarm = said({0, 1, 2, 3, 4})
    assert alarm.action is Action.REJECT
    assert all(f"worse: digit={digit}, -100.00%" in alarm.reason for digit in range(5))
    assert "of 5 tested" in alarm.reason
    assert "digit=4" not in said({0, 1, 2, 3, 4}, most=4, gap=0.99).reason


def test_a_slice_is_nominated_beside_one_that_guard_suites_know() -> None:
    alarm = said({1}, parent_has=("dev",))
    assert "digit=1, -100.00% against generation" in alarm.reason
    assert "against generation 3" not in alarm.reason


def test_nothing_is_said_to_be_worse_where_nothing_is() -> None:
    assert said(set()).action is Action.PASS
