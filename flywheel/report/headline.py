"""The first screen: what was improved, by how much, whether that is real, the cost, the state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flywheel.lineage.record import Record
from flywheel.lineage.status import (
    OVER,
    BudgetStatus,
    audit_text,
    forked_from,
    gate_beside_sealed_text,
    held_out,
    held_out_text,
    metrics,
)
from flywheel.lineage.text import estimate_text, opened_text
from flywheel.records import Role
from flywheel.report.figures import Gain, gains
from flywheel.report.generations import cost_text
from flywheel.storage import lock
from flywheel.storage.accountant import FALSE_DISCOVERY
from flywheel.storage.events import Recalled, RunEnded, Spent
from flywheel.storage.policy import GREEDY
from flywheel.storage.state import Generation, RunState, RunStateName, Status


@dataclass(frozen=True, slots=True)
class Answer:
    """One of the questions that everybody has, answered."""

    question: str
    answer: str
    detail: str
    tone: str
    """``good``, ``open``, ``bad`` or ``plain``: how it is coloured, beside what it says."""


@dataclass(frozen=True, slots=True)
class Headline:
    """The first screen."""

    sentence: str
    answers: tuple[Answer, ...]
    evidence: tuple[str, ...]
    """Sentences for whoever asks why the gain should be believed, or not."""
    gains: tuple[Gain, ...]


def headline(record: Record) -> Headline:
    """The first screen of a run."""
    state, found = record.state, tuple(gains(record.state, record.store))
    answers = (
        _in_force(state),
        _gain(state, found),
        _is_real(state, found),
        _cost(state.spent),
        _state(record.directory, state),
    )
    evidence = tuple(_sentence(text) for text in _evidence(record, found))
    return Headline(_lead(record, found), answers, evidence, found)


def ended_turns(state: RunState) -> list[Generation]:
    """The turns that have ended, however they did."""
    return [g for g in state.generations if g.is_turn and g.status is not Status.UNFINISHED]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")


def _lead(record: Record, found: tuple[Gain, ...]) -> str:
    state = record.state
    champion, turns = state.champion, ended_turns(state)
    if champion is None:
        why = next((g.reason for g in reversed(state.generations) if g.status is Status.FAILED), state.reason)
        return f"There is no champion yet. {_sentence(why) if why else 'Nothing has been measured.'}"
    if not found:
        tried = f"none of {len(turns)} candidates" if len(turns) != 1 else "the one candidate was not"
        verb = "" if len(turns) == 1 else " was"
        figure = next(_figures(state), "")
        text = f"Generation {champion.number}, the first champion, is in force{figure}."
        return text + (
            f" {tried.capitalize()}{verb} shown to be better." if turns else " No turn has ended yet."
        )
    best = found[0]
    return (
        f"Generation {champion.number} is in force. On the suite {best.suite} it has {best.metric} "
        f"{best.after_text}; the first champion, generation {best.first}, had {best.before_text}."
    )


def _figures(state: RunState) -> Iterator[str]:
    measured = metrics(state.champion, state) if state.champion else {}
    gates = [suite for suite in measured if state.roles.get(suite) == Role.GATE] or list(measured)
    for suite in gates:
        for metric, estimate in measured[suite].items():
            yield f", with {metric} {estimate_text(estimate)} on the suite {suite}"


def _in_force(state: RunState) -> Answer:
    champion = state.champion
    if champion is None:
        return Answer("Which is in force?", "None yet", "No generation has become champion.", "open")
    suspect = " It is suspect: see the recalls." if champion.suspect else ""
    ahead = state.ahead[-1:]
    frontier = (
        f" The frontier, generation {ahead[0].number}, is ahead of it and not certified." if ahead else ""
    )
    detail = f"Weights {str(champion.weights)[:12]}.{frontier}{suspect}"
    return Answer("Which is in force?", f"Generation {champion.number}", detail, "plain")


def _gain(state: RunState, found: tuple[Gain, ...]) -> Answer:
    if not found:
        return Answer(
            "By how much?", "No gain", "No candidate was promoted after the first champion.", "open"
        )
    best = found[0]
    value, _, interval = best.text.partition(" [")
    detail = f"95% interval [{interval}, {best.metric} on the suite {best.suite}."
    return Answer("By how much?", value, detail, "good" if best.difference.low > 0 else "open")


def _is_real(state: RunState, found: tuple[Gain, ...]) -> Answer:
    question, promoted = "Is the gain real?", state.turns_in_force
    if not found:
        looks = len(state.looks)
        tried = f"{looks} {'look' if looks == 1 else 'looks'} at the gate, none passed."
        return Answer(
            question, "None is claimed", tried if looks else "No candidate has come to the gate.", "open"
        )
    if state.promotion.rule == GREEDY:
        return Answer(
            question, "Not tested", "promotion=greedy takes the higher mean on dev: it may be chance.", "bad"
        )
    sealed = [gain for gain in found if gain.role == Role.SEALED]
    tests = f"{promoted} of {len(state.looks)} looks at the gate passed, each at its level."
    if not sealed:
        return Answer(question, "By the gate", f"{tests} No sealed figure confirms it yet.", "good")
    if all(gain.difference.low > 0 for gain in sealed):
        return Answer(question, "Yes", f"Sealed items confirm it: {_sealed_text(sealed[0])} {tests}", "good")
    if any(gain.difference.high < 0 for gain in sealed):
        return Answer(
            question, "In doubt", f"{tests} But a sealed suite fell. {_sealed_text(sealed[0])}", "bad"
        )
    return Answer(
        question,
        "By the gate only",
        f"{tests} Sealed items do not show it: {_sealed_text(sealed[0])}",
        "open",
    )


def _sealed_text(gain: Gain) -> str:
    return f"{gain.metric} on {gain.suite} {gain.text}."


def duration_text(seconds: float) -> str:
    """``42 s``, ``3 min 19 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, left = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {left} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _cost(spent: Spent) -> Answer:
    others = cost_text(spent) or "Nothing else was counted"
    return Answer("What did it cost?", duration_text(spent.seconds), f"{others}.", "plain")


_STATES = {
    RunStateName.RUNNING: ("Running", "plain"),
    RunStateName.FINISHED: ("Finished", "good"),
    RunStateName.STOPPED: ("Stopped", "open"),
    RunStateName.AWAITING_REVIEW: ("Awaiting review", "open"),
    RunStateName.FAILED: ("Failed", "bad"),
    RunStateName.INTERRUPTED: ("Interrupted", "open"),
}


def state_of(directory: Path, state: RunState) -> RunStateName:
    """Where a run stands now. A run holds its lock until its last report is drawn: by then it has ended."""
    is_over = isinstance(state.last, RunEnded)
    return state.name(is_running=not is_over and lock.work_under_way(directory) is lock.Work.RUN)


def _state(directory: Path, state: RunState) -> Answer:
    name = state_of(directory, state)
    word, tone = _STATES[name]
    detail = OVER.get(state.reason, state.reason)
    current = state.current
    if name is RunStateName.RUNNING and current:
        done = list(current.stages)
        detail = f"Generation {current.number} is under way" + (f", {done[-1]} is done" if done else "")
    if name is RunStateName.AWAITING_REVIEW:
        detail = f"A person is to answer: python -m flywheel review {directory.name}"
    return Answer("Where does it stand?", word, _sentence(detail) if detail else "", tone)


def _evidence(record: Record, found: tuple[Gain, ...]) -> Iterator[str]:
    state = record.state
    budget = BudgetStatus.of(state)
    if state.promotion.rule == GREEDY:
        yield "nothing was tested: promotion=greedy takes what has the higher mean on dev"
    elif budget and budget.looks:
        share = (
            "the expected share of wrong ones among all promotions"
            if budget.rule == FALSE_DISCOVERY
            else ("the chance that any promotion of the run is wrong")
        )
        yield (
            f"{state.turns_in_force} of {budget.looks} looks at the gate led to a promotion; their levels "
            f"keep {share} at {budget.alpha:g} or below ({budget.looks} of {budget.planned} planned looks "
            f"taken, {budget.spent:.3g} of {budget.alpha:g} spent, next level {budget.next_level:.3g})"
        )
    for gain in found:
        if gain.role == Role.SEALED:
            figures = f"{gain.before_text} → {gain.after_text}, {gain.text}"
            yield f"sealed suite {gain.suite}, which decided nothing: {gain.metric} {figures}"
    yield from gate_beside_sealed_text(state)
    if state.times_opened:
        yield opened_text(state.times_opened)
    elif any(role == Role.SEALED for role in state.roles.values()):
        yield "the sealed suites were not opened yet"
    yield from audit_text(state)
    recorded = held_out(state)
    if recorded:
        yield held_out_text(recorded)
    for event in record.events:
        if isinstance(event, Recalled):
            numbers = ", ".join(map(str, event.generations)) or "none"
            yield f"recalled {event.by}: {event.why} (generations now flagged: {numbers})"
    if origin := forked_from(state):
        yield f"the run is a fork of {origin}"
