"""State of a model outside its tensors, as tensors: so that one safetensors file has all of it.

Two places hold such state: ``get_extra_state`` of a module, which torch puts into the state dict, and what
a LightningModule's ``on_save_checkpoint`` adds to a checkpoint. Values may be JSON values and tensors,
nested in mappings and lists. ``pack`` writes the JSON as bytes into one tensor, ``NAME``, and each tensor
among the values beside it; ``unpack`` is its inverse. Nothing is pickled.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flywheel.errors import ConfigError
from flywheel.records import Weights

if TYPE_CHECKING:
    import torch

NAME = "flywheel.extra_state"
_TENSOR = "$tensor"


def pack(state: Mapping[str, Any]) -> Weights:
    """Tensors that hold ``state``, e.g. ``{"modules": {"vocabulary._extra_state": {"words": ["a"]}}}``.

    Raises ConfigError naming the value that neither JSON nor safetensors keeps as it is.
    """
    import torch

    tensors: Weights = {}
    text = json.dumps(_encode(state, NAME, tensors), separators=(",", ":"))
    return {NAME: torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8), **tensors}


def unpack(weights: Mapping[str, torch.Tensor]) -> tuple[Weights, dict[str, Any]]:
    """The other tensors of ``weights``, and the state that was packed among them; empty if none was."""
    others = {name: tensor for name, tensor in weights.items() if not name.startswith(NAME)}
    if NAME not in weights:
        return others, {}
    tree = json.loads(bytes(weights[NAME].numpy()))
    state: dict[str, Any] = _decode(tree, weights)
    return others, state


def _encode(value: Any, path: str, tensors: Weights) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        tensors[path] = value.detach().cpu().contiguous().clone()
        return {_TENSOR: path}
    if isinstance(value, Mapping) and all(type(key) is str and key != _TENSOR for key in value):
        return {key: _encode(item, f"{path}.{key}", tensors) for key, item in value.items()}
    if type(value) is list:
        return [_encode(item, f"{path}.{position}", tensors) for position, item in enumerate(value)]
    if value is None or type(value) in (str, bool, int) or (type(value) is float and math.isfinite(value)):
        return value
    raise ConfigError(
        f"State outside a model's tensors must be JSON values or tensors, with text as keys; "
        f"{path.removeprefix(NAME + '.')} is a {type(value).__name__}: {value!r:.60}. Keep it in such values "
        "in get_extra_state or on_save_checkpoint, or as a buffer."
    )


def _decode(tree: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(tree, dict):
        if _TENSOR in tree:
            return tensors[tree[_TENSOR]]
        return {key: _decode(item, tensors) for key, item in tree.items()}
    return [_decode(item, tensors) for item in tree] if isinstance(tree, list) else tree
