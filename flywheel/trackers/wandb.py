"""Weights & Biases: one W&B run a flywheel run, one row a generation. A mirror of the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flywheel.lineage.status import estimates, gate_beside_sealed, metrics
from flywheel.records import Step
from flywheel.storage.events import Event, GenerationEnded, Look, RunEnded, SessionStarted
from flywheel.storage.policy import FRONTIER
from flywheel.storage.state import Generation, RunState, Status
from flywheel.trackers import NoTracker


@dataclass(kw_only=True)
class Wandb(NoTracker):
    """Log each generation's metrics with intervals, verdict, corpus and cost, and what its fits log.

    Rows of generations have ``generation`` as their axis. Those of fits have keys of their own, as
    ``fit/train/loss``, beside ``fit/generation`` and ``fit/step``; their axis is W&B's own step. Looks at a
    frontier have keys under ``look/``, with ``look/number`` as their axis.

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
        self._defined: set[str] = set()

    def event(self, event: Event, state: RunState) -> None:
        """Start with the session; log at the end of a generation and of the run."""
        if isinstance(event, SessionStarted):
            self._start(state)
        elif isinstance(event, GenerationEnded):
            if (look := frontier_look(event.generation, state)) is None:
                self._log(event.generation, state)
            else:
                self._log_look(look, state)
        elif event.event == "run_failed":
            self._code = 1
        if isinstance(event, RunEnded) and self._run is not None:
            self._run.summary["head"] = event.hash  # kept elsewhere: see `verify --head`
        if event.event == "run_finished" and state.champion:
            openings = {"sealed_openings": state.times_opened}
            ahead = {"frontier": state.ahead[-1].number} if state.ahead else {}
            self._run.summary.update(
                {"champion": state.champion.number, **ahead, **openings, **_champion_values(state)}
            )

    def metrics(self, step: Step, values: Mapping[str, float]) -> None:
        """Log a row of a fit."""
        if self._run is not None:
            logged = {f"fit/{step.stage}/{name}": value for name, value in values.items()}
            row = {"fit/generation": step.generation, "fit/step": step.step, **logged}
            self._define(row)
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
        self._run.summary["promotion"] = str(state.promotion)  # greedy says that it is no test
        before = self._run.summary if self._run.resumed else {}
        for generation in state.generations:  # those of earlier sessions, which W&B may not have seen
            is_ended = generation.status is not Status.UNFINISHED
            if is_ended and generation.number > before.get("generation", -1):
                self._log(generation.number, state)
        for look in state.looks:
            is_ended = state.current is None or look.generation != state.current.number
            is_frontier = frontier_look(look.generation, state) is not None
            if is_frontier and is_ended and look.number > before.get("look/number", 0):
                self._log_look(look, state)

    def _define(self, row: Mapping[str, Any], axis: str | None = None) -> None:
        """Have the keys of a row an axis, or W&B's own: ``generation`` is that of all others."""
        for key in sorted(row.keys() - self._defined):
            self._defined.add(key)
            if "*" not in key:
                self._run.define_metric(key, step_metric=None if key == axis else axis, step_sync=False)

    def _log_look(self, look: Look, state: RunState) -> None:
        row = _look_values(look, state)
        self._define(row, "look/number")
        self._run.log(row)

    def _log(self, number: int, state: RunState) -> None:
        # W&B drops rows behind its own step, so rows are told apart by `generation`.
        self._run.log(_generation_values(number, state))


def frontier_look(number: int, state: RunState) -> Look | None:
    """The look at a generation, if it had advanced before: it ends twice, and has a row for each."""
    return state.generations[number].look if state.promotion.rule == FRONTIER else None


def _look_values(look: Look, state: RunState) -> dict[str, Any]:
    """A row of its own: that of its generation is behind those of the generations since."""
    values = {**_generation_values(look.generation, state), "number": look.number, "level": look.level}
    return {f"look/{name}": value for name, value in values.items()}


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
    own = {**_tune_values(generation), **_audit_values(generation)}
    return {"generation": number, "seconds": generation.seconds, **verdict, **rows, **own, **measured}


def _audit_values(generation: Generation) -> dict[str, Any]:
    """What a trusted grader found of the samples that were kept."""
    facts = generation.audit.facts if generation.audit else None
    if facts is None:
        return {}
    found = {"precision": facts.precision, "recall": facts.recall}
    found |= {f"gap_{name}": gap for name, gap in facts.gaps.items()}
    values: dict[str, Any] = {"flagged": bool(facts.flagged), "drift": bool(facts.drift)}
    for name, share in found.items():
        if share is not None:
            values |= {name: share.value, f"{name}_low": share.low, f"{name}_high": share.high}
    return {f"audit/{name}": value for name, value in values.items()}


def _tune_values(generation: Generation) -> dict[str, Any]:
    """How many trials there were, what was chosen, and what the settings matter."""
    facts = generation.tune.facts if generation.tune else None
    if facts is None or facts.units is None:
        return {}
    chosen = {f"settings/{name}": value for name, value in facts.settings.items()}
    importance = {f"importance/{name}": share for name, share in facts.importance.items()}
    values = {"trials": facts.units.count, **chosen, **importance}
    return {f"tune/{name}": value for name, value in values.items()}


def _champion_values(state: RunState) -> dict[str, float]:
    assert state.champion is not None
    measured = estimates(metrics(state.champion, state))
    beside = {
        f"gate - sealed/{both.gate} - {both.sealed}/{both.metric}": both.difference
        for both in gate_beside_sealed(state)
    }
    return {f"champion/{suite}/{metric}": interval.value for suite, metric, interval in measured} | beside
