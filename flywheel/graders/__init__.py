"""Graders: see ``flywheel.protocols.Grader``, and docs/graders.md."""

from __future__ import annotations

from flywheel.graders.compositions import AllOf, AnyOf, Cascade
from flywheel.graders.confidence import Confidence
from flywheel.graders.verifier import Verifier
from flywheel.graders.vote import Vote

__all__ = ["AllOf", "AnyOf", "Cascade", "Confidence", "Verifier", "Vote"]
