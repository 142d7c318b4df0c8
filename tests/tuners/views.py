"""A stand-in for the stage: it asks a tuner for trials, with a lag, and scores them by a function."""

from __future__ import annotations

from collections.abc import Callable

from flywheel.keys import Key
from flywheel.protocols import Tuner, TunerView
from flywheel.records import Settings, Start, Study, Trial, TrialResult
from flywheel.space import Dimension, Space

SPACE = Space(
    (
        Dimension("lr", low=1e-4, high=1.0, log=True),
        Dimension("width", low=8, high=64, step=8),
        Dimension("optimizer", choices=("sgd", "adamw")),
        Dimension("momentum", low=0.0, high=0.9, when={"optimizer": ("sgd",)}),
    )
)
IN_FORCE: Settings = {"lr": 0.01, "width": 16, "optimizer": "adamw", "momentum": 0.5, "epochs": 3}
KEY = Key.root(7)(2, "tune")

Outcome = float | None | TrialResult
Score = Callable[[int, Settings], Outcome]


def peak(number: int, settings: Settings) -> float:
    """Best at lr 0.1, width 48 and sgd."""
    import math

    far = (math.log10(settings["lr"]) + 1) ** 2 / 9 + (settings["width"] / 48 - 1) ** 2
    return 0.9 - 0.3 * far - 0.1 * (settings["optimizer"] != "sgd")


def view_of(
    results: tuple[TrialResult, ...] = (),
    pending: tuple[Trial, ...] = (),
    space: Space = SPACE,
    prior: tuple[Study, ...] = (),
    in_force: Settings = IN_FORCE,
    key: Key = KEY,
) -> TunerView:
    number = len(results) + len(pending)
    starts = {"fresh": Start("fresh")}
    return TunerView(in_force, starts, "fresh", results, prior, {"k": 1}, key(number), space, pending)


def result_of(number: int, trial: Trial, outcome: Outcome, error: float | None = None) -> TrialResult:
    if isinstance(outcome, TrialResult):
        return outcome
    if outcome is None:
        return TrialResult(number, trial, failure="StageFailed: loss is not finite")
    return TrialResult(number, trial, outcome, error=error, share=trial.fidelity)


def run(
    make: Callable[[], Tuner],
    score: Score = peak,
    lag: int = 1,
    fresh: bool = False,
    error: float | None = None,
    space: Space = SPACE,
    prior: tuple[Study, ...] = (),
    in_force: Settings = IN_FORCE,
    key: Key = KEY,
    most: int = 200,
) -> tuple[TrialResult, ...]:
    """The results of all trials that a tuner asks for; ``fresh``: another tuner is asked for each."""
    tuner, results, pending = make(), list[TrialResult](), list[Trial]()

    def finish() -> None:
        number, trial = len(results), pending.pop(0)
        results.append(result_of(number, trial, score(number, trial.settings), error))

    while len(results) + len(pending) < most:
        tuner = make() if fresh else tuner
        trial = tuner.ask(view_of(tuple(results), tuple(pending), space, prior, in_force, key))
        if trial is None:
            break
        pending.append(trial)
        if len(pending) >= lag:
            finish()
    while pending:
        finish()
    return tuple(results)
