"""Parts that are given as objects in Python, and what a run records of them.

A run is identified and built by what is recorded, so an object becomes a section of the configuration:

- A dataclass whose class can be imported, with plain values in its fields, functions that can be imported,
  or such dataclasses: ``_target_`` and its fields, as YAML has it. The run builds it anew from them; it
  can be resumed, forked and loaded by anybody who trusts the class. The same for a function of the settings
  that can be imported.
- Anything else, e.g. a lambda, a class of a notebook: ``_object_``, the path of its class or function and a
  digest of what it holds: attributes, closure, and the globals that a function reads. Code of classes is no
  part of it, as it is none of a run's identity. It cannot be built from the record: whoever goes on with the
  run or loads from it gives an equal object again. What has no digest, e.g. an open file, is refused.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from enum import Enum
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from flywheel.config.arguments import field_types, without_none
from flywheel.errors import ConfigError, near_misses
from flywheel.storage.ledger import canonical

OBJECT = "_object_"
NAMES = ("task", "model", "grader", "curator", "tuner", "gate", "review", "tracker")
"""Sections that may be given as objects; the model as a function of the settings."""


def sections_of(parts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The section of the configuration for each part. Raises ConfigError for what cannot be recorded."""
    for name in parts:
        if name not in NAMES:
            hint = near_misses(name, NAMES)
            raise ConfigError(f"Parts that may be given as objects are {', '.join(NAMES)}; got {name}.{hint}")
    return {name: section_of(name, part) for name, part in parts.items()}


def is_object(section: Mapping[str, Any]) -> bool:
    """Whether a section stands for an object that is not built from the record."""
    return OBJECT in section


def section_of(name: str, part: Any) -> dict[str, Any]:
    """What a part is, as a configuration has it. Raises ConfigError for what cannot be recorded."""
    if isinstance(part, type) and name != "model":
        raise ConfigError(f"{name} is given as an object; got the class {_path(part)}. Call it first.")
    if name == "model":
        if not callable(part) or (hasattr(part, "training_step") and not isinstance(part, type)):
            raise ConfigError(
                "A model is built anew for each use: give a function of the settings, "
                f"model=lambda settings: {type(part).__name__}(...); got a {type(part).__name__}."
            )
        if isinstance(part, FunctionType) and _is_importable(part) and part.__code__.co_argcount == 1:
            return {"_target_": _path(part), part.__code__.co_varnames[0]: "${settings}"}
    elif is_dataclass(part):
        with suppress(_NotPlainError):
            section: dict[str, Any] = _plain(part)
            return section
    try:
        held = hashlib.sha256(canonical(_content(part, []))).hexdigest()
    except Exception as error:
        raise ConfigError(
            f"What a part holds is part of a run's identity, and that of {name} cannot be read: {error}. "
            "Make it a dataclass of plain values in a module, or open what it needs later, in its methods."
        ) from error
    return {OBJECT: {"of": _path(part if hasattr(part, "__qualname__") else type(part)), "sha256": held}}


def _by_name(part: Any, field: str) -> Any:
    """What a field holds; the member of an Enum that it is annotated with by its name."""
    value = getattr(part, field)
    is_member = isinstance(value, Enum) and without_none(field_types(type(part)).get(field)) is type(value)
    return value.name if is_member else value


def _path(named: Any) -> str:
    return f"{named.__module__}.{named.__qualname__}"


def _is_importable(named: Any) -> bool:
    """Whether another process finds this class or function by its path."""
    value: Any = sys.modules.get(named.__module__)
    for name in named.__qualname__.split("."):
        value = getattr(value, name, None)
    return value is named and named.__module__ != "__main__"


class _NotPlainError(Exception):
    """A value that YAML cannot give back."""


def _plain(value: Any) -> Any:
    """What YAML gives the same value, or an equal part, back from. Raises _NotPlainError."""
    if type(value) is dict and all(type(key) is str for key in value):
        return {key: _plain(inner) for key, inner in value.items()}
    if type(value) is list:
        return [_plain(inner) for inner in value]
    if value is None or type(value) in (bool, int, float) or (type(value) is str and "${" not in value):
        return value
    if isinstance(value, FunctionType) and _is_importable(value):
        return {"_target_": _path(value), "_partial_": True}
    if is_dataclass(value) and _is_importable(type(value)):
        arguments = {field.name: _by_name(value, field.name) for field in fields(value) if field.init}
        if set(inspect.signature(type(value)).parameters) == set(arguments):
            return {"_target_": _path(type(value)), **_plain(arguments)}
    raise _NotPlainError


def _content(value: Any, above: list[Any]) -> Any:
    """What a value holds, as JSON: equal for equal values, in any process of the same Python version."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return ["float", value.hex()]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return ["bytes", hashlib.sha256(value).hexdigest()]
    for depth, seen in enumerate(above):
        if seen is value:
            return ["seen", depth]
    inside = [*above, value]
    if isinstance(value, Mapping) and type(value).__module__ == "builtins":
        return ["mapping", [[_content(k, inside), _content(v, inside)] for k, v in value.items()]]
    if isinstance(value, (set, frozenset)):
        return ["set", sorted((_content(item, inside) for item in value), key=canonical)]
    if type(value) in (list, tuple):
        return [type(value).__name__, [_content(item, inside) for item in value]]
    if isinstance(value, CodeType):
        constants = [_content(c, inside) for c in value.co_consts]
        return ["code", hashlib.sha256(value.co_code).hexdigest(), constants, list(value.co_names)]
    if isinstance(value, MethodType):
        return ["method", _content(value.__func__, inside), _content(value.__self__, inside)]
    # Code of a module is no part of an identity; that of a notebook is.
    is_own_function = isinstance(value, FunctionType) and not _is_importable(value)
    if isinstance(value, (type, ModuleType)) or (hasattr(value, "__qualname__") and not is_own_function):
        return ["named", value.__name__ if isinstance(value, ModuleType) else _path(value)]
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        parts = [value.__code__, value.__defaults__, value.__kwdefaults__, cells, dict(_globals_of(value))]
        return ["function", *(_content(part, inside) for part in parts)]
    if type(value).__module__ == "torch" and hasattr(value, "data_ptr"):
        value = value.detach().cpu().numpy()
    return ["object", _path(type(value)), _content(_reduced(value), inside)]


def _globals_of(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Globals that a function reads, or one that is defined in it."""
    waiting = [function.__code__]
    while waiting:
        code = waiting.pop()
        waiting += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        yield from ((n, function.__globals__[n]) for n in code.co_names if n in function.__globals__)


def _reduced(value: Any) -> Any:
    """What pickle would keep of an object, as tuples and lists."""
    reduced: Any = value.__reduce_ex__(4)
    if isinstance(reduced, str):
        return reduced
    build: Callable[..., Any] = reduced[0]
    return [build.__qualname__, *(list(part) if hasattr(part, "__next__") else part for part in reduced[1:])]
