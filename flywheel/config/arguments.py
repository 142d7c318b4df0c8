"""Arguments of the classes that a configuration names: do they fit, and in which order were they written.

Types are checked where OmegaConf knows the annotation, e.g. ``int``, ``list[float]``, ``Optional[str]`` or an
Enum, and for ``Literal``. Whatever else a field is annotated with (a union, a set, a callable, an array) is
left to the class.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, make_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

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
    parameters = signature.parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key in arguments:
        if key not in parameters and not takes_any:
            hint = near_misses(key, parameters) or f" It takes {', '.join(parameters) or 'nothing'}."
            raise ConfigError(f"{section}.{key} is no argument of {name}.{hint}")
    own = [None] if "self" in parameters else []  # a method taken from its class
    try:
        bound = signature.bind_partial(*own, *(node.get("_args_") or ()), **arguments)
    except TypeError as error:
        raise ConfigError(f"{section}: {name} cannot take these arguments: {error}.") from error
    missing = [p.name for p in parameters.values() if _is_required(p) and p.name not in bound.arguments]
    if missing and not node.get("_partial_"):
        raise ConfigError(f"{section} lacks {', '.join(missing)}, which {name} needs.")


def named_arguments(node: Mapping[str, Any]) -> dict[str, Any]:
    """A node's arguments by name, without what is Hydra's."""
    return {str(key): value for key, value in node.items() if not str(key).startswith("_")}


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind not in (
        parameter.VAR_POSITIONAL,
        parameter.VAR_KEYWORD,
    )


def check_types(section: str, target: type, arguments: Mapping[str, Any]) -> None:
    """Raise ConfigError for an argument of a dataclass that is not of its field's type."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    kinds = _annotations(target)
    known: dict[str, Any] = {}
    for field in fields(target):
        value, kind = arguments.get(field.name), kinds.get(field.name)
        if field.name not in arguments or kind is None or has_target(value):
            continue  # what a nested target makes is checked by its own arguments
        if get_origin(kind) is Literal and value not in get_args(kind):
            choices = ", ".join(map(repr, get_args(kind)))
            raise ConfigError(f"{section}.{field.name} must be one of {choices}; it is {value!r}.")
        if kind in (str, str | None) and not isinstance(value, (str, type(None))):
            raise ConfigError(
                f"{section}.{field.name} must be a text; {value!r} was read as a {type(value).__name__}. "
                f"Quote it; in a shell: \"{section}.{field.name}='...'\"."
            )
        if _is_known(kind):
            known[field.name] = kind
    checked = make_dataclass("Checked", list(known.items()), kw_only=True)
    try:
        typed = OmegaConf.merge(OmegaConf.structured(checked), {name: arguments[name] for name in known})
        OmegaConf.to_container(typed, throw_on_missing=True)
    except OmegaConfBaseException as error:
        first = str(error).splitlines()[0]
        key = str(getattr(error, "full_key", "") or "")
        raise ConfigError(f"{section}{'.' + key if key else ''}: {first}") from error


def _annotations(target: type) -> dict[str, Any]:
    """Types of a dataclass's fields; those written for type checkers only are left out."""
    try:
        return get_type_hints(target)
    except Exception:  # one name that cannot be resolved hides all others
        found = {}
        for field in fields(target):
            own = type(
                "Own", (), {"__annotations__": {field.name: field.type}, "__module__": target.__module__}
            )
            try:
                found.update(get_type_hints(own))
            except Exception:
                continue
        return found


def _is_known(kind: Any) -> bool:
    from omegaconf import OmegaConf

    try:
        OmegaConf.structured(make_dataclass("One", [("value", kind)], kw_only=True))
    except Exception:  # OmegaConf raises what it likes for an annotation that it does not know
        return False
    return True


def has_target(value: Any) -> bool:
    """Whether some ``_target_`` is in a value, however deep."""
    if isinstance(value, Mapping):
        return "_target_" in value or any(map(has_target, value.values()))
    return isinstance(value, (list, tuple)) and any(map(has_target, value))


def explain(section: str, error: Exception) -> FlywheelError:
    """The error for what a class raised when it was built from its section: a sentence for ValueError."""
    if isinstance(error, FlywheelError):
        return error
    if isinstance(error, ValueError):
        return ConfigError(f"{section}.{error}")
    whole = "".join(traceback.format_exception(error))
    return ConfigError(f"{section} must be buildable before anything is trained:\n\n{whole}")


def key_orders(node: Any, path: tuple[str, ...] = (), *, inside: bool = False) -> Iterator[list[Any]]:
    """[path, keys] of each mapping among arguments whose keys JSON would lose, e.g. {0: "a"} or {b: 1, a: 2}.

    Raises ConfigError where two keys become the same text, or a key is none that JSON has.
    """
    if isinstance(node, Mapping):
        keys = list(node)
        if inside and "_target_" not in node and (keys != sorted(keys, key=str) or not _are_texts(keys)):
            _refuse_keys(".".join(path), keys)
            yield [list(path), keys]
        for key, value in node.items():
            yield from key_orders(value, (*path, str(key)), inside=inside or "_target_" in node)
    elif isinstance(node, (list, tuple)):
        for position, value in enumerate(node):
            yield from key_orders(value, (*path, str(position)), inside=inside)


def _are_texts(keys: Iterable[Any]) -> bool:
    return all(type(key) is str for key in keys)


def _refuse_keys(place: str, keys: Sequence[Any]) -> None:
    strange = [key for key in keys if not isinstance(key, (str, int, float))]
    if strange or len({str(key) for key in keys}) < len(keys):
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
        keys = orders.get(path) or (sorted(node, key=str) if "_target_" in node else list(node))
        by_text = {str(key): value for key, value in node.items()}
        return {key: in_order(by_text[str(key)], orders, (*path, str(key))) for key in keys}
    if isinstance(node, list):
        return [in_order(value, orders, (*path, str(k))) for k, value in enumerate(node)]
    return node
