"""Weights & Biases: one W&B run a flywheel run, one row a generation. A mirror of the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flywheel.lineage.status import estimates, gate_beside_sealed, metrics
from flywheel.records import Step
from flywheel.storage.events import Event, GenerationEnded, RunEnded, SessionStarted
from flywheel.storage.state import RunState
from flywheel.trackers import NoTracker


@dataclass(kw_only=True)
class Wandb(NoTracker):
    """Log each generation's metrics with intervals, verdict, corpus and cost, and what its fits log.

    Rows of generations have ``generation`` as their axis. Those of fits have keys of their own, as
    ``fit/train/loss``, beside ``fit/generation`` and ``fit/step``; their axis is W&B's own step.

    No source leaves the run by it: neither code nor uncommitted changes. The login is W&B's own, as in
    ``WANDB_API_KEY``. Honours ``WANDB_MODE``; offline, a resumed run starts a new folder of the same W&B run.
    """

    project: str = "flywheel"
    entity: str | None = None
    mode: str | None = None
    """online, offline or disabled; null: as ``WANDB_MODE`` says, else online."""

    def open(self, directory: Path) -> None:
        """Remember where the run lies: W&B's files go beside its ledger."""
        self._directory = directory
        self._run: Any = None
        self._code = 0
        self._keys_of_fits: set[str] = set()

    def event(self, event: Event, state: RunState) -> None:
        """Start with the session; log at the end of a generation and of the run."""
        if isinstance(event, SessionStarted):
            self._start(state)
        elif isinstance(event, GenerationEnded):
            self._log(event.generation, state)
        elif event.event == "run_failed":
            self._code = 1
        if isinstance(event, RunEnded) and self._run is not None:
            self._run.summary["head"] = event.hash  # kept elsewhere: see `verify --head`
        if event.event == "run_finished" and state.champion:
            openings = {"sealed_openings": state.times_opened}
            self._run.summary.update(
                {"champion": state.champion.number, **openings, **_champion_values(state)}
            )

    def metrics(self, step: Step, values: Mapping[str, float]) -> None:
        """Log a row of a fit."""
        if self._run is not None:
            logged = {f"fit/{step.stage}/{name}": value for name, value in values.items()}
            row = {"fit/generation": step.generation, "fit/step": step.step, **logged}
            for key in row.keys() - self._keys_of_fits:
                self._keys_of_fits.add(key)
                if "*" not in key:
                    self._run.define_metric(key)  # with an axis of its own: `generation` is that of "*"
            self._run.log(row)

    def close(self) -> None:
        """Finish the W&B run, if one was started."""
        if self._run is not None:
            self._run.finish(exit_code=self._code)

    def _start(self, state: RunState) -> None:
        import wandb

        created = state.created
        assert created is not None, "a session is one of a run that was created"
        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            mode=self.mode,  # type: ignore[arg-type]
            dir=str(self._directory),
            id=created.hash[:16],
            name=f"{created.recipe}/{created.name}",
            group=created.recipe,
            config=created.config,
            resume="allow",
            reinit="create_new",  # apart from a run that the user has open, whose rows are the user's
            settings=wandb.Settings(disable_code=True, disable_git=True, disable_job_creation=True),
        )
        self._run.define_metric("generation")
        self._run.define_metric("*", step_metric="generation", step_sync=False)  # not in rows of fits
        last = self._run.summary.get("generation", -1) if self._run.resumed else -1
        for generation in state.generations:  # those of earlier sessions, which W&B may not have seen
            if generation is not state.current and generation.number > last:
                self._log(generation.number, state)

    def _log(self, number: int, state: RunState) -> None:
        # W&B drops rows behind its own step, so rows are told apart by `generation`.
        self._run.log(_generation_values(number, state))


def _generation_values(number: int, state: RunState) -> dict[str, Any]:
    generation = state.generations[number]
    measured = {
        f"{suite}/{metric}{'' if part == 'value' else '_' + part}": value
        for suite, metric, interval in estimates(metrics(generation, state))
        for part, value in interval.json().items()
        if part != "unit"
    }
    origins = generation.curate.facts.by_origin if generation.curate else {}
    rows = {f"corpus/{origin}": count for origin, count in origins.items()}
    verdict = {"status": str(generation.status), "reason": generation.reason}
    return {"generation": number, "seconds": generation.seconds, **verdict, **rows, **measured}


def _champion_values(state: RunState) -> dict[str, float]:
    assert state.champion is not None
    measured = estimates(metrics(state.champion, state))
    beside = {
        f"gate - sealed/{both.gate} - {both.sealed}/{both.metric}": both.difference
        for both in gate_beside_sealed(state)
    }
    return {f"champion/{suite}/{metric}": interval.value for suite, metric, interval in measured} | beside
