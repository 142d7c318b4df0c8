"""Reviewers: see ``flywheel.protocols.Reviewer``."""

from __future__ import annotations

from flywheel.reviewers.none import NoReview

__all__ = ["NoReview"]
