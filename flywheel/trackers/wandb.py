"""Weights & Biases: one W&B run a flywheel run, a mirror of its ledger. See docs/trackers.md."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flywheel.config.credentials import without_secrets, without_secrets_in_html
from flywheel.config.recorded import recorded_config
from flywheel.errors import ConfigError
from flywheel.records import Answer, Step
from flywheel.storage import ledger
from flywheel.storage.events import (
    Event,
    GenerationEnded,
    RunEnded,
    SessionStarted,
    StageDone,
)
from flywheel.storage.state import RunState, Status
from flywheel.storage.store import Store
from flywheel.trackers import NoTracker
from flywheel.trackers.alerts import DEFAULT, KINDS, alert_of
from flywheel.trackers.console import printable
from flywheel.trackers.rows import (
    EVALUATE,
    GENERATE,
    GENERATION,
    TRAIN,
    Row,
    Rows,
    Values,
    fit_row,
    summary_values,
)
from flywheel.trackers.tables import SmallTable, tables_of
from flywheel.trackers.wandb_artifacts import HOW, REFERENCE, Artifacts
from flywheel.trackers.wandb_session import (
    DISABLED,
    OFFLINE,
    is_agents,
    mode_of,
    place_of,
    set_earlier_aside,
    settings,
    shown_at,
)

MODES = (None, "online", OFFLINE, DISABLED)
LINE, INDEX = "ledger/line", "ledger/row"
"""Of a row: the line of the ledger that it is of, and its place among the rows of that line."""
_HIDDEN = (
    *(GENERATION, LINE, INDEX, TRAIN, GENERATE, EVALUATE),
    *("train/generation", "generate/generation", "evaluate/generation"),
)
_LIVE_AFTER_SECONDS = 10.0
"""A fit that takes no longer is seen when it has ended, as the ledger has it."""
_LIVE_EVERY_SECONDS = 2.0


class Synced(Answer, frozen=True):
    """What came of replaying a run into W&B."""

    place: str
    """The run's address, or its folder."""
    rows: int
    """How many were logged: those that W&B did not have."""


@dataclass(kw_only=True)
class Wandb(NoTracker):
    """Shows a run in W&B: rows with their axes, small tables, alerts, and champions as artifacts.

    What is shown is derived from the ledger, see ``rows``; only a long fit is shown while it is under way. A
    resumed run goes on in the same W&B run: each row says of which line of the ledger it is, and what W&B has
    already is left out. Offline a resumed run starts a new folder, which holds all from the start.

    Of source code, credentials and the environment nothing gets into W&B. The login is W&B's own, as in
    ``WANDB_API_KEY``; without one the run is offline.
    """

    project: str = "flywheel"
    entity: str | None = None
    mode: str | None = None
    """online, offline or disabled; null: as ``WANDB_MODE`` says, else online if there is a login."""
    artifacts: str | None = REFERENCE
    """Weights, corpus and settings of promoted generations: by ``reference``, as a ``copy``; null: none."""
    artifacts_kept: int = 5
    """How many promoted generations have artifacts, the newest."""
    samples: int = 20
    """Rows of each table of samples, trials and outcomes; 0: no tables."""
    alerts: list[str] = field(default_factory=lambda: list(DEFAULT))
    """Of what W&B sends a message; see ``trackers.alerts``."""

    def __post_init__(self) -> None:
        self.alerts = list(self.alerts)
        for key, value, known in (("mode", self.mode, MODES), ("artifacts", self.artifacts, HOW)):
            if value not in known:
                raise ConfigError(f"tracker.{key} must be one of {_listed(known)}; it is {value!r}.")
        if unknown := [kind for kind in self.alerts if kind not in KINDS]:
            raise ConfigError(f"tracker.alerts must be some of {_listed(KINDS)}; they have {unknown[0]!r}.")
        if self.artifacts_kept < 1 or self.samples < 0:
            raise ConfigError(
                f"tracker.artifacts_kept must be 1 or more, tracker.samples 0 or more; they are "
                f"{self.artifacts_kept} and {self.samples}. artifacts=null logs none."
            )
        self.task: Any = None
        """The recipe's task, whose ``show`` says how people see a sample; None: as its columns say."""
        self._run: Any = None
        self._code = self._logged = 0
        self._state: RunState | None = None
        self._defined: set[str] = set()
        self._has = (-1, 0)
        self._fit = _Fit()
        self._artifacts: Artifacts | None = None

    def open(self, directory: Path) -> None:
        """Remember where the run lies: W&B's files go beside its ledger."""
        import wandb  # noqa: F401  - in this thread, while the run goes on

        self._directory, self._store = directory, Store(directory)
        self._rows = Rows(self._store)

    def event(self, event: Event, state: RunState) -> None:
        """Start with the session, with what earlier ones left; then log what each event says."""
        if self._run is None and isinstance(event, SessionStarted):
            if (mode := mode_of(self.mode)) == DISABLED:
                return
            run = self._start(state, mode)
            said = shown_at(run, self._directory, self.mode)
            print(printable(f"tracker.wandb: {said}"), file=sys.stderr)
            self._replay(ledger.read(self._directory)[: event.seq + 1])
        elif self._run is not None:
            self._log_event(event, state)
            self._send_alert(event, state)

    def metrics(self, step: Step, values: Mapping[str, float]) -> None:
        """Log what the fit of a generation logs, if it takes long."""
        if self._run is not None and step.trial is None:
            for row in self._fit.add(step, values, time.monotonic()):
                self._log_row(row)

    def close(self) -> None:
        """Finish the W&B run, if one was started."""
        if self._run is not None:
            if self._artifacts and self._state:
                self._artifacts.close(self._state)
            self._run.finish(exit_code=self._code)

    def sync(self, directory: Path, mode: str, asked: Mapping[str, str] | None = None) -> Synced:
        """Log all that a run's ledger says and W&B does not have yet. Raises what ``wandb.init`` raises.

        ``asked``: ``project`` and ``entity``, where they are to be others than those that the run has.
        """
        self.open(directory)
        events = ledger.read(directory)
        self._start(RunState.replay(events), mode, asked)
        self._replay(events)
        place = Path(self._run.dir).parent if mode == OFFLINE else self._run.url
        self.close()
        return Synced(str(place), self._logged)

    def _start(self, state: RunState, mode: str | None, asked: Mapping[str, str] | None = None) -> Any:
        """Open the W&B run, and return it."""
        self._run = self._open(mode, state, asked or {})
        for key in _HIDDEN:
            self._run.define_metric(key, hidden=True)
        self._defined.update(_HIDDEN)
        before = self._run.summary if self._run.resumed else {}
        self._has = (before.get(LINE, -1), before.get(INDEX, 0))
        self._fit = _Fit(before.get("train/generation", -1), before.get(TRAIN, 0))
        self._run.summary["promotion"] = str(state.promotion)  # greedy says that it is no test
        if self.artifacts:
            where = (self._run, self._store, self.artifacts, self.artifacts_kept)
            self._artifacts = Artifacts(*where, is_offline=mode == OFFLINE)
        return self._run

    def _replay(self, events: Iterable[Event]) -> None:
        """Log what a run's events say, from the first one; what W&B has already is left out."""
        state = RunState()
        for event in events:
            state.apply(event)
            self._log_event(event, state)

    def _open(self, mode: str | None, state: RunState, asked: Mapping[str, str]) -> Any:
        import wandb

        created = state.created
        assert created is not None, "a session is one of a run that was created"
        own = {"project": self.project, "entity": self.entity}
        ours = {**own, **place_of(self._directory, created), **asked}
        if mode == OFFLINE:
            set_earlier_aside(self._directory, str(ours["id"]))
        return wandb.init(
            **({} if is_agents() else ours),  # type: ignore[arg-type]  # the agent has said them
            mode=mode,  # type: ignore[arg-type]
            dir=str(self._directory),
            name=f"{created.recipe}/{created.name}",
            group=created.recipe,
            config=_config(state, self._directory),
            allow_val_change=True,  # operational keys may change from session to session
            resume="allow",
            reinit="create_new",  # apart from a run that the user has open, whose rows are the user's
            settings=settings(mode),
        )

    def _log_event(self, event: Event, state: RunState) -> None:
        self._state = state
        if event.seq < self._has[0]:
            self._rows.of(event, state)  # it counts steps of trials
            return
        rows = self._rows.of(event, state)
        if isinstance(event, StageDone) and event.stage == "train":
            for row in self._fit.end(event.generation, rows):
                self._log_row(row)
            return
        for index, row in enumerate(rows):
            if (event.seq, index) > self._has:
                where = {LINE: event.seq, INDEX: index}
                self._log_row(Row(row.axis, row.values | where | self._tables(event, index, state)))
        if event.seq > self._has[0]:
            self._note(event, state)

    def _note(self, event: Event, state: RunState) -> None:
        """What an event says beside its rows."""
        if isinstance(event, GenerationEnded) and event.status is Status.PROMOTED and self._artifacts:
            self._artifacts.promoted(state.generations[event.generation], state)
        if isinstance(event, RunEnded):
            self._run.summary.update(_clean(summary_values(event, state)))
        self._code = int(event.event == "run_failed") if isinstance(event, RunEnded) else self._code

    def _tables(self, event: Event, index: int, state: RunState) -> dict[str, Any]:
        """Tables of a generation that has ended, in its first row."""
        if not isinstance(event, GenerationEnded) or index or not self.samples:
            return {}
        generation = state.generations[event.generation]
        tables = tables_of(generation, state, self._store, self.samples, self.task)
        return {f"tables/{name}": _table(table) for name, table in tables.items()}

    def _send_alert(self, event: Event, state: RunState) -> None:
        alert = alert_of(event, state)
        if alert and alert.kind in self.alerts:
            self._run.alert(alert.title, without_secrets(alert.text), "ERROR" if alert.is_error else "WARN")

    def _log_row(self, row: Row) -> None:
        for key in sorted(row.values.keys() - self._defined):
            self._defined.add(key)
            if "*" not in key:  # W&B takes it for a pattern
                self._run.define_metric(key, step_metric=row.axis, step_sync=False)
        self._run.log(_clean(row.values))
        self._logged += 1


class _Fit:
    """What W&B has of the fit under way: short ones nothing, until their curve is in the ledger."""

    def __init__(self, generation: int = -1, has: int = 0) -> None:
        self._generation, self._first = generation, has
        self._has: dict[str, int] = {}
        self._began: float | None = None
        self._logged_at = 0.0
        self._old: dict[int, dict[str, float]] = {}
        self._new: dict[int, dict[str, float]] = {}

    def add(self, step: Step, values: Mapping[str, float], now: float) -> list[Row]:
        """Rows to log now. Values wait a little: those of a step do not all come at once."""
        if self._began is None or step.generation != self._generation:
            self._begin(step.generation, now)
        self._new.setdefault(step.total, {}).update(values)
        is_due = now - self._logged_at >= _LIVE_EVERY_SECONDS
        if not is_due or now - (self._began or now) < _LIVE_AFTER_SECONDS:
            return []
        self._logged_at = now
        rows = [fit_row(self._generation, total, values) for total, values in sorted(self._old.items())]
        self._old, self._new = self._new, {}
        return self._left(rows)

    def end(self, generation: int, rows: list[Row]) -> list[Row]:
        """The rows of the curve in the ledger that W&B does not have."""
        if generation != self._generation:
            self._begin(generation, 0.0)
        self._old, self._new, self._began = {}, {}, None
        return self._left(rows)

    def _begin(self, generation: int, now: float) -> None:
        if generation != self._generation:
            self._generation, self._first = generation, 0
        self._has, self._began, self._logged_at, self._old, self._new = {}, now, now, {}, {}

    def _left(self, rows: list[Row]) -> list[Row]:
        """The rows with the values beyond what W&B has of their names."""
        left = []
        for row in rows:
            total = row.values[TRAIN]
            values = {
                key: value
                for key, value in row.values.items()
                if key not in _HIDDEN and total > self._has.get(key, self._first)
            }
            if values:
                self._has |= dict.fromkeys(values, int(total))
                where = {key: row.values[key] for key in (TRAIN, "train/generation")}
                left.append(Row(TRAIN, where | values))
        return left


def _config(state: RunState, directory: Path) -> dict[str, Any]:
    """The whole configuration of the last session, as the ledger has it: credentials by name."""
    session = state.session
    assert session is not None, "a run that is shown has begun"
    config = recorded_config(directory, session)
    about = {"compute": session.compute, "versions": session.versions, "commit": session.commit}
    return {**config, "session": {**about, "world_size": session.world_size, "threads": session.threads}}


def _table(table: SmallTable) -> Any:
    """A W&B table; a column with a picture or HTML of a sample is one of HTML."""
    import wandb

    from flywheel.views import View

    columns = list(zip(*table.rows, strict=True))
    rich = {
        number
        for number, cells in enumerate(columns)
        if any(isinstance(cell, View) and (cell.pictures or cell.html) for cell in cells)
    }
    rows = [[_cell(cell, number in rich) for number, cell in enumerate(row)] for row in table.rows]
    return wandb.Table(columns=list(table.columns), data=rows, allow_mixed_types=True)


def _cell(cell: Any, is_rich: bool) -> Any:
    from flywheel.views import View, html_of

    if not isinstance(cell, View):
        return cell if isinstance(cell, int | float | bool | None) else without_secrets(str(cell))
    if not is_rich:
        return without_secrets(cell.text)
    import wandb

    return wandb.Html(without_secrets_in_html(html_of(cell)), inject=False)


def _clean(values: Values) -> Values:
    """Values as they leave the machine: a reason may quote what a recipe's code said."""
    return {key: without_secrets(value) if isinstance(value, str) else value for key, value in values.items()}


def _listed(known: Iterable[str | None]) -> str:
    return ", ".join("null" if value is None else value for value in known)
