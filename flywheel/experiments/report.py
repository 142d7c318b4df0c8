"""What is said of a run's gate: its power and the check on the run's own data."""

from __future__ import annotations

import time

from flywheel.api import Run
from flywheel.errors import RunError
from flywheel.experiments.looks import RecordedLook, recorded_looks
from flywheel.experiments.power import Power, power_of_looks, seen_text, sight_of_looks
from flywheel.experiments.self_check import SelfCheck, check_looks
from flywheel.keys import Key
from flywheel.lineage.status import read_state
from flywheel.records import Answer
from flywheel.storage.policy import GREEDY

_QUICK_GAIN, _QUICK_DRAWS = 0.01, 200
_QUICK_CHECK_DRAWS = 1000
_QUICK_LOOKS = 20
_QUICK_SECONDS = 0.3


class Report(Answer, frozen=True):
    """How likely a run is to see a gain, and whether its gate keeps its promise on the run's own pairs."""

    power: Power | None
    """None: no candidate of the run ever won an item, so that there are no pairs with a gain to draw."""
    check: SelfCheck | None
    """None: there is no run yet."""


class Summary(Answer, frozen=True):
    """What the end of a run says of its gate, where it is known in a moment."""

    power: str | None
    """E.g. ``With 750 items a gain of 1 point is seen 31% of the time.``; None: something was promoted, or it
    would take long."""
    faults: tuple[str, ...]
    """Those of a short check."""


def report_of_run(run: Run, gain: float) -> Report:
    """The report on a run. Raises RunError if no look of it has a verdict, and as ``recorded_looks`` does."""
    looks, state = recorded_looks(run), read_state(run.path)
    created = state.created
    if state.promotion.rule == GREEDY:
        raise RunError(
            f"Expected a run that tests its candidates, got {run.path}: promotion=greedy is no test, and has "
            "neither power nor a level."
        )
    if not looks or created is None:
        raise RunError(
            f"Expected a run with a verdict, whose pairs can be resampled; got {run.path}. Before its first "
            "verdict ask for the power of its recipe: python -m flywheel power recipe=NAME."
        )
    power = power_of_looks(looks, gain, created.error_budget, of=str(run.path))
    return Report(power, check_looks(looks))


def summary_of_run(run: Run, most_seconds: float = _QUICK_SECONDS) -> Summary:
    """What the end of a run says. What would take longer is left out: ``report_of_run`` has it."""
    looks, state = recorded_looks(run, last=_QUICK_LOOKS), read_state(run.path)
    if not looks or state.created is None:
        return Summary(None, ())
    seconds = _seconds_of_a_draw(looks[-1])
    power = None
    if not state.turns_in_force and _QUICK_DRAWS * seconds < most_seconds:
        seen = sight_of_looks(looks, _QUICK_GAIN, state.created.error_budget, _QUICK_DRAWS)
        power = seen_text(looks[-1].items, _QUICK_GAIN, seen) if seen else None
    quick = _QUICK_CHECK_DRAWS * seconds < most_seconds
    return Summary(power, check_looks(looks, _QUICK_CHECK_DRAWS).faults if quick else ())


def _seconds_of_a_draw(look: RecordedLook) -> float:
    pairs, key = look.pairs(), Key.root(0)("seconds")
    look.decider.promotes(pairs.draw(key), look.level, key)  # the first time is slower
    began = time.perf_counter()
    look.decider.promotes(pairs.draw(key), look.level, key)
    return time.perf_counter() - began
