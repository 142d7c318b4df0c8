"""Any logger of Lightning as a tracker, by its class path: TensorBoard, CSV, MLflow, Comet, ..."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flywheel.config.recorded import recorded_config
from flywheel.curves import steps_before
from flywheel.records import Step
from flywheel.storage.events import Event
from flywheel.storage.state import RunState
from flywheel.trackers.mirror import Mirror
from flywheel.trackers.rows import EVALUATE, GENERATE, TRAIN, TRIALS, Row

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger


class LightningLogger(Mirror):
    """Logs to a logger of Lightning by one step: the optimiser steps of all fits of the run so far.

    Hyperparameters are the configuration that the session recorded. Metrics are the numbers of
    ``flywheel.trackers.rows``: those of fits, while they are under way, and those of generations, at the last
    step of the fits so far. A session begins with all that earlier ones logged. Trials, which have no place
    among these steps, are left out.
    """

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._seen: set[tuple[int, str]] = set()
        """Step and name of what was logged of the fit under way."""

    def begin(self, state: RunState) -> None:
        """Log the configuration."""
        assert state.created is not None, "a session is one of a run that was created"
        assert state.session is not None, "and has begun"
        name = f"{state.created.recipe}/{state.created.name}"
        self._logger.log_hyperparams({"run": name, **recorded_config(self._directory, state.session)})
        self._status = "success"

    def caught_up(self) -> None:
        """Have the logger write."""
        self._logger.save()

    def event(self, event: Event, state: RunState) -> None:
        """Log the rows of an event."""
        super().event(event, state)
        if event.event == "generation_ended":
            self._logger.save()
        self._status = "failed" if event.event == "run_failed" else "success"

    def row(self, row: Row, state: RunState) -> None:
        """Log its numbers, but for those that were logged while the fit went on."""
        if row.axis in (TRIALS, GENERATE, EVALUATE):  # they have steps of their own
            return
        number = state.generations[-1].number
        step = row.values[TRAIN] if row.axis == TRAIN else steps_before(number + 1, state)
        values = {name: float(value) for name, value in row.values.items() if isinstance(value, int | float)}
        own = {name: value for name, value in values.items() if name != TRAIN}
        seen = self._seen if row.axis == TRAIN else set()
        self._log({name: value for name, value in own.items() if (step, name) not in seen}, step)
        if row.axis != TRAIN:
            self._seen.clear()

    def metrics(self, step: Step, values: Mapping[str, float]) -> None:
        """Log what a fit of a generation logs."""
        if self._rows is not None and step.trial is None:
            named = {f"train/{name}": float(value) for name, value in values.items()}
            named["train/generation"] = float(step.generation)
            self._seen.update((step.total, name) for name in named)
            self._log(named, step.total)

    def close(self) -> None:
        """Have the logger write what is left, and end what it has open."""
        if self._rows is None:
            return
        self._logger.finalize(self._status)
        experiment: Any = getattr(self._logger, "_experiment", None)
        if hasattr(experiment, "finish"):  # W&B's, which Lightning leaves to an exit hook
            experiment.finish(exit_code=int(self._status == "failed"))

    def _log(self, values: dict[str, float], step: int) -> None:
        if values:
            self._logger.log_metrics(values, step)
