"""What a task may give is checked before a run is opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest

from flywheel.errors import DataError
from flywheel.records import Role, Suite
from flywheel.runtime.data import read_data
from flywheel.tables import DECISIONS, PROVENANCE


@dataclass
class Task:
    """Seed samples and items as they are given."""

    more: Any = None
    items: Any = None

    def seed(self) -> Any:
        return {"prompt": ["a", "b"], **(self.more or {})}

    def suites(self) -> list[Suite]:
        return [Suite("gate", Role.GATE, pa.table({"item": ["x", "y"], **(self.items or {})}))]


RESERVED = sorted({*PROVENANCE.names, *DECISIONS.names} - {"prompt", "source", "group"})


@pytest.mark.parametrize("name", RESERVED)
def test_a_payload_named_like_a_column_of_ours_is_refused(name: str) -> None:
    with pytest.raises(DataError, match=rf"payload must not have \['{name}'\]. Give"):
        read_data(Task({name: [1, 2]}), needs_seed=True)


@pytest.mark.parametrize("place", ["more", "items"])
def test_a_type_that_cannot_be_kept_is_refused_by_table_and_column(place: str) -> None:
    column = pa.array([b"0" * 16] * 2, pa.uuid())
    what = {"more": "Seed samples", "items": "Suite gate"}[place]
    with pytest.raises(DataError, match=rf"{what} must .*column 'about' is .*uuid"):
        read_data(Task(**{place: {"about": column}}), needs_seed=True)


def test_the_key_of_samples_and_items_is_text() -> None:
    nested = pa.array([["a"], ["b"]])
    with pytest.raises(DataError, match="Seed samples must have text in column 'prompt'; it is list"):
        read_data(Task({"prompt": nested}), needs_seed=True)
    with pytest.raises(DataError, match="Suite gate must have text in column 'item'; it is list"):
        read_data(Task(items={"item": nested}), needs_seed=True)


def test_all_that_a_suite_is_belongs_to_the_identity() -> None:
    data = read_data(Task({"label": [1, 2]}), needs_seed=True)
    assert data.identity.keys() == {"seed samples", "suite gate"}
    gate = data.identity["suite gate"]
    assert gate.keys() == {"table", "columns", "name", "role", "metrics", "duel"}
    other = read_data(Task({"label": [1, 2]}, {"item": ["x", "z"]}), needs_seed=True).identity["suite gate"]
    assert {key for key in gate if gate[key] != other[key]} == {"table"}


def test_a_column_of_another_name_or_type_is_another_identity() -> None:
    tasks = [Task({"label": [1, 2]}), Task({"answer": [1, 2]}), Task({"label": ["1", "2"]})]
    digests = [read_data(task, needs_seed=True).identity["seed samples"] for task in tasks]
    assert digests[0] != digests[1] != digests[2] != digests[0]
