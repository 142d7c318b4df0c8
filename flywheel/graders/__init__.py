"""Graders: see ``flywheel.protocols.Grader``."""

from __future__ import annotations

from flywheel.graders.confidence import Confidence
from flywheel.graders.vote import Vote

__all__ = ["Confidence", "Vote"]
