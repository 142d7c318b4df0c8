"""Guards: see ``flywheel.protocols.Guard``."""

from __future__ import annotations

from flywheel.guards.collapse import Collapse
from flywheel.guards.flips import Flips
from flywheel.guards.length import Length
from flywheel.guards.non_inferior import NonInferior
from flywheel.guards.proxy_gap import ProxyGap
from flywheel.guards.slices import Slices

__all__ = ["Collapse", "Flips", "Length", "NonInferior", "ProxyGap", "Slices"]
