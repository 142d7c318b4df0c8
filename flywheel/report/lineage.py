"""The lineage as a picture: where everything is drawn. The template draws it as SVG.

Generations stand in a row, each in the lane of its status; a line leads from what it builds on. Below them
is a dot for the samples that each turn brought, and an arc from there to each generation that learned from
them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from flywheel.report.generations import GenerationDetail
from flywheel.report.marks import BY_STATUS, Mark
from flywheel.storage.state import Status

_LANES = (
    (Status.PROMOTED, Status.FINAL),
    (Status.ADVANCED,),
    (Status.REJECTED,),
    (Status.FAILED, Status.UNFINISHED),
)
_LANE_NAMES = ("champions", "advanced", "rejected", "failed or under way")
_LEFT, _TOP, _LANE_HEIGHT, _DATA_GAP = 132.0, 34.0, 54.0, 58.0
_MOST_DEPTH = 88.0
_WIDTH = 820.0
"""Pixels that the generations fill if they are few enough; more are wider."""


@dataclass(frozen=True, slots=True)
class Node:
    """A generation."""

    number: int
    x: float
    y: float
    mark: Mark
    note: str
    label: str
    """For people who hear it, e.g. ``generation 5, rejected: ...``."""
    path: str
    """The line from what it builds on, an SVG path; empty: from nothing that is shown."""
    arcs: tuple[Arc, ...]
    """From the samples that it learned from."""
    is_in_force: bool
    is_recalled: bool
    learned_from_own: bool
    """Whether it learned from the samples of its own turn."""


@dataclass(frozen=True, slots=True)
class Arc:
    """Samples that a generation learned from."""

    path: str
    width: float


@dataclass(frozen=True, slots=True)
class Lane:
    """The row of a status."""

    name: str
    y: float


@dataclass(frozen=True, slots=True)
class Picture:
    """All of it, in pixels."""

    width: float
    height: float
    data_y: float
    """Where the dots of samples are."""
    people_x: float
    lanes: tuple[Lane, ...]
    nodes: tuple[Node, ...]


def picture(details: Sequence[GenerationDetail]) -> Picture | None:
    """Where the generations that are shown are drawn; None without any."""
    if not details:
        return None
    spacing = min(72.0, max(30.0, _WIDTH / len(details)))
    used = [k for k, names in enumerate(_LANES) if any(d.status in names for d in details)]
    lane_y = {status: _TOP + _LANE_HEIGHT * used.index(k) for k in used for status in _LANES[k]}
    lanes = tuple(Lane(_LANE_NAMES[k], _TOP + _LANE_HEIGHT * row) for row, k in enumerate(used))
    places = {d.number: (_LEFT + spacing * k, lane_y[Status(d.status)]) for k, d in enumerate(details)}
    data_y = lanes[-1].y + _DATA_GAP
    nodes = tuple(_node(d, places, data_y) for d in details)
    width = _LEFT + spacing * (len(details) - 1) + 60
    return Picture(
        width, data_y + min(_MOST_DEPTH, 14 + 0.25 * width) / 2 + 16, data_y, _LEFT - spacing, lanes, nodes
    )


def _node(d: GenerationDetail, places: Mapping[int, tuple[float, float]], data_y: float) -> Node:
    x, y = places[d.number]
    said = ", ".join(filter(None, [d.status, d.note]))
    people = min(place for place, _ in places.values()) - _gap(places)
    return Node(
        number=d.number,
        x=x,
        y=y,
        mark=BY_STATUS[d.status],
        note=d.note,
        label=f"Generation {d.number}, {said}" + (f": {d.reason}" if d.reason else ""),
        path=_line(places.get(d.parent), (x, y)) if d.parent is not None else "",
        arcs=tuple(_arcs(d, places, people, data_y)),
        is_in_force="in force" in d.note,
        is_recalled="recalled" in d.note,
        learned_from_own=any(s.made_in == d.number and s.maker != "people" for s in d.sources),
    )


def _gap(places: Mapping[int, tuple[float, float]]) -> float:
    xs = sorted(x for x, _ in places.values())
    return xs[1] - xs[0] if len(xs) > 1 else 46.0


def _line(start: tuple[float, float] | None, end: tuple[float, float]) -> str:
    if start is None:
        return ""
    (x0, y0), (x1, y1) = start, end
    if y0 == y1 and x1 - x0 > 80:  # over what lies between, as from champion to champion
        return f"M{x0:.0f} {y0:.0f}C{x0 + 20:.0f} {y0 - 22:.0f} {x1 - 20:.0f} {y1 - 22:.0f} {x1:.0f} {y1:.0f}"
    bend = x1 - 18
    return f"M{x0:.0f} {y0:.0f}C{bend:.0f} {y0:.0f} {bend:.0f} {y1:.0f} {x1:.0f} {y1:.0f}"


def _arcs(
    d: GenerationDetail, places: Mapping[int, tuple[float, float]], people: float, data_y: float
) -> Iterator[Arc]:
    x1 = places[d.number][0]
    for source in d.sources:
        is_human = source.maker == "people"
        x0 = people if is_human else places.get(source.made_in, (None, 0))[0]
        if x0 is None or x0 == x1:
            continue
        depth = data_y + min(_MOST_DEPTH, 14 + 0.25 * (x1 - x0))
        path = f"M{x0:.0f} {data_y:.0f}Q{(x0 + x1) / 2:.0f} {depth:.0f} {x1:.0f} {data_y:.0f}"
        yield Arc(path, 1 + 3 * source.share)
