"""What tuners tried and found, and what the run was configured with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flywheel.lineage.record import Record
from flywheel.records import Settings, TrialResult
from flywheel.report.generations import value_text
from flywheel.storage.state import Generation

MOST_STUDIES = 20
MOST_TRIALS = 400
"""Of all that are drawn; of many the newest studies."""


@dataclass(frozen=True, slots=True)
class TrialPoint:
    """A trial of a generation."""

    generation: int
    number: int
    score: float | None
    """Mean on dev; None: it failed."""
    kind: str
    """``chosen``, ``whole``, ``pruned`` or ``failed``."""
    settings: Settings
    failure: str

    @property
    def settings_text(self) -> str:
        """E.g. ``lr 0.002, steps 450``."""
        return ", ".join(f"{name} {value_text(value)}" for name, value in self.settings.items())


@dataclass(frozen=True, slots=True)
class Study:
    """The trials of one generation, and what was made of them."""

    generation: int
    reason: str
    importance: Mapping[str, float]
    trials: tuple[TrialPoint, ...]


def studies(record: Record, chosen: Sequence[Generation]) -> tuple[Study, ...]:
    """Those of some generations, the newest ones if they are many."""
    tuned = [g for g in chosen if g.tune and g.output("tune", "trials")][-MOST_STUDIES:]
    made, left = [], MOST_TRIALS
    for generation in reversed(tuned):
        study = _study(record, generation)
        made.append(study)
        left -= len(study.trials)
        if left <= 0:
            break
    return tuple(reversed(made))


def _study(record: Record, generation: Generation) -> Study:
    assert generation.tune is not None
    facts = generation.tune.facts
    results = map(TrialResult.of, record.store.json(str(generation.output("tune", "trials"))))
    trials = tuple(_point(generation.number, result, facts.trial) for result in results)
    return Study(generation.number, facts.reason, facts.importance, trials[:MOST_TRIALS])


def _point(generation: int, result: TrialResult, chosen: int | None) -> TrialPoint:
    kind = "failed" if result.failure is not None else "pruned" if result.pruned else "whole"
    kind = "chosen" if result.number == chosen else kind
    failure = result.failure or ""
    return TrialPoint(generation, result.number, result.score, kind, result.trial.settings, failure)


def config_rows(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The recorded configuration, which has no credentials, as dotted keys and values."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from config_rows(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value_text(value)
