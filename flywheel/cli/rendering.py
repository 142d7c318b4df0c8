"""How subcommands print: sections of names and values, and tables that stay readable when narrow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from flywheel.lineage.text import number_text, short
from flywheel.trackers.console import printable

if TYPE_CHECKING:
    from flywheel.lineage.forks import Fork
    from flywheel.lineage.graph import Edge

_LONGEST = 200
_FULL_COLUMN = 24
"""A column that has this much room is readable, however long its values."""


def cell_text(value: object) -> str:
    """A value as a table of samples or answers shows it: short numbers, long texts cut."""
    text = plain_text(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def plain_text(value: object) -> str:
    """A value for people, whole."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number_text(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(plain_text, value)) + "]"
    return "-" if value is None else printable(value)


def section(title: str, *parts: RenderableType | None) -> RenderableType:
    """A heading and what is below it; nothing if there is nothing."""
    shown = [part for part in parts if part is not None]
    return (
        Group(Text(f"\n{title}", "bold"), *(Padding(part, (0, 0, 0, 2)) for part in shown)) if shown else ""
    )


def pairs(values: Mapping[str, Any]) -> Table | None:
    """Names and values, one a line; values that wrap stay beside their name. None if there are none."""
    if not values:
        return None
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in values.items():
        grid.add_row(name, value if isinstance(value, Text) else Text(plain_text(value)))
    return grid


def grid_of(columns: Sequence[str], rows: Iterable[Sequence[Any]], caption: str = "") -> Table | None:
    """A table; columns of numbers are set flush right. None if there are no rows."""
    rows = [list(row) for row in rows]
    if not rows:
        return None
    table = Table(header_style="dim", box=None, padding=(0, 2, 0, 0), caption=caption or None)
    table.caption_justify = "left"
    for k, name in enumerate(columns):
        right = all(isinstance(row[k], (int, float, type(None))) for row in rows)
        table.add_column(Text(name), justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(value if isinstance(value, Text) else Text(plain_text(value)) for value in row))
    return table


def answer(console: Console, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> RenderableType:
    """Rows of any shape: a table if it fits, else each row as names and values, as psql does."""
    rows = [[value if isinstance(value, (int, float)) else cell_text(value) for value in row] for row in rows]
    widths = [max([len(name), *(len(plain_text(row[k])) for row in rows)]) for k, name in enumerate(columns)]
    if sum(min(width, _FULL_COLUMN) + 2 for width in widths) <= console.width:
        return grid_of(columns, rows) or Text("no rows; columns: " + ", ".join(columns), "dim")
    shown = [pairs(dict(zip(columns, row, strict=True))) for row in rows]
    parts = [(Text(f"row {k + 1}", "bold"), part) for k, part in enumerate(shown) if part is not None]
    return Group(*(part for pair in parts for part in pair))


def by_text(by: Sequence[str]) -> str:
    """How a flaw reached a generation."""
    edges = ", ".join(edge for edge in by if edge != "named")
    return ", ".join(["itself"] * ("named" in by) + ([f"by {edges}"] if edges else []))


def goes_on_text(place: str, needs_reopen: bool) -> str:
    """How a run goes on whose champion, or frontier, was set back."""
    but = ", with seal=reopen as its sealed suites were opened," if needs_reopen else ""
    return f"The same command as before{but} goes on from the {place}."


def edge_text(edge: Edge) -> str:
    """Where a typed edge leads to."""
    from flywheel.lineage.graph import GradedBy, Init, ProducedBy, Saw, TrainedOn

    match edge:
        case Init():
            start = edge.forked_from or edge.init
            whose = start if edge.generation is None else f"{edge.init}, generation {edge.generation}"
            return f"{whose}; weights {short(edge.weights)}" if edge.weights else whose
        case TrainedOn():
            counts = ", ".join(f"{n} {origin}" for origin, n in sorted(edge.by_origin.items()))
            return f"{counts}; corpus {short(edge.corpus)}"
        case ProducedBy():
            outside = f"weights {short(edge.weights)} from elsewhere" if edge.weights else "people"
            maker = outside if edge.generation is None else f"generation {edge.generation}"
            return f"{maker}, made in {edge.made_in}; samples {short(edge.samples)}"
        case GradedBy():
            grader = f"{edge.grader}, audit" if edge.stage == "audit" else edge.grader
            return f"{grader} with weights {short(edge.weights)}" if edge.weights else grader
        case Saw():
            return f"samples made in {', '.join(map(str, edge.made_in))}"
    return f"generation {edge.generation}"


def fork_text(fork: Fork) -> str:
    """How a run beside this one descends from a flaw, and what to do about it."""
    if fork.by == "init":
        origin = f"generation {fork.generation} of {fork.of}"
        return f"{fork.run} descends from {origin}: start it anew from a clean one"
    numbers = ", ".join(map(str, fork.generations))
    return f"{fork.run} learned from flawed samples, generations {numbers}: recall them there, too"
