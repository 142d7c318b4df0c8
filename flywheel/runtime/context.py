"""What every stage is given and what it gives back, and the one way to run it.

A stage takes a ``Context`` and the artifacts it works on, and returns ``StageOutput``: values to store as
artifacts, and small facts for the ledger. Run again with the same inputs it makes the same outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from flywheel.config.components import Components
from flywheel.errors import DataError
from flywheel.keys import Key
from flywheel.protocols import Executor
from flywheel.records import Carry, Json, Role, Settings
from flywheel.runtime.data import Data
from flywheel.runtime.meter import Meter
from flywheel.runtime.stop import Stop
from flywheel.runtime.work import Work
from flywheel.storage.events import PRUNABLE, Fields
from flywheel.storage.ledger import canonical
from flywheel.storage.store import Store

if TYPE_CHECKING:
    import lightning


class Decisions(msgspec.Struct, frozen=True):
    """What a clock, a price or a file decides for a stage: recorded once, and replayed."""

    recorded: Mapping[str, int | str] = msgspec.field(default_factory=dict)
    """What was decided in an earlier session, or is reproduced."""
    record: Callable[[str, int | str, str], None] | None = None
    """Record what is decided, its value, and the reason, on all ranks; None: nothing new is decided."""


ReportProgress = Callable[[int, int | None, str], None]
ReportMetrics = Callable[[int, Mapping[str, float], int | None], None]


@dataclass(frozen=True, slots=True)
class Context:
    """What a stage may use besides the artifacts it is given."""

    generation: int
    key: Key
    """Randomness of this stage of this generation."""
    root: Key
    """That of the run."""
    settings: Settings
    """Those in force: the configured ones, or what the tuner chose once it has."""
    components: Components
    store: Store
    data: Data
    carry: Mapping[str, Carry]
    stop: Stop
    work: Work
    """Does what the stage cuts into units."""
    report_progress: ReportProgress
    """Report progress: done, total, note."""
    report_metrics: ReportMetrics
    """Report what a fit logged: step, values by name, and the number of the trial or None."""
    decisions: Decisions = field(default_factory=Decisions)
    trial: int | None = None
    """Number of the trial that a fit is of, in the stage ``tune``."""

    def load_model(self, weights: str, settings: Settings) -> lightning.LightningModule:
        """A model with the weights of an artifact, in evaluation mode, on this rank's device."""
        from flywheel.runtime.weights import load_model

        return load_model(self.components, self.store, weights, settings)


@dataclass(frozen=True, slots=True)
class StageOutput:
    """What a stage made."""

    outputs: Mapping[str, Any] = field(default_factory=dict)
    """Name -> Arrow table, state dict or JSON value; stored as artifacts."""
    facts: Fields | None = None
    """Small values for the ledger, of the stage's type in ``storage.events``; None on ranks other than 0."""
    unit_seconds: float | None = None
    """Wall time of its units together; None: it has none."""


class Stage(msgspec.Struct, frozen=True):
    """A row of the table of stages, ``flywheel.stages.table``."""

    name: str
    function: Callable[..., StageOutput]
    part: str | None = None
    """Section of the configuration behind it. Its carry, if it has one, is that part's."""
    on_all_ranks: bool = False
    """Whether all ranks take part; else rank 0 does it alone."""
    has_carry: bool = False
    of_a_turn: bool = False
    """Whether every turn goes through it."""
    sees: tuple[Role, ...] = ()
    """Roles of the suites that it holds. What makes or chooses data for a turn sees no item that judges."""

    @property
    def prunable(self) -> tuple[str, ...]:
        """Its outputs that a retention policy may let go."""
        return PRUNABLE.get(self.name, ())


@dataclass(slots=True)
class StageTools:
    """What the stages of one process share: the loop's, those that are reproduced, those under test."""

    components: Components
    store: Store
    data: Data
    stop: Stop
    executor: Executor
    work: Path | None = None
    """``RUN/work``, where finished units are kept; None: nowhere."""

    def run(
        self,
        stage: Stage,
        generation: int,
        root: Key,
        settings: Settings,
        *,
        carry: Mapping[str, Carry] | None = None,
        conditions: Json = None,
        reports: tuple[ReportProgress, ReportMetrics] = (lambda *_: None, lambda *_: None),
        meter: Meter | None = None,
        decisions: Decisions | None = None,
        **inputs: Any,
    ) -> StageOutput:
        """Run a stage; ``root``: the root of the run's randomness. Nothing is recorded.

        ``reports``: how progress and a fit's metrics are reported. ``meter``: what counts the cost.
        ``conditions``: what units depend on besides a stage's inputs; others discard those that are kept.
        ``decisions``: those that are replayed.
        """
        key, resolved = root(generation, stage.name), self.components.resolved
        ctx = Context(
            generation=generation,
            key=key,
            root=root,
            settings=settings,
            components=self.components,
            store=self.store,
            data=self.data.view(stage.sees),
            carry=carry or {},
            stop=self.stop,
            work=Work(
                executor=self.executor,
                folder=self.work and self.work / stage.name,
                stage={"stage": stage.name, "generation": generation},
                conditions=[key.seed, settings, conditions],
                skip_failures=resolved["on_unit_failure"] == "skip",
                report_progress=reports[0],
                meter=meter or Meter(),
            ),
            report_progress=reports[0],
            report_metrics=reports[1],
            decisions=decisions or Decisions(),
        )
        ctx.key.seed_globals()  # whatever a recipe draws from does not depend on what came before
        return stage.function(ctx, **inputs)


def carry_of(component: Any, carry: Carry) -> tuple[dict[str, Json], str]:
    """A component's carry as an output, and when it is kept: always, or only with a promotion."""
    try:
        canonical(carry)
    except (TypeError, ValueError) as error:
        raise DataError(f"The carry of {type(component).__name__} must be JSON: {error}.") from error
    return {"carry": dict(carry)}, getattr(component, "carry_kept", "promotion")
