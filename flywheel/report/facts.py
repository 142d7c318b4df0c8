"""All that a report says of one run: plain facts, computed once, from the ledger and its artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flywheel.lineage.record import Record
from flywheel.report.checks import AuditRow, GuardRow, LookRow, audit_rows, guard_rows, look_rows
from flywheel.report.controls import ControlTable, control_tables
from flywheel.report.figures import Curve, curves
from flywheel.report.generations import Details, GenerationDetail, chosen
from flywheel.report.headline import Headline, headline
from flywheel.report.lineage import Picture, picture
from flywheel.report.samples import BY_COLUMNS
from flywheel.report.training import TrainingCurve, training_curves
from flywheel.report.tuning import Study, config_rows, studies
from flywheel.storage.events import Recalled
from flywheel.storage.reader import reread_when_pruned
from flywheel.storage.state import RunState
from flywheel.views import Viewer


@dataclass(frozen=True, slots=True)
class RecallRow:
    """A recall."""

    by: str
    why: str
    generations: tuple[int, ...]
    suspect: tuple[int, ...]


@dataclass(frozen=True)
class RunFacts:
    """What a report of one run says."""

    name: str
    """RECIPE/NAME."""
    recipe: str
    headline: Headline
    curves: tuple[Curve, ...]
    champions: Mapping[int, str]
    """Those that sealed suites were opened for, and what they are called."""
    details: tuple[GenerationDetail, ...]
    made: int
    """Generations of the run; those of ``details`` may be fewer."""
    picture: Picture | None
    recalls: tuple[RecallRow, ...]
    training: tuple[TrainingCurve, ...]
    studies: tuple[Study, ...]
    config: tuple[tuple[str, str], ...]
    guards: tuple[GuardRow, ...]
    audits: tuple[AuditRow, ...]
    looks: tuple[LookRow, ...]
    alpha: float | None
    """The run's error budget; None: nothing is tested."""
    controls: tuple[ControlTable, ...]
    head: str
    """SHA-256 of the last line that was read."""
    lines: int
    """Of the ledger then."""
    views_by: str
    """Why samples are shown by their columns and not by the recipe; empty: they are as it says."""


@reread_when_pruned
def run_facts(directory: Path, viewer: Viewer = BY_COLUMNS) -> RunFacts:
    """What a report of a run says. Raises DamagedError if it is not as written."""
    record = Record.read(directory)
    state, made = record.state, chosen(record.state)
    details = Details(record, viewer)
    shown = tuple(map(details.of, made))
    created = state.created
    recipe = created.recipe if created else ""
    return RunFacts(
        name=f"{recipe}/{directory.resolve().name}",
        recipe=recipe,
        headline=headline(record),
        curves=curves(state),
        champions=_champions(state),
        details=shown,
        made=len(state.generations),
        picture=picture(shown),
        recalls=tuple(
            RecallRow(event.by, event.why, event.generations, event.suspect)
            for event in record.events
            if isinstance(event, Recalled)
        ),
        training=training_curves(record, made),
        studies=studies(record, made),
        config=tuple(config_rows(created.config if created else {})),
        guards=guard_rows(made),
        audits=audit_rows(state),
        looks=look_rows(state),
        alpha=created.error_budget.alpha if created and state.looks else None,
        controls=control_tables(directory, state),
        head=record.head,
        lines=len(record.events),
        views_by=viewer.why,
    )


def _champions(state: RunState) -> dict[int, str]:
    """The first champion, the one in force and its refit: all others' sealed figures are of no use now."""
    named = {"final": state.final, "in force": state.champion, "first champion": state.first_champion}
    names = {g.number: f"{name}, generation {g.number}" for name, g in named.items() if g}
    return {number: names[number] for number in sorted(names) if number in state.sealed}
