"""How a generation's status is drawn: a shape, a sign, a word and a colour, so that none is needed alone.

The colours are seen on white and on nearly black: contrast to either is 3:1 or more (WCAG 2.2, 1.4.11).
"""

from __future__ import annotations

from dataclasses import dataclass

from flywheel.storage.state import Status


@dataclass(frozen=True, slots=True)
class Mark:
    """How one status is drawn."""

    status: str
    """E.g. ``promoted``."""
    sign: str
    """In texts, e.g. ``●``."""
    shape: str
    """In charts, a symbol of Vega: ``circle``, or an SVG path within [-1, 1]."""
    colour: str
    meaning: str
    """For people, e.g. ``shown to be better; became champion``."""


_CROSS = "M-1,-.6L-.6,-1L0,-.4L.6,-1L1,-.6L.4,0L1,.6L.6,1L0,.4L-.6,1L-1,.6L-.4,0Z"

MARKS = (
    Mark(Status.PROMOTED, "●", "circle", "#2e8b57", "became champion"),
    Mark(Status.ADVANCED, "▲", "triangle-up", "#3d7fd0", "no harm shown on dev; built on, not certified"),
    Mark(Status.REJECTED, "✕", _CROSS, "#c0741a", "not shown to be better, or stopped by a guard"),
    Mark(Status.FAILED, "■", "square", "#d4494b", "a stage failed"),
    Mark(Status.FINAL, "◆", "diamond", "#9765c9", "the champion's refit, with the labels of dev and gate"),
    Mark(Status.UNFINISHED, "▽", "triangle-down", "#788390", "under way"),
)
BY_STATUS = {mark.status: mark for mark in MARKS}
SERIES = ("#3d7fd0", "#c0741a", "#2e8b57", "#9765c9", "#d4494b", "#788390")
"""Colours of runs, trials and other series, in order."""
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 4], [1, 3])
"""Strokes of the same, so that they are told apart without colour."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", _CROSS)
"""Symbols of the same."""
