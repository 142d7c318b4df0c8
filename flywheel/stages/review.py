"""Review: where asked for, a person consents to a promotion, to exactly what a manifest describes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import to_builtins

from flywheel.errors import AwaitingReview
from flywheel.protocols import ReviewRequest
from flywheel.records import Action, Consent, Json, Verdict
from flywheel.runtime.context import Context, StageOutput
from flywheel.storage.events import GuardAlarm, ReviewFacts
from flywheel.storage.state import Generation
from flywheel.storage.store import Stored


def review(
    ctx: Context,
    *,
    candidate: Generation,
    verdict: Verdict,
    alarms: Sequence[GuardAlarm] = (),
    consents: Mapping[str, Consent],
) -> StageOutput:
    """Whether the reviewer, or a person where a guard asks for one, consents to promoting the candidate.

    ``consents``: what people answered so far, by the manifest that they were asked about. Raises
    AwaitingReview while there is no answer: the resumed run asks again, about the same manifest.
    """
    reviewer = ctx.components.build("review", ctx.settings)
    manifest = ctx.store.put_json(manifest_of(candidate, verdict, alarms))
    answered = consents.get(manifest)
    request = ReviewRequest(candidate, verdict, manifest, answered)
    consent = reviewer.review(request)
    if consent and any(alarm.action is Action.ASK for alarm in alarms):
        consent = answered.consent if answered else None
    if consent is None:
        raise AwaitingReview(manifest)
    by = answered.by if answered else type(reviewer).__name__
    return StageOutput({"manifest": Stored(manifest)}, ReviewFacts(consent=bool(consent), reviewer=by))


def manifest_of(candidate: Generation, verdict: Verdict, alarms: Sequence[GuardAlarm]) -> dict[str, Json]:
    """What is consented to: by its hash, the weights, what they learned from, and the evidence."""
    return {
        "generation": candidate.number,
        "parent": candidate.parent,
        "champion": candidate.champion,
        "weights": candidate.weights,
        "corpus": candidate.output("curate", "corpus"),
        "settings": candidate.settings,
        "outcomes": candidate.output("evaluate", "outcomes") or candidate.output("screen", "outcomes"),
        "verdict": verdict.json(),
        "alarms": to_builtins(alarms),
    }
