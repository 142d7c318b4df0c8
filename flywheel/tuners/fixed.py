"""The tuner that changes nothing."""

from __future__ import annotations

from flywheel.protocols import TunerView
from flywheel.records import Choice


class Fixed:
    """Keep the settings and the start that are configured."""

    def ask(self, view: TunerView) -> None:
        """Nothing is tried."""

    def choose(self, view: TunerView) -> Choice:
        """Choose what is there."""
        return Choice(view.settings, view.init, view.carry)
