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
from flywheel.lineage.status import metrics
from flywheel.records import Progress, Step
from flywheel.storage.events import (
    CodeChanged,
    Event,
    FellBack,
    GenerationEnded,
    GenerationStarted,
    SessionStarted,
    StageDone,
)
from flywheel.storage.policy import GREEDY
from flywheel.storage.state import Generation, RunState, Status
from flywheel.trackers import NoTracker
from flywheel.trackers.console import plain_console, printable, wide_console
from flywheel.trackers.event_text import (
    begun_text,
    ending_text,
    frontier_text,
    is_looked_at,
    look_text,
    numbers_text,
    outcome_text,
    resumption,
    rule_text,
    stage_text,
    stages_ahead,
    title,
    verdict_text,
)
from flywheel.trackers.standings import generations_table

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from flywheel.protocols import Tracker

_PLAIN_PROGRESS_SECONDS = 10.0
_WITH_FITS = ("train", "tune")
_BARS = "▁▂▃▄▅▆▇█"
_LATEST = 20
"""So many generations tell how long one takes."""


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
                return "\n".join([f"{title(state)}: {resumption(state)}", *rule_text(state)])
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
        heading = Text(title(state), "bold")
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
