"""What people see: a live view on a terminal, plain lines elsewhere, JSON lines on request."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flywheel.lineage.code_changes import CodeChange
from flywheel.lineage.status import (
    BudgetStatus,
    Final,
    Metrics,
    PromotionStatus,
    audit_text,
    estimates,
    gate_beside_sealed_text,
    held_out,
    held_out_text,
    is_untested,
    metrics,
)
from flywheel.lineage.text import estimate_text, opened_text, ungraded_text
from flywheel.records import Interval, Progress, Role, Step
from flywheel.storage.events import (
    AuditFacts,
    CodeChanged,
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
    SessionStarted,
    StageDone,
    TrainFacts,
    TuneFacts,
    limit_of,
)
from flywheel.storage.policy import EACH, FRONTIER, GREEDY
from flywheel.storage.state import Generation, RunState, Status
from flywheel.trackers import NoTracker
from flywheel.trackers.console import FILE_WIDTH, plain_console, printable, wide_console

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from flywheel.protocols import Tracker

COLOURS = {
    Status.PROMOTED: "green",
    Status.REJECTED: "yellow",
    Status.ADVANCED: "cyan",
    Status.FAILED: "red",
    Status.FINAL: "bright_green",
    Status.UNFINISHED: "cyan",
}
LEFT_OUT = ", {left_out} prompts that a suite asks left out"
_PLAIN_PROGRESS_SECONDS = 10.0
_WITH_FITS = ("train", "tune")
_BARS = "▁▂▃▄▅▆▇█"


def terminal(config: DictConfig) -> Tracker:
    """The tracker that ``log=`` asks for."""
    from flywheel.config.schema import Log  # omegaconf: what only shows tables goes without it

    choice = config.log
    if choice is Log.json:
        return JsonLines()
    if choice is Log.quiet:
        return NoTracker()
    console = plain_console()
    live = choice is Log.live or (choice is Log.auto and console.is_terminal)
    turns = Turns(config.generations, config.on_failure.value)
    has_bar = bool(config.trainer.get("enable_progress_bar"))
    return LiveView(console, turns, has_bar=has_bar) if live else PlainLines(turns)


@dataclass(frozen=True, slots=True)
class Turns:
    """How many turns a run is to have; those that failed or were recalled may have to be made up for."""

    total: int
    on_failure: str = "stop"

    def left(self, state: RunState) -> int:
        """Turns that are still to end."""
        return max(0, self.total - state.counted_turns(self.on_failure))

    def text(self, generation: Generation, state: RunState) -> str:
        """``generation 5, turn 3 of 3`` of a generation that has begun; a genesis and a refit are no turn."""
        if not generation.is_turn:
            return f"generation {generation.number}"
        ended = generation.status is not Status.UNFINISHED
        turn = state.counted_turns(self.on_failure) + (0 if ended else 1)
        return f"generation {generation.number}, turn {turn} of {max(turn, self.total)}"


class JsonLines(NoTracker):
    """Each ledger event as it is, one JSON object a line."""

    synchronous = True

    def event(self, event: Event, state: RunState) -> None:
        """Print it."""
        print(json.dumps(event.json(), ensure_ascii=False), flush=True)


class PlainLines(NoTracker):
    """A line for each thing that happened, for logs and pipes."""

    synchronous = True

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._printed = time.monotonic()

    def event(self, event: Event, state: RunState) -> None:
        """Print what happened, if people want to know."""
        self._printed = time.monotonic()
        line = self._line(event, state)
        if line:
            print(printable(line), flush=True)
        if event.event in ("run_finished", "run_stopped", "run_failed") and state.generations:
            wide_console().print(generations_table(state))

    def progress(self, progress: Progress) -> None:
        """Say where a long stage is, now and then."""
        now = time.monotonic()
        if progress.total and now - self._printed >= _PLAIN_PROGRESS_SECONDS:
            self._printed = now
            line = f"    {progress.stage} {progress.done}/{progress.total} {progress.note}"
            print(line.rstrip(), flush=True)

    def close(self) -> None:
        """Flush."""
        sys.stdout.flush()

    def _line(self, event: Event, state: RunState) -> str:
        match event:
            case SessionStarted():
                return "\n".join([f"{_title(state)}: {_resumption(state)}", *rule_text(state)])
            case CodeChanged():
                return str(CodeChange.of(event))
            case GenerationStarted():
                return f"{self._turns.text(state.generations[-1], state)}{begun_text(event)}"
            case StageDone():
                return f"  {event.stage:<9}{event.cost.seconds:7.1f} s  {stage_text(event)}"
            case GenerationEnded():
                return f"{event.traceback or ''}  {outcome_text(event, state)}: {event.reason}"
        return frontier_text(event, state) or ending_text(event, state)


class LiveView(NoTracker):
    """One view that is redrawn: run, stages, champion and candidate, last verdict, cost.

    With Lightning's own progress bar (``has_bar``) it is away during fits: two would overwrite each other.
    """

    synchronous = True

    def __init__(self, console: Console, turns: Turns, *, has_bar: bool = False) -> None:
        self._console, self._turns, self._has_bar = console, turns, has_bar
        self._state = RunState()
        self._progress: Progress | None = None
        self._fit: tuple[object, ...] = ()
        self._losses: list[float] = []
        """Of that fit, the one under way."""
        self._verdict = ""
        self._stage_began = self._began = time.monotonic()
        self._live, self._is_away = self._new_view(), False

    def _new_view(self) -> Live:
        return Live(console=self._console, get_renderable=self._render, refresh_per_second=4, transient=True)

    def open(self, directory: Path) -> None:
        """Begin to draw."""
        self._live.start()

    def event(self, event: Event, state: RunState) -> None:
        """Take the new state; print below the view what will not change any more."""
        self._state = state
        if self._is_away:  # the old view, started again, would erase as many lines as it had
            self._is_away, self._live = False, self._new_view()
            self._live.start()
        match event:
            case SessionStarted():
                for line in rule_text(state):
                    self._live.console.print(line)
            case GenerationEnded():
                if event.traceback:
                    self._live.console.print(printable(event.traceback))
                verdict = verdict_text(event, state)
                self._live.console.print(verdict)
                self._verdict = str(verdict)
            case CodeChanged():
                self._live.console.print(printable(CodeChange.of(event)))
            case FellBack():
                self._live.console.print(frontier_text(event, state))
            case StageDone():
                self._progress = None

    def progress(self, progress: Progress) -> None:
        """Remember it for the next redraw."""
        if self._progress is None or progress.stage != self._progress.stage:
            self._stage_began, self._losses = time.monotonic(), []
        self._progress = progress
        if self._has_bar and progress.stage in _WITH_FITS:
            self._is_away = True
            self._live.stop()

    def metrics(self, step: Step, values: Mapping[str, float]) -> None:
        """Remember the loss for the next redraw."""
        if "loss" not in values:
            return
        if (fit := (step.generation, step.stage, step.trial)) != self._fit:
            self._fit, self._losses = fit, []
        self._losses.append(values["loss"])

    def close(self) -> None:
        """Leave the final table on the screen."""
        self._live.stop()
        if self._state.generations:
            self._console.print(generations_table(self._state, self._console.width))
        if self._state.last:
            self._console.print(ending_text(self._state.last, self._state))

    def _render(self) -> Panel:
        state = self._state
        parts: list[Any] = []
        latest = state.current or (state.generations[-1] if state.generations else None)
        if latest:
            parts += [self._stages(latest), self._bar(), self._standings()]
        if verdict := self._last_verdict():
            parts.append(Text(f"last verdict  {verdict}", "dim"))
        heading = Text(_title(state), "bold")
        if latest:
            text = look_text(state) if is_looked_at(latest) else self._turns.text(latest, state)
            heading.append(f"  {text}", "not bold")
        if state.promotion.rule == GREEDY:
            heading.append("  promotion=greedy: no test", "yellow")
        time_left = self._time_left()
        cost = f"spent {state.spent}, {time_left}Ctrl-C stops at the next step"
        return Panel(Group(*parts) if parts else Text("reading data"), title=heading, subtitle=Text(cost))

    def _last_verdict(self) -> str:
        """That of the generation that ended last; in a new session of the newest that has one."""
        if self._verdict:
            return self._verdict
        last = next((g for g in reversed(self._state.generations) if g.reason), None)
        return f"generation {last.number} {last.status}: {printable(last.reason)}" if last else ""

    def _stages(self, generation: Generation) -> Text:
        text, names = Text(), stages_ahead(generation, self._state)
        for stage in names:
            now = self._progress is not None and self._progress.stage == stage
            style = "bold cyan" if now else "green" if stage in generation.stages else "dim"
            text.append(stage, style).append(" > " if stage != names[-1] else "", "dim")
        return text

    def _bar(self) -> Any:
        at = self._progress
        if at is None or not at.total:
            return Text(f"{at.stage} {at.note}" if at else "")
        spent = time.monotonic() - self._stage_began
        seconds_left = spent * (at.total - at.done) / at.done if at.done else 0.0
        row = Table.grid(padding=(0, 1))
        row.add_row(
            f"{at.stage} {at.note}".strip(),
            sparkline(self._losses),
            ProgressBar(total=at.total, completed=at.done, width=40),
            f"{at.done}/{at.total}",
            f"{seconds_left:.0f} s left" if at.done else "",
        )
        return row

    def _standings(self) -> Table:
        state = self._state
        table = Table.grid(padding=(0, 2))
        ahead, candidate = state.ahead[-1:], state.current
        candidate = None if candidate and is_looked_at(candidate) else candidate
        standing = [("champion", state.champion), *(("frontier", g) for g in ahead), ("candidate", candidate)]
        for name, generation in standing:
            if generation is not None:
                measured = numbers_text(metrics(generation, state)) or "not evaluated yet"
                table.add_row(name, f"generation {generation.number}", measured)
        return table

    def _time_left(self) -> str:
        latest = self._state.generations[-_LATEST:]  # drawn four times a second: not over all of a long run
        ended = [g for g in latest if g.status is not Status.UNFINISHED]
        remaining = self._turns.left(self._state)
        if len(ended) < 2 or remaining == 0:
            return ""
        turns = [g.seconds for g in ended if g.is_turn] or [ended[0].seconds]
        current = self._state.current
        spent = current.seconds if current and current.status is Status.UNFINISHED else 0.0
        return f"about {max(0.0, remaining * sum(turns) / len(turns) - spent):.0f} s left, "


def sparkline(values: Sequence[float], width: int = 24) -> str:
    """Values as bars from the least to the largest, the mean of neighbours where they are too many."""
    if len(values) < 2:
        return ""
    edges = [k * len(values) // min(width, len(values)) for k in range(min(width, len(values)) + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    return "".join(_BARS[round((mean - low) / ((high - low) or 1.0) * (len(_BARS) - 1))] for mean in means)


def _title(state: RunState) -> str:
    return f"{state.created.recipe}/{state.created.name}" if state.created else "/starting"


def _resumption(state: RunState) -> str:
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
            left_out = LEFT_OUT.format(left_out=facts.left_out) if facts.left_out else ""
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


_SHOWN = 60
_LATEST = 20
"""So many generations tell how long one takes."""
_FIXED_WIDTH, _SUITE_WIDTH = 46, 16


def generations_table(state: RunState, width: int = FILE_WIDTH) -> Table:
    """Generations: verdict, what each was made from, metrics by suite with intervals, cost.

    Of many, the last ones and the champion. Where ``width`` columns are too few, not what each was made from.
    """
    hidden = max(0, len(state.generations) - _SHOWN)
    shown = [g for g in state.generations[:hidden] if g is state.champion] + state.generations[hidden:]
    measured = [metrics(g, state) for g in shown]
    suites = list(dict.fromkeys((s, _telling(by_suite[s])) for by_suite in measured for s in by_suite))
    table = Table(header_style="bold", box=None, padding=(0, 1, 0, 0))
    statuses = [_status_cell(g, state) for g in shown]
    longer = max([len(cell) - len(Status.PROMOTED) for cell in statuses if "no test" in cell] + [0])
    made_from = width >= _FIXED_WIDTH + longer + _SUITE_WIDTH * (len(suites) + any(g.audit for g in shown))
    origin = ("init", "data by") if made_from else ()
    audited = ("right",) if any(g.audit for g in shown) else ()
    for name in ("gen", "status", *origin, "rows", *audited, *(printable(suite) for suite, _ in suites), "s"):
        is_left = name in ("status", *origin)
        table.add_column(name, justify="left" if is_left else "right", no_wrap=True)
    for g, by_suite, status in zip(shown, measured, statuses, strict=True):
        table.add_row(
            f"{'*' if g is state.champion else '>' if g in state.ahead[-1:] else ' '}{g.number}",
            status,
            *((g.init or "-", _maker_text(g)) if made_from else ()),
            str(g.curate.facts.rows) if g.curate else "-",
            *([_audit_cell(g)] if audited else []),
            *(_estimate_cell(by_suite, *names) for names in suites),
            f"{g.seconds:.0f}",
        )
    names = printable(", ".join(dict.fromkeys(metric for _, metric in suites)))
    notes = ["* champion"] if state.champion else []
    notes += ["> frontier"] if state.ahead else []
    notes += [f"{names} with 95% interval"] if names else []
    notes += ["right: of the rows kept, by the audit"] if audited else []
    notes += [f"the last {_SHOWN} of {len(state.generations)} generations, --json has all"] if hidden else []
    lines = ["; ".join(notes)] if notes else []
    lines += [str(PromotionStatus.of(state))] if state.promotion.rule != EACH else []
    if state.looks and (budget := BudgetStatus.of(state)):
        lines.append(str(budget))
    if state.times_opened:
        lines.append(opened_text(state.times_opened))
        lines += map(printable, gate_beside_sealed_text(state))
    if final := Final.of(state):
        lines.append(printable(final))
    if state.seconds:
        lines.append(f"spent {state.spent}")
    lines += map(printable, audit_text(state))
    if (recorded := held_out(state)) is not None:
        lines.append(printable(held_out_text(recorded)))
    table.caption, table.caption_justify = "\n".join(lines), "left"
    return table


def _audit_cell(generation: Generation) -> Text:
    """Precision of what it kept; in red where the audit finds fault with it."""
    facts = generation.audit.facts if generation.audit else None
    if facts is None or facts.precision is None:
        return Text("unknown" if facts else "")
    return Text(estimate_text(facts.precision, "\n"), "bold red" if facts.fault else "")


def _maker_text(generation: Generation) -> str:
    """Who made its data."""
    if generation.parent is not None:
        return f"gen {generation.parent}"
    return "people" if "curate" in generation.stages else "-"


def _status_cell(generation: Generation, state: RunState) -> Text:
    """A generation's status and flags; of a champion by ``promotion=greedy`` that it had no test."""
    text = Text(str(generation.status), COLOURS[generation.status])
    text.append(", no test" if is_untested(generation, state) else "", "yellow")
    flags = flags_text(generation.recalled, generation.suspect, generation.abandoned)
    return text.append(flags, "magenta")


def flags_text(recalled: bool, suspect: bool, abandoned: bool) -> str:
    """What is said beside a verdict."""
    flags = {"abandoned": abandoned, "recalled": recalled, "suspect": suspect}
    return "".join(f" {flag}" for flag, holds in flags.items() if holds)


def _telling(by_metric: Mapping[str, Interval]) -> str:
    """The metric to show where there is room for one: how far up a ladder, else the mean."""
    return next((metric for metric, number in by_metric.items() if number.unit), min(by_metric))


def _estimate_cell(measured: Metrics, suite: str, metric: str) -> str:
    number = measured.get(suite, {}).get(metric)
    return estimate_text(number, "\n") if number else ""
