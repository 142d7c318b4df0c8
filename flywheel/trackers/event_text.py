"""What happened in a run in words for people: a line for each event, and the colours of verdicts."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from flywheel.lineage.status import Metrics, estimates, is_untested
from flywheel.lineage.text import estimate_text, ungraded_text
from flywheel.records import Role
from flywheel.storage.events import (
    AuditFacts,
    CurateFacts,
    EvaluateFacts,
    Event,
    FellBack,
    GateFacts,
    GenerateFacts,
    GenerationEnded,
    GenerationStarted,
    GradeFacts,
    GuardFacts,
    LabelsFacts,
    Look,
    ReviewFacts,
    RunEnded,
    ScreenFacts,
    SeedFacts,
    StageDone,
    TrainFacts,
    TuneFacts,
    limit_of,
)
from flywheel.storage.policy import EACH, FRONTIER, GREEDY
from flywheel.storage.state import Generation, RunState, Status
from flywheel.trackers.console import printable

COLOURS = {
    Status.PROMOTED: "green",
    Status.REJECTED: "yellow",
    Status.ADVANCED: "cyan",
    Status.FAILED: "red",
    Status.FINAL: "bright_green",
    Status.UNFINISHED: "cyan",
}


def title(state: RunState) -> str:
    """``RECIPE/NAME``."""
    return f"{state.created.recipe}/{state.created.name}" if state.created else "/starting"


def resumption(state: RunState) -> str:
    """Where a session begins, e.g. ``new run``."""
    if not state.generations:
        return "new run"
    if state.current is None:
        return f"continuing after generation {state.generations[-1].number}"
    look = "the look at " if is_looked_at(state.current) else ""
    return f"continuing at {look}generation {state.current.number}"


def rule_text(state: RunState) -> list[str]:
    """By what rule the run promotes, in a line; none with ``promotion=each``."""
    return [] if state.promotion.rule == EACH else [str(state.promotion)]


def begun_text(begun: GenerationStarted) -> str:
    """Where a generation comes from."""
    if begun.refit:
        return f": the champion, generation {begun.champion}, again with the labels of dev and gate"
    if begun.parent is None:
        return ": genesis"
    on = f": on generation {begun.parent}, the frontier; " if begun.parent != begun.champion else ": "
    return f"{on}the champion is generation {begun.champion}"


def is_looked_at(generation: Generation) -> bool:
    """Whether a generation under way is a frontier whose look has begun."""
    return generation.status is Status.ADVANCED


def look_text(state: RunState) -> str:
    """``look 1 of 2 at generation 2, the frontier``: the look that has begun last."""
    look, planned = state.looks[-1], state.created.error_budget.looks if state.created else 0
    return f"look {look.number} of {max(look.number, planned)} at generation {look.generation}, the frontier"


def frontier_text(event: Event, state: RunState) -> str:
    """What happened to the frontier, but for how generations ended; empty for other events."""
    if isinstance(event, Look) and event.role is Role.GATE and state.promotion.rule == FRONTIER:
        champion = state.champion.number if state.champion else None
        return f"{look_text(state)}; the champion is generation {champion}"
    if isinstance(event, FellBack):
        several = "generations" if len(event.generations) > 1 else "generation"
        numbers = ", ".join(map(str, event.generations))
        back = f"fell back to generation {event.champion}, the champion"
        return f"{back}: {event.reason}; {several} {numbers} abandoned"
    return ""


def outcome_text(event: GenerationEnded, state: RunState) -> str:
    """How a generation ended, e.g. ``promoted``; at its look a frontier may have ``still advanced``."""
    if event.status is not Status.ADVANCED or state.generations[event.generation].look is None:
        return str(event.status)
    return f"still advanced, {state.looks_in_vain} of {state.promotion.patience} looks in vain"


def stages_ahead(generation: Generation, state: RunState) -> list[str]:
    """The stages of a turn, or of the look at a frontier, as the run's rule has them."""
    from flywheel.stages.table import STAGES  # whoever shows a status imports this module, and no Arrow

    audit = "audit" if _is_audited(state) and not generation.is_genesis else None
    names = [stage.name for stage in STAGES if stage.of_a_turn or stage.name == audit]
    rule, certifying = state.promotion.rule, names.index("evaluate")
    if rule == EACH or generation.is_genesis:
        return names
    if is_looked_at(generation):
        return names[certifying:]
    return [*names[:certifying], "screen", *(["review"] if rule == GREEDY else [])]


def _is_audited(state: RunState) -> bool:
    """Whether the run has a trusted grader."""
    config = state.created.config if state.created else {}
    return bool((config.get("audit") or {}).get("grader"))


def stage_text(event: StageDone[Any]) -> str:
    """What a stage made, in a few words."""
    match facts := event.facts:
        case SeedFacts():
            return f"{facts.human} human samples"
        case LabelsFacts():
            return f"{facts.human} human samples of {_counts_text(facts.by_suite)}"
        case GenerateFacts():
            left_out = f", {facts.left_out} prompts that a suite asks left out" if facts.left_out else ""
            return f"{facts.made} samples{left_out}"
        case GradeFacts():
            return f"by {facts.grader}{printable(ungraded_text(facts.failed, facts.rows, facts.reasons))}"
        case AuditFacts():
            right = estimate_text(facts.precision) if facts.precision else "unknown"
            fault = f"; {facts.fault}" if facts.fault else ""
            return printable(f"by {facts.grader}: {right} of {facts.kept.rows} kept are right{fault}")
        case CurateFacts():
            leaked = f", {facts.leaked} leaked rows that a suite asks left out" if facts.leaked else ""
            return f"{facts.rows} rows kept, {_counts_text(facts.by_origin)}{leaked}"
        case TuneFacts():
            trials = f"{facts.units.count} trials; {facts.reason}; " if facts.units else ""
            return f"{trials}init {facts.start}"
        case TrainFacts():
            return f"init {facts.start.kind}, {facts.steps} steps"
        case EvaluateFacts() | ScreenFacts():
            return numbers_text(facts.metrics)
        case GateFacts():
            return facts.verdict.reason
        case GuardFacts():
            return "; ".join(f"{alarm.guard} ({alarm.action}): {alarm.reason}" for alarm in facts.alarms)
        case ReviewFacts():
            return f"consent: {facts.consent}"
    return ""


def _counts_text(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {origin}" for origin, count in sorted(counts.items()))


def numbers_text(measured: Metrics) -> str:
    """``gate accuracy 96.8% [95.3, 97.8]`` for each suite and metric."""
    texts = (f"{suite} {metric} {estimate_text(value)}" for suite, metric, value in estimates(measured))
    return "  ".join(map(printable, texts))


def verdict_text(event: GenerationEnded, state: RunState) -> Text:
    """One coloured line on how a generation ended."""
    text = Text(f"generation {event.generation} ")
    text.append(outcome_text(event, state), COLOURS[event.status])
    return text.append(f": {printable(event.reason)}")


def ending_text(event: Event, state: RunState) -> str:
    """One line on how a session ended; empty for other events."""
    if not isinstance(event, RunEnded):
        return ""
    again = "The same command continues it."
    reason = printable(event.reason).rstrip(".")
    if limit := limit_of(reason):
        return f"stopped: {reason}. With a larger budget.{limit} the same command goes on."
    return {
        "run_finished": f"finished: the champion is generation {event.champion}{_beside_text(state)}",
        "run_stopped": f"stopped by {reason}. {again}",
        "run_failed": f"failed: {reason}. {'The champion stays. ' if state.champion else ''}{again}",
        "run_interrupted": f"interrupted by {reason}; nothing recorded is lost. {again}",
        "run_awaiting_review": f"waiting for a review. {again}",
    }[event.event]


def _beside_text(state: RunState) -> str:
    """What is said beside the champion in the last line."""
    text = ", promoted without a test" if state.champion and is_untested(state.champion, state) else ""
    text += f", final is generation {state.final.number}" if state.final else ""
    for ahead in state.ahead[-1:]:
        text += f"; the frontier, generation {ahead.number}, is not certified"
    return text
