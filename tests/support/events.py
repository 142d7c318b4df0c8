"""Events and facts of tests: what a test does not say is filled in, with nothing much."""

from __future__ import annotations

import json
import types
import typing
from pathlib import Path
from typing import Any

import msgspec

from flywheel.storage.events import FACTS, Fields, type_of
from flywheel.storage.ledger import Ledger
from flywheel.storage.rules import carries_without
from flywheel.storage.state import RunState


def event_of(name: str, /, **content: Any) -> Any:
    """An event of its type; ``content`` is JSON."""
    kind = type_of(name, content.get("stage", ""))
    return msgspec.convert(_filled(kind, {"event": name, **content}), kind)


def facts(stage: str, /, **content: Any) -> Any:
    """The facts of a stage; ``content`` is JSON."""
    return msgspec.convert(_filled(FACTS[stage], content), FACTS[stage])


def lines_of(directory: Path) -> list[dict[str, Any]]:
    """The lines of a run, as anybody reads them."""
    return [json.loads(line) for line in (directory / "ledger.jsonl").read_bytes().splitlines()]


def written(event: Fields) -> dict[str, Any]:
    """An event, or facts, as JSON."""
    return event.json()


def record_recall(directory: Path, why: str) -> None:
    """Add to a run of two turns that generation 1 is recalled and 2 suspect."""
    ledger = Ledger(directory)
    carry = dict(carries_without(RunState.replay(ledger), 0, {1, 2}).artifacts)
    reached = {"generations": [1], "suspect": [2], "samples": "0" * 64 + ".parquet"}
    ledger.append(event_of("recalled", why=why, by="generation 1", champion=0, carry=carry, **reached))
    ledger.close()


def _filled(kind: Any, given: Any) -> Any:
    """A mapping with what its type requires; other values as they are."""
    if isinstance(kind, types.UnionType):
        kind = typing.get_args(kind)[0]  # as of Cost | None
    if not (_is_record(kind) and isinstance(given, dict)):
        return given
    fields = {field.encode_name: (field.type, field.required) for field in _fields(kind)}
    needed = {name: of for name, (of, required) in fields.items() if required or name in given}
    return given | {
        name: _filled(of, given[name]) if name in given else _nothing(of) for name, of in needed.items()
    }


def _fields(kind: Any) -> Any:
    if issubclass(typing.get_origin(kind) or kind, msgspec.Struct):
        return msgspec.structs.fields(kind)
    hints, required = typing.get_type_hints(kind), msgspec.inspect.type_info(kind).fields
    return [msgspec.structs.FieldInfo(f.name, f.encode_name, hints[f.name]) for f in required if f.required]


def _is_record(kind: Any) -> bool:
    origin = typing.get_origin(kind) or kind
    return isinstance(origin, type) and (
        issubclass(origin, msgspec.Struct) or hasattr(origin, "__match_args__")
    )


def _nothing(kind: Any) -> Any:
    """The emptiest value of a type, as JSON."""
    if _is_record(kind):
        return _filled(kind, {})
    origin = typing.get_origin(kind) or kind
    if origin is types.UnionType or origin is typing.Union:
        return None if type(None) in typing.get_args(kind) else 0
    if origin is tuple or not isinstance(origin, type):
        return []
    return {} if issubclass(origin, dict | typing.Mapping) else origin()
