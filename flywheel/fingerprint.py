"""Which version of a component did the work: a hash of its source and its arguments."""

from __future__ import annotations

import hashlib
import inspect
from typing import Any

from flywheel.components import Components, locate, targets_in
from flywheel.lineage.ledger import canonical
from flywheel.records import Settings


def fingerprint(components: Components, section: str, settings: Settings) -> str:
    """SHA-256 of a section's arguments and of the source of every class that it names.

    Base classes count; what a class calls outside itself does not: the commit and its diff tell that.
    """
    arguments = components.section(section, settings)
    sources = {path: _source(locate(section, path)) for path in sorted(targets_in(arguments))}
    return hashlib.sha256(canonical({"arguments": arguments, "sources": sources})).hexdigest()


def _source(target: Any) -> str:
    """The code of a class and its bases, or of a function; its name where there is none to read."""
    parts = [part for part in getattr(target, "__mro__", (target,)) if part is not object]
    return "\n".join(map(_one_source, parts))


def _one_source(part: Any) -> str:
    try:
        return inspect.getsource(part)
    except (OSError, TypeError):  # written in C, or typed in at a prompt
        return f"{part.__module__}.{part.__qualname__}"
