"""Reviewers: who is asked before a promotion."""

from __future__ import annotations

from flywheel.records import Verdict
from flywheel.storage.state import Generation


class NoReview:
    """Nobody is asked: what passes the gate is promoted."""

    def review(self, candidate: Generation, verdict: Verdict) -> bool | None:
        """Consent to a promotion: True or False; None: the answer is not there yet."""
        return True
