"""Guards: see ``flywheel.protocols.Guard``."""

from __future__ import annotations

from flywheel.guards.non_inferior import NonInferior

__all__ = ["NonInferior"]
