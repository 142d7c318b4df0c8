"""Review: where asked, a person agrees before a promotion."""

from __future__ import annotations

from flywheel.errors import AwaitingReview
from flywheel.records import Verdict
from flywheel.runtime.context import Context, StageOutput
from flywheel.storage.state import Generation


def review(ctx: Context, *, candidate: Generation, verdict: Verdict) -> StageOutput:
    """Whether the reviewer consents to promoting the candidate.

    Raises AwaitingReview while there is no answer: nothing is recorded, and the resumed run asks again.
    """
    reviewer = ctx.components.build("review", ctx.settings)
    consent = reviewer.review(candidate, verdict)
    if consent is None:
        raise AwaitingReview
    return StageOutput(facts={"consent": bool(consent), "reviewer": type(reviewer).__name__})
