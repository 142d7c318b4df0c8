from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from flywheel.errors import ConfigError
from flywheel.lineage.store import Store
from flywheel.models import device, load_weights, read_base, take_weights


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Embedding(5, 3)
        self.decode = nn.Linear(3, 5, bias=False)
        self.decode.weight = self.encode.weight
        self.register_buffer("mask", torch.ones(4, 4))


def linear(seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(3, 2)


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_weights_go_into_another_module_through_the_store(tmp_path: Path) -> None:
    one, other, store = linear(0), linear(1), Store(tmp_path)
    load_weights(other, store.weights(store.put_weights(take_weights(one))))
    assert same(one, other)


def test_taken_weights_do_not_change_with_the_model() -> None:
    model = linear()
    taken = take_weights(model)
    before = taken["weight"].clone()
    nn.init.zeros_(model.weight)
    assert torch.equal(taken["weight"], before)
    assert not taken["weight"].requires_grad


def test_tied_tensors_are_kept_once_and_stay_tied(tmp_path: Path) -> None:
    one, other, store = Tied(), Tied(), Store(tmp_path)
    taken = take_weights(one)
    assert len(taken) == 2
    load_weights(other, store.weights(store.put_weights(taken)))
    assert same(one, other)
    assert other.decode.weight is other.encode.weight


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda w: w.pop("bias"), r"missing: bias"),
        (lambda w: w.update(extra=torch.ones(1)), r"not in the model: extra"),
        (lambda w: w.update(weight=torch.ones(3, 3)), r"of another shape: weight"),
        (lambda w: w.clear(), r"missing: weight, bias"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_the_model_is_left(change: Any, told: str) -> None:
    model, before, weights = linear(1), linear(1), take_weights(linear())
    change(weights)
    with pytest.raises(ConfigError, match=f"do not fit Linear: .*{told}"):
        load_weights(model, weights)
    assert same(model, before)


def test_a_base_may_be_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "base.safetensors"
    save_file({"w": torch.arange(3.0)}, path)
    assert torch.equal(read_base(str(path))["w"], torch.arange(3.0))


@pytest.mark.parametrize("wrap", [lambda w: w, lambda w: {"state_dict": w, "epoch": 3}])
def test_a_base_may_be_a_checkpoint(tmp_path: Path, wrap: Any) -> None:
    path = tmp_path / "base.ckpt"
    torch.save(wrap({"w": torch.arange(6.0).reshape(2, 3).T}), path)
    base = read_base(str(path))
    assert torch.equal(base["w"], torch.arange(6.0).reshape(2, 3).T)
    assert base["w"].is_contiguous()


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("sprung"),))


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "hyper_parameters": Trap()}, "base.ckpt")
    with pytest.raises(
        ConfigError, match=r"base must be a .safetensors file, or a .ckpt that loads with weights_only=True"
    ):
        read_base("base.ckpt")
    assert not Path("sprung").exists()


@pytest.mark.parametrize(
    "content",
    [[1, 2], {"state_dict": {"w": 3}}, {"epoch": 1}, torch.ones(2)],
    ids=["list", "number", "none", "tensor"],
)
def test_a_checkpoint_that_holds_no_state_dict_is_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "base.ckpt"
    torch.save(content, path)
    with pytest.raises(ConfigError, match="base"):
        read_base(str(path))


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_a_file_that_is_something_else_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"base{suffix}"
    path.write_bytes(b"not weights at all")
    with pytest.raises(ConfigError, match="base"):
        read_base(str(path))


def test_the_cpu_is_used_where_it_is_asked_for() -> None:
    assert device({"accelerator": "cpu"}) == "cpu"
    if not (torch.cuda.is_available() or torch.backends.mps.is_available()):
        assert device({}) == device({"accelerator": "auto"}) == "cpu"
