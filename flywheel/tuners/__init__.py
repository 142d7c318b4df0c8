"""Tuners: see ``flywheel.protocols.Tuner``."""

from __future__ import annotations

from flywheel.tuners.fixed import Fixed

__all__ = ["Fixed"]
