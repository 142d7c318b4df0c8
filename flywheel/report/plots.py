"""The report's pictures one by one, for a notebook: ``run.plot.progress()`` and so on.

Each call reads the run anew, so that a run in progress is redrawn by calling again, or by ``live=True``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from flywheel.errors import ConfigError, RunError, near_misses
from flywheel.lineage.generation import Which
from flywheel.lineage.record import Record
from flywheel.records import LAST
from flywheel.report import charts
from flywheel.report.figures import Curve, curves
from flywheel.report.generations import Details, chosen
from flywheel.report.headline import state_of
from flywheel.report.lineage import picture
from flywheel.report.page import fragment
from flywheel.report.samples import BY_COLUMNS, samples_of
from flywheel.report.training import training_curves
from flywheel.report.tuning import studies
from flywheel.storage.reader import reread_when_pruned
from flywheel.storage.state import RunStateName
from flywheel.views import Viewer

if TYPE_CHECKING:
    import altair as alt

T = TypeVar("T")
_WIDTH = 640


@dataclass(frozen=True, slots=True)
class Fragment:
    """A piece of HTML that shows itself in a notebook, in a frame in which no script runs."""

    html: str = field(repr=False)
    height: int
    """Pixels of the frame."""

    def _repr_html_(self) -> str:
        source = escape(self.html, quote=True)
        style = f"width:100%;height:{self.height}px;border:0"
        return f'<iframe sandbox style="{style}" srcdoc="{source}"></iframe>'


@dataclass(frozen=True)
class Plots:
    """Pictures of a run."""

    directory: Path
    viewer: Callable[[], Viewer] = lambda: BY_COLUMNS
    """Makes what shows samples, when it is asked for."""

    def progress(
        self, suite: str | None = None, metric: str | None = None, *, live: bool = False, seconds: float = 5.0
    ) -> alt.LayerChart:
        """A metric of a suite over generations, with its intervals; default: what the report shows first.

        ``live``: draw it again every so many ``seconds`` while another process runs the run, and return when
        it ends. Raises RunError if there is no such figure yet, ConfigError for ``live`` outside a notebook.
        """
        drawn: alt.LayerChart = self._drawn(
            lambda: charts.progress(self._curve(suite, metric)), live, seconds
        )
        return drawn

    def training(self, *, live: bool = False, seconds: float = 5.0) -> alt.VConcatChart:
        """What the fits logged, the loss first. Raises as ``progress`` does."""

        def make() -> Any:
            curves_ = self._ask(lambda record: training_curves(record, chosen(record.state)))
            if not curves_:
                raise RunError(f"{self.directory} has no training curve yet.")
            each = [charts.training(curve).properties(title=curve.name, width=_WIDTH) for curve in curves_]
            return charts.altair().vconcat(*each)

        drawn: alt.VConcatChart = self._drawn(make, live, seconds)
        return drawn

    def tuning(self) -> alt.VConcatChart:
        """Trials, and what made their scores differ. Raises RunError if nothing was tried."""
        found = self._ask(lambda record: studies(record, chosen(record.state)))
        if not any(trial.score is not None for study in found for trial in study.trials):
            raise RunError(f"{self.directory} has no trial with a score: choose a tuner, e.g. tuner=optuna.")
        made: list[Any] = [charts.trials(found).properties(width=_WIDTH, title="trials")]
        known = [study for study in found if study.importance]
        if known:
            title = f"importance of settings, generation {known[-1].generation}"
            made.append(charts.importance(known[-1].importance).properties(width=_WIDTH, title=title))
        drawn: alt.VConcatChart = charts.altair().vconcat(*made)
        return drawn

    def lineage(self) -> Fragment:
        """The lineage as a picture. Raises RunError before there is a generation."""
        drawn = self._ask(lambda record: picture([*map(Details(record).of, chosen(record.state))]))
        if drawn is None:
            raise RunError(f"{self.directory} has no generation yet.")
        return Fragment(fragment("lineage.svg", p=drawn), round(drawn.height) + 40)

    def samples(self, generation: Which = LAST) -> Fragment:
        """Some samples of a generation's turn, kept and dropped. Raises RunError if it has none to show."""
        viewer = self.viewer()
        one = self._ask(lambda record: record.generation(generation))
        found = self._ask(lambda record: samples_of(record, record.generation(one.number), viewer))
        if not (found.kept or found.dropped):
            raise RunError(
                f"Generation {one.number} of {self.directory} has no samples to show. {found.note}"
            )
        return Fragment(fragment("samples.html", samples=found, number=one.number), 520)

    def _ask(self, question: Callable[[Record], T]) -> T:
        """Its answer to the run as it is now."""

        @reread_when_pruned
        def answer(directory: Path) -> T:
            return question(Record.read(directory))

        return answer(self.directory)

    def _state(self) -> RunStateName:
        return self._ask(lambda record: state_of(self.directory, record.state))

    def _curve(self, suite: str | None, metric: str | None) -> Curve:
        known = self._ask(lambda record: curves(record.state))
        fitting = [c for c in known if suite in (None, c.suite) and metric in (None, c.metric)]
        if not fitting:
            names = [f"{c.suite}/{c.metric}" for c in known]
            asked = f"{suite or '*'}/{metric or '*'}"
            raise RunError(
                f"Expected a suite and metric of {self.directory}: {', '.join(names) or 'none yet'}; "
                f"got {asked}.{near_misses(asked, names)}"
            )
        return fitting[0]

    def _drawn(self, make: Callable[[], Any], live: bool, seconds: float) -> Any:
        """A chart; while the run goes on and it is to be live, again and again."""
        while live and self._state() is RunStateName.RUNNING:
            display, clear = _notebook()
            clear(wait=True)
            display(_wide(make()))
            time.sleep(seconds)
        return _wide(make())


def _wide(chart: Any) -> Any:
    return chart if hasattr(chart, "vconcat") else chart.properties(width=_WIDTH)


def _notebook() -> tuple[Any, Any]:
    try:
        from IPython.display import clear_output, display
    except ImportError as error:
        raise ConfigError("Expected a notebook for live=True, got a Python without IPython.") from error
    return display, clear_output
