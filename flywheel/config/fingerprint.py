"""Which version of a component did the work: a hash of its source and its arguments."""

from __future__ import annotations

import hashlib

from flywheel.config.components import Components
from flywheel.records import Settings
from flywheel.storage.ledger import canonical


def fingerprint(components: Components, section: str, settings: Settings) -> str | None:
    """SHA-256 of a section's arguments and of the modules behind every class that it names.

    The sources are those of the session's start: see ``flywheel.config.modules`` for which, and why not
    those that are on the disk by now. None: what ran is not known.
    """
    arguments = components.section(section, settings, by_name=True)
    sources = components.code.versions(components.modules({section: arguments}))
    if None in sources.values():
        return None
    return hashlib.sha256(canonical({"arguments": arguments, "sources": sources})).hexdigest()
