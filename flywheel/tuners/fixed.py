"""The tuner that changes nothing."""

from __future__ import annotations

from collections.abc import Callable

from flywheel.records import Carry, Settings


class Fixed:
    """Keep the settings and the init that are in force."""

    def tune(
        self, attempt: Callable[[Settings, float], float], settings: Settings, init: str, carry: Carry
    ) -> tuple[Settings, str, Carry]:
        """Return what was given; no attempt is made."""
        return settings, init, carry
