from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from flywheel.errors import ConfigError
from flywheel.runtime.environment import device
from flywheel.runtime.extra_state import NAME
from flywheel.runtime.weights import load_weights, not_finite, read_base, take_weights
from flywheel.storage.store import Store


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


def through_the_store(folder: Path, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    store = Store(folder)
    return store.weights(store.put_weights(weights))


def test_taken_weights_do_not_change_with_the_model() -> None:
    model = linear()
    taken = take_weights(model)
    before = taken["weight"].clone()
    nn.init.zeros_(model.weight)
    assert torch.equal(taken["weight"], before)
    assert not taken["weight"].requires_grad


@pytest.mark.parametrize("origin", ["module", "checkpoint"])
def test_tied_tensors_are_kept_once_and_stay_tied(tmp_path: Path, origin: str) -> None:
    one, other, path = Tied(), Tied(), tmp_path / "tied.ckpt"
    torch.save({"state_dict": one.state_dict(), "epoch": 3, "shift": 2.0}, path)
    taken = take_weights(one) if origin == "module" else read_base(str(path))
    assert {name for name in taken if not name.startswith(NAME)} == {"decode.weight", "mask"}
    load_weights(other, through_the_store(tmp_path, taken))
    assert same(one, other)
    assert other.decode.weight is other.encode.weight


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("bias"), r"missing: bias"),
        (lambda w: w.update(extra=torch.ones(1)), r"not in the model: extra"),
        (lambda w: w.update(weight=torch.ones(3, 3)), r"of another shape: weight"),
        (lambda w: w.clear(), r"missing: weight, bias"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change: Any, message: str) -> None:
    model, weights = linear(1), take_weights(linear())
    change(weights)
    with pytest.raises(ConfigError, match=f"do not fit Linear: .*{message}"):
        load_weights(model, weights)


BASES = {
    "base.safetensors": lambda w, path: save_file({"w": w.contiguous()}, path),
    "bare.ckpt": lambda w, path: torch.save({"w": w}, path),
    "lightning.ckpt": lambda w, path: torch.save({"state_dict": {"w": w}, "epoch": 3}, path),
}


@pytest.mark.parametrize("name", BASES)
def test_a_base_may_be_safetensors_or_a_checkpoint(tmp_path: Path, name: str) -> None:
    values = torch.arange(6.0).reshape(2, 3).T
    BASES[name](values, tmp_path / name)
    base = read_base(str(tmp_path / name))
    assert torch.equal(base["w"], values)
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


NO_BASES = {
    "list.ckpt": [1, 2],
    "number.ckpt": {"state_dict": {"w": 3}},
    "none.ckpt": {"epoch": 1},
    "tensor.ckpt": torch.ones(2),
    "junk.ckpt": b"not weights at all",
    "junk.safetensors": b"not weights at all",
}


@pytest.mark.parametrize("name", NO_BASES)
def test_a_file_that_holds_no_state_dict_is_refused(tmp_path: Path, name: str) -> None:
    path, content = tmp_path / name, NO_BASES[name]
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ConfigError, match=r"base must (be|hold)"):
        read_base(str(path))


def test_the_cpu_is_used_where_it_is_asked_for() -> None:
    assert device({"accelerator": "cpu"}) == "cpu"
    if not (torch.cuda.is_available() or torch.backends.mps.is_available()):
        assert device({}) == device({"accelerator": "auto"}) == "cpu"


class Words(nn.Module):
    """Keeps a vocabulary beside its weights."""

    def __init__(self, words: list[str]) -> None:
        super().__init__()
        self.words, self.layer = words, nn.Linear(2, 2)

    def get_extra_state(self) -> dict[str, Any]:
        return {"words": self.words}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.words = state["words"]


class Shifted(lightning.LightningModule):
    """Keeps a number in Lightning's checkpoint, and a tensor that is no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.shift, self.average = nn.Linear(2, 2), 0.0, torch.zeros(2)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["shift"], checkpoint["average"] = self.shift, {"layer": self.average}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.shift, self.average = checkpoint["shift"], checkpoint["average"]["layer"]


class NeedsTrainer(Shifted):
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["step"] = self.trainer.global_step


class Adapter(lightning.LightningModule):
    """Saves only what it trained, as adapters of large models do."""

    strict_loading = False

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = nn.Linear(2, 2), nn.Linear(2, 2)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        kept = {k: v for k, v in checkpoint["state_dict"].items() if k.startswith("head")}
        checkpoint["state_dict"] = kept


class Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LazyLinear(3)


def test_extra_state_of_modules_comes_back(tmp_path: Path) -> None:
    one, other = Words(["a", "b"]), Words([])
    load_weights(other, through_the_store(tmp_path, take_weights(one)))
    assert other.words == ["a", "b"]
    assert torch.equal(one.layer.weight, other.layer.weight)


def test_what_a_checkpoint_hook_keeps_comes_back(tmp_path: Path) -> None:
    one, other = Shifted(), Shifted()
    one.shift, one.average = 1.5, torch.ones(2)
    load_weights(other, through_the_store(tmp_path, take_weights(one)))
    assert other.shift == 1.5
    assert torch.equal(other.average, torch.ones(2))


def test_a_hook_that_needs_a_trainer_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"on_save_checkpoint must work .* trainer; NeedsTrainer's"):
        take_weights(NeedsTrainer())


def test_a_model_may_keep_only_a_part_of_its_tensors(tmp_path: Path) -> None:
    one, other = Adapter(), Adapter()
    weights = through_the_store(tmp_path, take_weights(one))
    assert {name.partition(".")[0] for name in weights} == {"head"}
    backbone = other.backbone.weight.clone()
    load_weights(other, weights)
    assert torch.equal(one.head.weight, other.head.weight)
    assert torch.equal(other.backbone.weight, backbone)


def test_lazy_layers_take_trained_weights_and_give_none_before() -> None:
    trained, fresh = Lazy(), Lazy()
    trained.layer(torch.ones(1, 4))
    with pytest.raises(ConfigError, match=r"layer\.(bias|weight) of Lazy has none before a first batch"):
        take_weights(fresh)
    load_weights(fresh, take_weights(trained))
    assert torch.equal(fresh.layer(torch.ones(1, 4)), trained.layer(torch.ones(1, 4)))


def test_a_base_keeps_what_hooks_added_to_its_checkpoint(tmp_path: Path) -> None:
    one, other, path = Shifted(), Shifted(), tmp_path / "base.ckpt"
    one.shift = 2.5
    checkpoint: dict[str, Any] = {"state_dict": one.state_dict(), "optimizer_states": [{}]}
    one.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, path)
    load_weights(other, read_base(str(path)))
    assert other.shift == 2.5


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.eye(2).to_sparse(), "torch.sparse_coo of torch.float32"),
        (torch.ones(2).to(torch.float8_e8m0fnu), "torch.float8_e8m0fnu"),
        (torch.ones(2, dtype=torch.complex128), "torch.complex128"),
    ],
    ids=str,
)
def test_tensors_that_do_not_come_back_are_refused_by_name(tensor: torch.Tensor, message: str) -> None:
    model = nn.Module()
    model.register_buffer("kept", torch.ones(2, dtype=torch.uint16))
    model.register_buffer("table", tensor)
    with pytest.raises(ConfigError, match=re.escape(f"table is {message}") + r".*persistent=False"):
        take_weights(model)


class Renamed(nn.Module):
    """Takes weights by the name that its layer had, and a bank of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.bank = nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)), torch.nn.Buffer()

    def _load_from_state_dict(self, state: Any, prefix: str, *more: Any) -> None:
        for name in [name for name in state if ".old." in f".{name}"]:
            state[name.replace("old", "head")] = state.pop(name)
        self.bank = torch.nn.Buffer(torch.empty_like(state["bank"]))
        super()._load_from_state_dict(state, prefix, *more)


def test_hooks_of_torch_may_rename_and_reshape() -> None:
    model = Renamed()
    old = {"old.weight_g": torch.ones(2, 1), "old.weight_v": torch.eye(2), "old.bias": torch.ones(2)}
    state = {**old, "bank": torch.ones(3, 2)}
    load_weights(model, state)
    assert torch.equal(model.head.weight, torch.eye(2))
    assert model.bank.shape == (3, 2)
    with pytest.raises(ConfigError, match="Renamed: not in the model: other"):
        load_weights(model, {**state, "other": torch.ones(1)})


def test_a_tensor_that_torch_cannot_fill_is_refused_in_its_words() -> None:
    model = nn.Module()
    model.register_buffer("wide", torch.ones(1).expand(5))
    with pytest.raises(ConfigError, match=r"(?s)do not fit Module: .*wide.*clone\(\) the tensor"):
        load_weights(model, take_weights(model))


@pytest.mark.parametrize("kind", [torch.float32, torch.complex64, torch.bfloat16, torch.float8_e4m3fn])
def test_what_is_not_finite_is_found_in_every_kind_of_number(kind: torch.dtype) -> None:
    model = nn.Module()
    model.register_buffer("fine", torch.ones(2).to(kind))
    model.register_buffer("bad", torch.tensor([1.0, float("nan")]).to(kind))
    model.register_buffer("whole", torch.ones(2, dtype=torch.int64))
    assert not_finite(model) == {("bad", "nan")}
