"""Gates: see ``flywheel.protocols.Gate``."""

from __future__ import annotations

from flywheel.gates.paired import Paired

__all__ = ["Paired"]
