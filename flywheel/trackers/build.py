"""From a configuration to trackers: what is no tracker is refused, before anything expensive starts."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from flywheel.config.arguments import explain
from flywheel.config.parts import OBJECT
from flywheel.errors import ConfigError, FlywheelError
from flywheel.trackers.console import printable

if TYPE_CHECKING:
    from flywheel.config.components import Components
    from flywheel.protocols import Tracker

CALLS = ("open", "event", "progress", "metrics", "close")
LOGGER_CALLS = ("log_metrics", "log_hyperparams", "finalize")
_OF_THE_CONFIGURATION = (FlywheelError, ValueError, TypeError)
"""What a class raises that cannot be built as it is configured."""


def build_trackers(components: Components) -> dict[str, Tracker]:
    """The terminal, what the configuration names by its key, and what draws the report. Raises ConfigError.

    One that is configured well and yet cannot be built, e.g. as its server does not answer, is reported and
    left out: a run that goes on after a crash must not hang on it.
    """
    from flywheel.trackers.redraw import redraw
    from flywheel.trackers.terminal import terminal

    trackers: dict[str, Tracker] = {"terminal": terminal(components.config)}
    section = components.resolved["tracker"]
    for name in [None] if {"_target_", OBJECT} & set(section) else section:
        key = "tracker" if name is None else f"tracker.{name}"
        try:
            part = components.build("tracker", components.settings(), name)
        except ImportError as error:
            raise ConfigError(f"{key} needs a package that is not installed here: {error}") from error
        except _OF_THE_CONFIGURATION as error:
            raise explain(key, error) from error
        except (Exception, SystemExit) as error:
            print(printable(f"{key} cannot be built; the run goes on without it. {error!r}"), file=sys.stderr)
            continue
        trackers[key] = tracker = as_tracker(key, part)
        if hasattr(tracker, "task"):  # it shows samples, by the task's show(); a logger's is another thing
            tracker.task = components.task
    drawing = redraw(components.resolved["report"])
    return trackers | ({"report": drawing} if drawing else {})


def as_tracker(key: str, part: Any) -> Tracker:
    """A part that is a tracker, as it is; a logger of Lightning as a tracker. Raises ConfigError."""
    if all(callable(getattr(part, call, None)) for call in LOGGER_CALLS):
        from flywheel.trackers.lightning import LightningLogger

        return LightningLogger(part)
    missing = [call for call in CALLS if not callable(getattr(part, call, None))]
    if missing:
        raise ConfigError(
            f"{key} must be a tracker, which has {', '.join(CALLS)}, or a logger of Lightning; "
            f"{type(part).__module__}.{type(part).__qualname__} has no {missing[0]}. Derive it from "
            "flywheel.trackers.NoTracker."
        )
    tracker: Tracker = part
    return tracker
