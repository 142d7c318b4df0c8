"""Which version of a component did the work: a hash of its source and its arguments."""

from __future__ import annotations

import hashlib
from typing import Any

from flywheel.config.components import Components
from flywheel.records import Settings
from flywheel.storage.ledger import canonical


def fingerprint(
    components: Components, section: str, settings: Settings, part: str | None = None
) -> str | None:
    """SHA-256 of a section's arguments and of the modules behind every class that it names.

    ``part``: a key of the section that is meant, instead of the whole.

    The sources are those of the session's start: see ``flywheel.config.modules`` for which, and why not
    those that are on the disk by now. None: what ran is not known.
    """
    arguments = components.section(section, settings, by_name=True)
    return _version(components, section, arguments if part is None else arguments[part])


def fingerprints_of_parts(components: Components, section: str, settings: Settings) -> dict[str, str | None]:
    """The same for each part of a composition of graders, however deep, by its name.

    None are known of a composition that was given as an object.
    """
    versions: dict[str, str | None] = {}
    waiting = [components.section(section, settings, by_name=True)]
    while waiting:
        for name, node in (waiting.pop().get("graders") or {}).items():
            versions[name] = _version(components, section, node)
            waiting.append(node)
    return versions


def _version(components: Components, section: str, arguments: dict[str, Any]) -> str | None:
    sources = components.code.versions(components.modules({section: arguments}))
    if None in sources.values():
        return None
    return hashlib.sha256(canonical({"arguments": arguments, "sources": sources})).hexdigest()
