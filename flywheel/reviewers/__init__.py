"""Reviewers: see ``flywheel.protocols.Reviewer``."""

from __future__ import annotations

from flywheel.reviewers.none import NoReview
from flywheel.reviewers.person import Person

__all__ = ["NoReview", "Person"]
