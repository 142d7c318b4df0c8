from __future__ import annotations

from types import SimpleNamespace

import pyarrow as pa
import pytest

from flywheel import ranks
from flywheel.errors import DataError
from flywheel.runtime import meter
from flywheel.runtime.meter import Meter, tokens_of
from flywheel.storage.events import Spent, limit_of

ROWS = pa.table({"tokens": [7, 0, 3]})
COUNTS = {"samples": len, **tokens_of(SimpleNamespace(tokens_column="tokens"))}


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock: the last of these is now, in seconds."""
    times = [0.0]
    monkeypatch.setattr(meter.time, "monotonic", lambda: times[-1])
    return times


def test_a_stage_costs_time_devices_rows_tokens_and_money(
    later: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks, "world_of_process", lambda: 4)
    ours = Meter({"price": {"device_hour": 2.0, "thousand_tokens": 5.0}})
    ours.add(COUNTS, ROWS)
    ours.add(COUNTS, ROWS)
    later.append(1800.0)
    cost = ours.cost()
    assert (cost.seconds, cost.ranks, cost.samples, cost.tokens) == (1800.0, 4, 6, 20)
    assert cost.money == 2 * 2.0 + 0.02 * 5.0
    assert Spent().after(cost) == Spent(1800.0, 2.0, 6, 20, 4.1)


@pytest.mark.parametrize(
    ("budget", "spent", "sentence"),
    [
        ({"seconds": 11.5}, Spent(seconds=1.5), "the budget of 11.5 s is spent"),
        ({"seconds": 11.5, "at_limit": "finish"}, Spent(seconds=1.5), None),
        ({"device_hours": 1.0}, Spent(device_hours=0.999), "the budget of 1 device hours is spent"),
        (
            {"money": 2.5, "price": {"device_hour": 360.0}},
            Spent(money=1.5),
            "the budget of 2.5 in money is spent",
        ),
    ],
)
def test_time_and_money_are_held_at_every_step(
    later: list[float], budget: dict[str, object], spent: Spent, sentence: str | None
) -> None:
    ours = Meter(budget, spent)
    later.append(3.0)
    assert ours.reached() is None
    later.append(10.0)
    assert ours.reached() == sentence


@pytest.mark.parametrize(("key", "limit"), [("samples", 1000003), ("tokens", 1000010)])
def test_what_is_made_is_held_only_where_more_would_be_made(key: str, limit: int) -> None:
    ours = Meter({key: limit}, Spent(samples=1000000, tokens=1000000))
    with ours.making(COUNTS):
        assert ours.reached() is None
        ours.add(COUNTS, ROWS)
        assert ours.reached() == f"the budget of {limit} {key} is spent"
        assert limit_of(ours.reached() or "") == key
    assert ours.reached() is None
    with ours.making({"samples": len} if key == "tokens" else {}):
        assert ours.reached() is None


@pytest.mark.parametrize("column", [[1, None], [1.5, 2.0], [-1, 3], ["a", "b"]])
def test_tokens_are_whole_numbers(column: list[object]) -> None:
    with pytest.raises(DataError, match="tokens_column must be a column of whole numbers"):
        Meter().add(COUNTS, pa.table({"tokens": column}))
    with pytest.raises(DataError, match="'tokens' is none"):
        Meter().add(COUNTS, pa.table({"other": [1]}))


def test_a_part_that_names_no_column_counts_no_tokens() -> None:
    assert tokens_of(SimpleNamespace()) == {}


def test_without_a_price_nothing_is_said_of_money() -> None:
    assert "money" not in Meter().cost().json()


def test_a_rank_that_works_alone_holds_what_all_of_them_cost(
    later: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a trial: the others are at trials of their own meanwhile."""
    monkeypatch.setenv("WORLD_SIZE", "4")
    ours = Meter({"device_hours": 2.0})
    later.append(3600.0)
    with ranks.alone():
        assert ours.reached() == "the budget of 2 device hours is spent"
