"""Arguments of the classes that a configuration names: do they fit, and in which order were they written.

Types are checked where OmegaConf knows the annotation, e.g. ``int`` or ``list[float]``, and
for ``Literal`` and Enums, whose members may be given by name or value; what is no dataclass is checked for
texts, bools and choices. Nothing but an Enum is converted: ``flag=no`` is a text. Whatever else a
field is annotated with (a union, a set, a callable, an array) is left to the class.
"""

from __future__ import annotations

import inspect
import json
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, make_dataclass
from enum import Enum
from math import isfinite
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from flywheel.errors import ConfigError, FlywheelError, near_misses

KeyOrders = Sequence[tuple[Sequence[str], Sequence[Any]]]
"""(path, keys) of mappings whose keys JSON would not keep: not sorted, or not text."""


def check_signature(section: str, target: Callable[..., Any], node: Mapping[str, Any]) -> None:
    """Raise ConfigError unless the target takes the node's arguments, ``_args_`` being positional ones."""
    try:
        signature = inspect.signature(target)
    except ValueError:  # some C classes have none
        return
    name, arguments = node["_target_"], named_arguments(node)
    if not isinstance(node.get("_args_", []), (list, tuple)):
        raise ConfigError(f"{section}._args_ must be a list; it is {node['_args_']!r}.")
    parameters = signature.parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key in arguments:
        if key not in parameters and not takes_any:
            hint = near_misses(key, parameters) or f" It takes {', '.join(parameters) or 'nothing'}."
            raise ConfigError(f"{section}.{key} is no argument of {name}.{hint}")
    own = [None] if "self" in parameters else []  # a method taken from its class
    try:
        bound = signature.bind_partial(*own, *node.get("_args_", ()), **arguments)
    except TypeError as error:
        raise ConfigError(f"{section}: {name} cannot take these arguments: {error}.") from error
    missing = [p.name for p in parameters.values() if _is_required(p) and p.name not in bound.arguments]
    if missing and not node.get("_partial_"):
        raise ConfigError(f"{section} lacks {', '.join(missing)}, which {name} needs.")


def named_arguments(node: Mapping[str, Any]) -> dict[str, Any]:
    """A node's arguments by name, without what is Hydra's."""
    return {str(key): value for key, value in node.items() if not str(key).startswith("_")}


def _is_required(parameter: inspect.Parameter) -> bool:
    is_many = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and not is_many


def check_types(section: str, target: type, arguments: Mapping[str, Any]) -> None:
    """Raise ConfigError for an argument of a dataclass that is not of its field's type."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    kinds = field_types(target)
    known: dict[str, Any] = {}
    for field in fields(target):
        value, kind = arguments.get(field.name), kinds.get(field.name)
        if field.name not in arguments or kind is None or has_target(value):
            continue  # what a nested target makes is checked by its own arguments
        _check_scalar(f"{section}.{field.name}", kind, value)
        if _is_known(kind) and _enum_of(kind) is None:
            known[field.name] = kind
    checked = make_dataclass("Checked", list(known.items()), kw_only=True)
    try:
        typed = OmegaConf.merge(OmegaConf.structured(checked), {name: arguments[name] for name in known})
        container: Any = OmegaConf.to_container(typed, throw_on_missing=True)
    except OmegaConfBaseException as error:
        first = str(error).splitlines()[0]
        key = str(getattr(error, "full_key", "") or "")
        raise ConfigError(f"{section}{'.' + key if key else ''}: {first}") from error
    for name in known:  # the class is given what was written, not what OmegaConf makes of it
        _refuse_misread(f"{section}.{name}", arguments[name], container[name])


def check_annotated(section: str, target: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Raise ConfigError where an argument annotated as a text, bool or choice is read as another."""
    owner: Any = target
    try:
        kinds = get_type_hints(owner.__init__ if isinstance(target, type) else target)
    except Exception:  # names that only a type checker knows, or a C function
        return
    for name, value in arguments.items():
        if name in kinds:
            _check_scalar(f"{section}.{name}", kinds[name], value)


def _check_scalar(place: str, kind: Any, value: Any) -> None:
    kind = without_none(kind)
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    if (enum := _enum_of(kind)) is not None and not isinstance(value, enum):
        choices = (*enum.__members__, *(member.value for member in enum))
    if choices and value is not None and value not in choices:
        listed = ", ".join(map(repr, dict.fromkeys(choices)))
        raise ConfigError(f"{place} must be one of {listed}; it is {value!r}.")
    if kind is str and isinstance(value, (bool, int, float)):
        raise ConfigError(
            f"{place} must be a text; {value!r} was read as a {type(value).__name__}. Quote it; in a shell: "
            f"\"{place}='...'\"."
        )
    if kind is bool and isinstance(value, str):
        raise ConfigError(f"{place} must be true or false; it is the text {value!r}.")


def without_none(kind: Any) -> Any:
    """T of ``T | None``; any other annotation as it is."""
    is_union = isinstance(kind, UnionType) or get_origin(kind) is Union
    kinds = [k for k in get_args(kind) if k is not type(None)] if is_union else []
    return kinds[0] if len(kinds) == 1 else kind


def _enum_of(kind: Any) -> type[Enum] | None:
    kind = without_none(kind)
    return kind if isinstance(kind, type) and issubclass(kind, Enum) else None


def with_enums(target: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a dataclass, those annotated as an Enum as its members, by name or value."""
    converted = dict(arguments)
    for name, kind in field_types(target).items():
        enum = _enum_of(kind)
        if enum is not None and name in converted and converted[name] is not None:
            value = converted[name]
            converted[name] = enum[value] if value in enum.__members__ else enum(value)
    return converted


def _refuse_misread(place: str, given: Any, typed: Any) -> None:
    """Raise ConfigError if a scalar had to be converted to its type, e.g. 1.10 to a text."""
    if isinstance(given, Mapping) and isinstance(typed, Mapping):
        for key, value in given.items():
            if key in typed:
                _refuse_misread(f"{place}.{key}", value, typed[key])
    elif isinstance(given, (list, tuple)) and isinstance(typed, (list, tuple)):
        for position, (value, other) in enumerate(zip(given, typed, strict=False)):
            _refuse_misread(f"{place}[{position}]", value, other)
    elif isinstance(given, str) != isinstance(typed, str) and not isinstance(typed, (Enum, Path)):
        without = "Give it without quotes, as a number, true or false."
        raise ConfigError(
            f"{place} must be a {type(typed).__name__}; {given!r} was read as a {type(given).__name__}. "
            f"{'Quote it.' if isinstance(typed, str) else without}"
        )


def field_types(target: type) -> dict[str, Any]:
    """Types of a dataclass's fields; those written for type checkers only are left out."""
    try:
        return get_type_hints(target)
    except Exception:  # one name that cannot be resolved hides all others
        known: dict[str, Any] = {}
        for field in fields(target):
            one = {"__annotations__": {field.name: field.type}, "__module__": target.__module__}
            with suppress(Exception):
                known |= get_type_hints(type("One", (), one))
        return known


def _is_known(kind: Any) -> bool:
    from omegaconf import OmegaConf

    try:
        OmegaConf.structured(make_dataclass("One", [("value", kind)], kw_only=True))
    except Exception:  # OmegaConf raises what it likes for an annotation that it does not know
        return False
    return True


def nodes_with_target(value: Any, place: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every mapping with a ``_target_`` in a value, however deep, and its place, e.g. ``task.parts[0]``."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            yield place, value
        for key, inner in value.items():
            yield from nodes_with_target(inner, f"{place}.{key}")
    elif isinstance(value, (list, tuple)):
        for position, inner in enumerate(value):
            yield from nodes_with_target(inner, f"{place}[{position}]")


def has_target(value: Any) -> bool:
    """Whether some ``_target_`` is in a value, however deep."""
    return any(True for _ in nodes_with_target(value))


def explain(section: str, error: BaseException) -> FlywheelError:
    """The error for what a class raised when it was built from its section: a sentence for ValueError.

    Its kinds, e.g. UnicodeDecodeError, say too little without their place.
    """
    if isinstance(error, FlywheelError):
        return error
    if type(error) is ValueError and str(error):
        return ConfigError(f"{section}.{error}")
    trace = "".join(traceback.format_exception(error))
    return ConfigError(f"{section} must be buildable before anything is trained:\n\n{trace}")


def key_orders(node: Any, path: tuple[str, ...] = (), *, inside: bool = False) -> Iterator[list[Any]]:
    """[path, keys] of each mapping among arguments whose keys JSON would lose, e.g. {0: "a"} or {b: 1, a: 2}.

    Raises ConfigError where two keys become the same text, or a key is none that JSON has.
    """
    if isinstance(node, Mapping):
        keys = list(node)
        is_as_json_has_it = keys == sorted(keys, key=_text) and all(type(key) is str for key in keys)
        if inside and "_target_" not in node and not is_as_json_has_it:
            _refuse_keys(".".join(path), keys)
            yield [list(path), keys]
        for key, value in node.items():
            yield from key_orders(value, (*path, _text(key)), inside=inside or "_target_" in node)
    elif isinstance(node, (list, tuple)):
        for position, value in enumerate(node):
            yield from key_orders(value, (*path, str(position)), inside=inside)


def _text(key: Any) -> str:
    """A key as JSON has it; YAML reads on, yes and true as one."""
    return json.dumps(key) if isinstance(key, bool) else str(key)


def _refuse_keys(place: str, keys: Sequence[Any]) -> None:
    is_known = [isinstance(key, (str, int)) or (isinstance(key, float) and isfinite(key)) for key in keys]
    if not all(is_known) or len({_text(key) for key in keys}) < len(keys):
        raise ConfigError(
            f"Keys of a mapping must be texts or numbers, and differ as texts; {place} has "
            f"{', '.join(map(repr, keys))}. Give a list of pairs instead."
        )


def in_order(node: Any, orders: Mapping[tuple[str, ...], Sequence[Any]], path: tuple[str, ...] = ()) -> Any:
    """A node read back from JSON with the keys of its mappings as they were written.

    Arguments themselves are in the alphabet's order, so that what is built does not hang on how they were
    given.
    """
    if isinstance(node, Mapping):
        keys = orders.get(path) or (sorted(node, key=_text) if "_target_" in node else list(node))
        by_text = {_text(key): value for key, value in node.items()}
        return {key: in_order(by_text[_text(key)], orders, (*path, _text(key))) for key in keys}
    if isinstance(node, list):
        return [in_order(value, orders, (*path, str(k))) for k, value in enumerate(node)]
    return node
