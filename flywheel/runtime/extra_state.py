"""State of a model outside its tensors, as tensors: so that one safetensors file has all of it.

Two places hold such state: ``get_extra_state`` of a module, which torch puts into the state dict, and what
a LightningModule's ``on_save_checkpoint`` adds to a checkpoint. Values may be JSON values, tensors, NumPy
arrays and numbers, and floats that JSON lacks, nested in mappings, lists and tuples. ``pack`` writes them as
JSON bytes into one tensor, ``NAME``, and each tensor or array among them beside it; ``unpack`` is its
inverse. What JSON does not have is an object of one key: ``{"$tuple": [1, 2]}``, ``{"$float": "inf"}``,
``{"$pairs": [[0, "a"]]}`` for keys that are no texts, ``{"$array": NAME}``. Nothing is pickled.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flywheel.errors import ConfigError
from flywheel.records import Weights

if TYPE_CHECKING:
    import torch

NAME = "flywheel.extra_state"
_TENSOR, _ARRAY, _NUMBER = "$tensor", "$array", "$number"
_TUPLE, _PAIRS, _FLOAT = "$tuple", "$pairs", "$float"


def pack(state: Mapping[str, Any]) -> Weights:
    """Tensors that hold ``state``, e.g. ``{"modules": {"vocabulary._extra_state": {"words": ["a"]}}}``.

    Raises ConfigError naming the value that would not come back as it is.
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
    import numpy as np
    import torch

    kind = type(value)
    if value is None or kind in (str, bool, int):
        return value
    if kind is float:
        return value if math.isfinite(value) else {_FLOAT: repr(value)}
    if isinstance(value, torch.Tensor):
        tensor = require_kept(path.removeprefix(NAME + "."), value)
        tensors[path] = tensor.detach().cpu().contiguous().clone()
        return {_TENSOR: path}
    if kind is np.ndarray or isinstance(value, np.generic):
        with contextlib.suppress(TypeError, ValueError):  # of objects or dates, or in other byte order
            tensors[path] = require_kept(path.removeprefix(NAME + "."), torch.tensor(value)).contiguous()
            return {_ARRAY if kind is np.ndarray else _NUMBER: path}
    if kind in (dict, OrderedDict):
        return _encode_mapping(value, path, tensors)
    if kind in (list, tuple):
        items = [_encode(item, f"{path}.{position}", tensors) for position, item in enumerate(value)]
        return items if kind is list else {_TUPLE: items}
    raise ConfigError(
        "State outside a model's tensors must be numbers, texts, tensors or arrays, in dicts, lists or "
        f"tuples; {path.removeprefix(NAME + '.')} is a {kind.__name__}: {value!r:.60}. Keep it in such "
        "values in get_extra_state or on_save_checkpoint, or as a buffer."
    )


def _encode_mapping(value: Mapping[Any, Any], path: str, tensors: Weights) -> Any:
    if all(type(key) is str and not key.startswith("$") for key in value):
        return {key: _encode(item, f"{path}.{key}", tensors) for key, item in value.items()}
    pairs = [list(pair) for pair in value.items()]
    return {_PAIRS: _encode(pairs, path, tensors)}


def _decode(tree: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(tree, list):
        return [_decode(item, tensors) for item in tree]
    if not isinstance(tree, dict):
        return tree
    for tag, content in tree.items():
        if tag.startswith("$"):
            return _decode_tagged(tag, content, tensors)
    return {key: _decode(item, tensors) for key, item in tree.items()}


def _decode_tagged(tag: str, content: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if tag in (_TENSOR, _ARRAY, _NUMBER):
        tensor = tensors[content]
        return tensor if tag == _TENSOR else tensor.numpy() if tag == _ARRAY else tensor.numpy()[()]
    if tag == _FLOAT:
        return float(content)
    inner = _decode(content, tensors)
    return tuple(inner) if tag == _TUPLE else dict(inner)


def require_kept(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """The tensor. Raises ConfigError if safetensors does not give it back, e.g. a sparse one."""
    if not _is_dense(tensor) or not _comes_back(tensor.dtype):
        kind = tensor.dtype if _is_dense(tensor) else f"{tensor.layout} of {tensor.dtype}"
        raise ConfigError(
            f"Weights must be dense tensors of a type that safetensors keeps; {name} is {kind}. Convert "
            "it, or register it with persistent=False if it can be computed again."
        )
    return tensor


def _is_dense(tensor: torch.Tensor) -> bool:
    import torch

    return tensor.layout is torch.strided and not tensor.is_quantized


@functools.cache
def _comes_back(kind: torch.dtype) -> bool:
    import torch
    from safetensors.torch import load, save

    try:
        return load(save({"one": torch.empty(1, dtype=kind)}))["one"].dtype is kind
    except Exception:  # safetensors raises KeyError, and a Rust error, for types that it does not know
        return False
