"""Graders: see ``flywheel.protocols.Grader``, and docs/graders.md."""

from __future__ import annotations

from flywheel.graders.compositions import AllOf, AnyOf, Cascade
from flywheel.graders.confidence import Confidence
from flywheel.graders.labels import Labels
from flywheel.graders.verifier import Verifier
from flywheel.graders.vote import Vote

__all__ = ["AllOf", "AnyOf", "Cascade", "Confidence", "Labels", "Verifier", "Vote"]
