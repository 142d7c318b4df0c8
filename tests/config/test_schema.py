from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flywheel.config.schema import Budget, Config, Genesis, Init, Price, Tune


def config(**values: Any) -> Config:
    return Config(recipe="moons", **values)


@pytest.mark.parametrize(
    ("key", "values", "rule"),
    [
        ("generations", [-1], "must be 0 or more"),
        ("chunk_size", [0, -5], "must be 1 or more"),
        ("patience", [0, -1], "must be 1 or more, or null"),
        ("threads", [0], "must be 1 or more, or null"),
        ("name", ["", ".hidden", "../up", "a b", "a/b", "-x", "x\n", "_x"], "must be letters, digits"),
        ("base", ["/nowhere/x.ckpt", "."], "must be an existing .safetensors or .ckpt file"),
    ],
)
def test_a_value_out_of_range_is_told_with_key_rule_and_value(key: str, values: list[Any], rule: str) -> None:
    for value in values:
        with pytest.raises(ValueError) as refused:  # noqa: PT011 - matched as a whole below
            config(**{key: value})
        assert str(refused.value).startswith(f"{key} {rule}")
        assert str(refused.value).endswith(f"it is {value!r}.")


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
@pytest.mark.parametrize("key", ["seconds", "device_hours", "samples", "tokens", "flops", "money"])
def test_a_budget_is_above_nothing(key: str, limit: float) -> None:
    with pytest.raises(ValueError, match=rf"budget\.{key} must be above 0"):
        Budget(**{key: limit})  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["device_hour", "thousand_tokens"])
def test_money_needs_a_price_which_is_not_below_nothing(key: str) -> None:
    with pytest.raises(ValueError, match=rf"budget\.price\.{key} must be 0 or more; it is -1"):
        Price(**{key: -1.0})
    with pytest.raises(ValueError, match=r"budget\.money needs a price: give budget\.price\.device_hour"):
        Budget(money=1.0)
    Budget(money=1.0, price=Price(**{key: 1.0}))


@pytest.mark.parametrize(
    "values",
    [
        {"generations": 0},
        {"patience": 1, "threads": 1, "chunk_size": 1},
        {"name": "seed0-a1b2.c_3"},
        {"name": "0"},
        {"budget": Budget(seconds=0.5)},
        {"seed": -3},
    ],
)
def test_values_in_range_are_taken(values: dict[str, Any]) -> None:
    config(**values)


@pytest.mark.parametrize("values", [{"init": Init.base}, {"genesis": Genesis.load}])
def test_starting_from_a_base_needs_one(values: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give base=PATH"):
        config(**values)
    base = tmp_path / "base.safetensors"
    base.touch()
    config(**values, base=str(base))


@pytest.mark.parametrize(
    ("devices", "ranks"), [(2, 2), ([0, 1, 2], 3), ("2", 2), ("0,1", 2)], ids=["2", "list", "text", "commas"]
)
def test_more_devices_need_torchrun(devices: Any, ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning would start the command again for each of them, and so the loop."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(ValueError, match=f"torchrun --nproc-per-node={ranks} -m flywheel recipe=moons"):
        config(trainer={"devices": devices})
    monkeypatch.setenv("WORLD_SIZE", str(ranks))
    config(trainer={"devices": devices})


@pytest.mark.parametrize("devices", [1, [0], [3], "auto", "1"])
def test_one_device_needs_none(devices: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    config(trainer={"devices": devices})


def test_a_limit_on_the_money_of_trials_needs_their_price() -> None:
    with pytest.raises(ValueError, match=r"tune\.money needs a price of trials: give budget\.price"):
        Config(recipe="r", tune=Tune(money=1.0))
    Config(recipe="r", tune=Tune(money=1.0), budget=Budget(price=Price(device_hour=2.0)))
