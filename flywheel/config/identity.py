"""Which of two configurations' keys differ, and whether a run that is there is the one that we would make."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flywheel.errors import IdentityError
from flywheel.storage.ledger import canonical

ABSENT: Any = object()
"""In place of the value of a key that is not there."""
_GO_ON = "Give another name= (or none) to start a new run, or undo the change to continue this one."
_MOST_LINES = 12


def differences(old: Any, new: Any) -> dict[str, list[Any]]:
    """{dotted key: [old, new]} of the leaves that are not the same JSON; ``ABSENT`` where a side lacks one.

    1, 1.0 and true are three values, and null is one too. A key with a dot in it is quoted: ``"a.b"``.
    """
    return dict(_differences(json.loads(canonical(old)), json.loads(canonical(new)), ""))


def _differences(old: Any, new: Any, path: str) -> Iterator[tuple[str, list[Any]]]:
    sides = [{} if side is ABSENT else side for side in (old, new)]
    if all(isinstance(side, Mapping) for side in sides) and any(sides):
        for key in sorted({*sides[0], *sides[1]}):
            name = key if re.fullmatch(r'[^."]+', key) else json.dumps(key, ensure_ascii=False)
            inner = [side.get(key, ABSENT) for side in sides]
            yield from _differences(inner[0], inner[1], f"{path}.{name}" if path else name)
    elif old is ABSENT or new is ABSENT or canonical(old) != canonical(new):
        yield path, [old, new]


def leaf_text(value: Any) -> str:
    """A leaf for people, as JSON, so that "1", 1, 1.0 and true look different; or ``absent``."""
    return "absent" if value is ABSENT else canonical(value).decode()


def check_same(
    what: str, directory: Path, recorded: Mapping[str, Any], ours: Mapping[str, Any], remedy: str = _GO_ON
) -> None:
    """Raise IdentityError, listing the keys that differ, unless the run is what we would make."""
    changed = differences(recorded, ours)
    lines = [f"{key}: {leaf_text(old)} there, {leaf_text(new)} now" for key, (old, new) in changed.items()]
    refuse_other(what, directory, lines, remedy)


def refuse_other(what: str, directory: Path, lines: Iterable[str], remedy: str) -> None:
    """Raise IdentityError with the first of these lines, if there are any."""
    shown = [f"    {line}" for line in lines][:_MOST_LINES]
    if shown:
        raise IdentityError(
            f"A run keeps its identity: {directory} was made with other {what}.\n"
            + "\n".join([*shown, remedy])
        )
