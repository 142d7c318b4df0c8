"""What a person is to be told of at once: derived from the event that says it."""

from __future__ import annotations

from dataclasses import dataclass

from flywheel.records import Action
from flywheel.storage.events import Event, GenerationEnded, RunEnded, StageDone
from flywheel.storage.state import RunState, Status

KINDS = ("failure", "guard", "review", "reject", "promotion", "audit")
DEFAULT = ("failure", "guard", "review")
"""What asks for somebody. A rejected turn is a run's daily bread, and so is a warning."""
_TRIPS = (Action.ASK, Action.REJECT, Action.HALT)


@dataclass(frozen=True, slots=True)
class Alert:
    """A message."""

    kind: str
    """One of ``KINDS``."""
    title: str
    text: str
    is_error: bool = False


def alert_of(event: Event, state: RunState) -> Alert | None:
    """The alert of an event, if it is one."""
    match event:
        case GenerationEnded(status=Status.FAILED):
            return Alert("failure", f"generation {event.generation} failed", event.reason, True)
        case GenerationEnded(status=Status.REJECTED):
            return Alert("reject", f"generation {event.generation} rejected", event.reason)
        case GenerationEnded(status=Status.PROMOTED):
            return Alert("promotion", f"generation {event.generation} promoted", event.reason)
        case RunEnded(event="run_failed"):
            return Alert("failure", "the run failed", event.reason, True)
        case RunEnded(event="run_awaiting_review"):
            number = state.current.number if state.current else "?"
            text = "Answer with `python -m flywheel review RUN --yes|--no --by NAME`."
            return Alert("review", f"generation {number} waits for a review", text)
        case StageDone(stage="guard"):
            trips = [alarm for alarm in event.facts.alarms if alarm.action in _TRIPS]
            text = "; ".join(f"{alarm.guard} ({alarm.action}): {alarm.reason}" for alarm in trips)
            return Alert("guard", f"guards of generation {event.generation}", text) if trips else None
        case StageDone(stage="audit") if event.facts.fault:
            return Alert("audit", f"audit of generation {event.generation}", event.facts.fault)
    return None
