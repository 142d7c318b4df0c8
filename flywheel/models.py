"""Models as artifacts: state dicts in and out of modules, the device they run on, imported bases."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.errors import ConfigError
from flywheel.records import Weights

if TYPE_CHECKING:
    import torch
    from torch import nn


def take_weights(model: nn.Module) -> Weights:
    """The model's state dict, detached, contiguous, on the CPU; tied tensors once, by their first name."""
    kept: dict[tuple[Any, ...], str] = {}
    for name, tensor in sorted(model.state_dict().items()):
        kept.setdefault(_storage(tensor, name), name)
    state = model.state_dict()
    return {name: state[name].detach().cpu().contiguous().clone() for name in kept.values()}


def load_weights(model: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Fill the model with all of ``weights`` and nothing less. Raises ConfigError on a mismatch."""
    own = model.state_dict()
    given = {_storage(own[name], name) for name in weights if name in own}
    missing = [
        name for name, tensor in own.items() if name not in weights and _storage(tensor, name) not in given
    ]
    extra = [name for name in weights if name not in own]
    shapes = [n for n in weights if n in own and own[n].shape != weights[n].shape]
    if missing or extra or shapes:
        kinds = {"missing": missing, "not in the model": extra, "of another shape": shapes}
        told = "; ".join(f"{kind}: {', '.join(names[:3])}" for kind, names in kinds.items() if names)
        raise ConfigError(f"The weights do not fit {type(model).__name__}: {told}.")
    model.load_state_dict(dict(weights), strict=False)


def _storage(tensor: torch.Tensor, name: str) -> tuple[Any, ...]:
    if tensor.numel() == 0:
        return (name,)
    return (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)


def read_base(path: str) -> Weights:
    """The weights of a user's .safetensors or Lightning .ckpt file. Nothing is unpickled.

    Raises ConfigError if the file is neither.
    """
    import torch

    try:
        if Path(path).suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ConfigError(
            f"base must be a .safetensors file, or a .ckpt that loads with weights_only=True; "
            f"{path} is not: {error}"
        ) from error
    state = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not all(isinstance(t, torch.Tensor) for t in state.values()):
        raise ConfigError(f"base must hold a state dict; {path} holds a {type(checkpoint).__name__}.")
    return {name: tensor.contiguous() for name, tensor in state.items()}


def device(trainer: Mapping[str, Any]) -> str:
    """Where this rank runs models outside of a fit, by the trainer's ``accelerator``."""
    import torch

    accelerator = str(trainer.get("accelerator", "auto"))
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    if accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return "mps"
    return "cpu"
