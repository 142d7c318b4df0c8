"""Models as artifacts: state dicts in and out of modules, imported bases."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.parameter import is_lazy

from flywheel.config.schema import file_of, rivals_in
from flywheel.errors import ConfigError
from flywheel.records import Settings, Weights
from flywheel.runtime.environment import device
from flywheel.runtime.extra_state import pack, require_kept, unpack

if TYPE_CHECKING:
    import lightning

    from flywheel.config.components import Components
    from flywheel.storage.store import Store

_LIGHTNING_KEYS = {
    *("epoch", "global_step", "pytorch-lightning_version", "state_dict", "loops", "callbacks"),
    *("optimizer_states", "lr_schedulers", "MixedPrecision", "native_amp_scaling_state"),
    *("hparams_name", "hparams_type", "hyper_parameters"),
    *("datamodule_hparams_name", "datamodule_hparams_type", "datamodule_hyper_parameters"),
}
"""Keys of a Lightning checkpoint that are Lightning's own."""


@contextlib.contextmanager
def without_gradients(trainer: Mapping[str, Any]) -> Iterator[None]:
    """How models are used outside of a fit, by the trainer's ``inference_mode``, as Lightning has it.

    True (the default): ``torch.inference_mode``. False: ``torch.no_grad``, so that a part may take gradients
    within ``torch.enable_grad()`` and train on what it has kept.
    """
    with torch.inference_mode() if trainer.get("inference_mode", True) else torch.no_grad():
        yield


def take_weights(model: nn.Module) -> Weights:
    """What a checkpoint of the model keeps: detached, contiguous, on the CPU; tied tensors once.

    As in Lightning, ``on_save_checkpoint`` may change the state dict and add to it; see ``extra_state``
    for what is no tensor. Raises ConfigError for state that cannot be kept, or layers without a shape yet.
    """
    checkpoint: dict[str, Any] = {"state_dict": dict(model.state_dict())}
    _call_hook(model, "on_save_checkpoint", checkpoint)
    state = checkpoint.pop("state_dict")
    lazy = [name for name, value in state.items() if is_lazy(value)]
    if lazy:
        raise ConfigError(
            f"Weights are kept once every layer has its shape; {lazy[0]} of {type(model).__name__} has none "
            "before a first batch. Give the layer its input size, or train the genesis (genesis=train)."
        )
    return _packed(state, checkpoint)


def _packed(state: Mapping[str, Any], added: Mapping[str, Any]) -> Weights:
    """A state dict and what hooks added to the checkpoint, as safetensors wants them.

    Tensors that share memory are kept by their first name only.
    """
    modules = {name: value for name, value in state.items() if not _is_tensor(value)}
    tensors = {name: value for name, value in state.items() if _is_tensor(value)}
    first_names: dict[tuple[Any, ...], str] = {}
    for name, tensor in sorted(tensors.items()):
        require_kept(name, tensor)
        first_names.setdefault(_storage(tensor, name), name)
    weights = {name: tensors[name].detach().cpu().contiguous().clone() for name in first_names.values()}
    return weights | (pack({"modules": modules, "checkpoint": added}) if modules or added else {})


def load_weights(model: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Fill the model with all of ``weights`` and nothing less. Raises ConfigError on a mismatch.

    As in Lightning, ``on_load_checkpoint`` sees them first, then torch's load hooks, which may rename or
    reshape; and ``strict_loading = False`` allows the model to have tensors that the weights lack.
    """
    tensors, extra = unpack(weights)
    checkpoint = {"state_dict": tensors | extra.get("modules", {}), **extra.get("checkpoint", {})}
    _call_hook(model, "on_load_checkpoint", checkpoint)
    state = dict(checkpoint["state_dict"])
    own = model.state_dict()
    try:
        loaded = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        shapes = [name for name in state if name in own and not _fits(own[name], state[name], name)]
        fault = f"of another shape: {', '.join(shapes[:3])}" if shapes else str(error)
        raise ConfigError(f"The weights do not fit {type(model).__name__}: {fault}.") from error
    lacking = set(getattr(loaded, "missing_keys", ()))  # an overridden load_state_dict may return nothing
    present = {_storage(own[name], name) for name in own if name not in lacking}
    missing = [name for name in own if name in lacking and _storage(own[name], name) not in present]
    missing = missing if getattr(model, "strict_loading", True) else []
    unknown = list(getattr(loaded, "unexpected_keys", ()))
    if missing or unknown:
        kinds = {"missing": missing, "not in the model": unknown}
        listed = "; ".join(f"{kind}: {', '.join(names[:3])}" for kind, names in kinds.items() if names)
        raise ConfigError(f"The weights do not fit {type(model).__name__}: {listed}.")


def load_model(
    components: Components, store: Store, weights: str, settings: Settings
) -> lightning.LightningModule:
    """A model with the weights of an artifact, in evaluation mode, on this rank's device."""
    model = components.model(settings)
    load_weights(model, store.weights(weights))
    return model.eval().to(device(components.resolved["trainer"]))


@dataclass(slots=True)
class ModelLoader:
    """Loads a model when it is first asked for, and keeps it: one for all units of a rank."""

    components: Components
    store: Store
    weights: str
    settings: Settings
    model: Any = None

    def __call__(self) -> Any:
        """The model, in evaluation mode."""
        if self.model is None:
            with torch.inference_mode(False):  # its parameters are then no inference tensors
                self.model = load_model(self.components, self.store, self.weights, self.settings)
        return self.model


def _call_hook(model: nn.Module, hook: str, checkpoint: dict[str, Any]) -> None:
    """Let a LightningModule read or change a checkpoint. Raises ConfigError if its hook fails."""
    own = getattr(type(model), hook, None)
    if own is None or own.__module__.startswith("lightning."):
        return
    try:
        getattr(model, hook)(checkpoint)
    except Exception as error:
        raise ConfigError(
            f"{hook} must work on a checkpoint of state_dict and of what on_save_checkpoint added, without a "
            f"trainer; {type(model).__name__}'s raised {type(error).__name__}: {error}."
        ) from error


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def has_lazy_layers(model: nn.Module) -> bool:
    """Whether some layer learns its shape from the first batch."""
    return any(map(is_lazy, model.state_dict().values()))


def _fits(own: Any, given: Any, name: str) -> bool:
    """Whether a value can become the model's own; lazy layers and extra state take any shape."""
    if not _is_tensor(own) or is_lazy(own) or name.endswith("_extra_state"):
        return True
    return bool(_is_tensor(given) and own.shape == given.shape)


def _storage(tensor: Any, name: str) -> tuple[Any, ...]:
    if not _is_tensor(tensor) or is_lazy(tensor) or tensor.numel() == 0:
        return (name,)
    return (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)


def not_finite(model: nn.Module) -> set[tuple[str, str]]:
    """(name, "nan" or "inf") of each tensor of a model that has such values."""
    faults = set()
    for name, value in model.state_dict().items():
        if _is_tensor(value) and not is_lazy(value) and (value.is_floating_point() or value.is_complex()):
            wide = value.float() if value.element_size() == 1 else value  # torch has no isfinite for float8
            faults |= {(name, "nan")} if wide.isnan().any() else set()
            faults |= {(name, "inf")} if wide.isinf().any() else set()
    return faults


def weights_of_rivals(config: Mapping[str, Any]) -> dict[str, Weights]:
    """The weights of the rivals that come from elsewhere, by their names. Raises ConfigError."""
    paths = {name: rival.weights for name, rival in rivals_in(config["rivals"]).items()}
    return {name: read_base(file_of(path), f"rivals.{name}.weights") for name, path in paths.items() if path}


def read_base(path: str, key: str = "base") -> Weights:
    """The weights of a user's .safetensors or Lightning .ckpt file. Nothing is unpickled.

    Raises ConfigError, which names the ``key``, if the file is neither.
    """
    try:
        if Path(path).suffix == ".safetensors":
            return load_file(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ConfigError(
            f"{key} must be a .safetensors file, or a .ckpt that loads with weights_only=True; "
            f"{path} is not: {error}"
        ) from error
    if not isinstance(checkpoint, dict) or not any(map(_is_tensor, _state_of(checkpoint).values())):
        raise ConfigError(f"{key} must hold a state dict; {path} holds a {type(checkpoint).__name__}.")
    return weights_of(checkpoint)


def weights_of(checkpoint: Mapping[str, Any]) -> Weights:
    """What a Lightning checkpoint, or a bare state dict, holds of a model; as ``take_weights``."""
    return _packed(_state_of(checkpoint), _added_by_hooks(checkpoint) if "state_dict" in checkpoint else {})


def _state_of(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    state = checkpoint.get("state_dict", checkpoint)
    return state if isinstance(state, Mapping) else {}


def _added_by_hooks(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What ``on_save_checkpoint`` put into a Lightning checkpoint, as far as it can be kept."""
    added = {}
    for key, value in checkpoint.items():
        if key not in _LIGHTNING_KEYS:
            with contextlib.suppress(ConfigError):  # a model that needs it will say so when it loads
                pack({key: value})
                added[key] = value
    return added
