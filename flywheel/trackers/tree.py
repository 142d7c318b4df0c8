"""A run's lineage as a tree in the terminal."""

from __future__ import annotations

from rich.text import Text
from rich.tree import Tree

from flywheel.lineage.graph import Ancestor, Init, Lineage, TrainedOn
from flywheel.lineage.text import short
from flywheel.storage.state import Status
from flywheel.trackers.console import printable
from flywheel.trackers.event_text import COLOURS
from flywheel.trackers.standings import flags_text


def lineage_tree(title: str, lineage: Lineage) -> Tree:
    """Generations below the generation that made their data, with verdict, weights and corpus."""
    root = Tree(title)
    branches: dict[int | None, Tree] = {}
    for entry in lineage.generations:
        branches[entry.generation] = branches.get(entry.parent, root).add(_label(entry))
    return root


def _label(entry: Ancestor) -> Text:
    text = Text(f"generation {entry.generation} ")
    text.append(entry.status, COLOURS[Status(entry.status)])
    text.append(", no test" if entry.untested else "", "yellow")
    text.append(flags_text(entry.recalled, entry.suspect, entry.abandoned), "magenta")
    text.append(f"  weights {short(entry.weights)}{', pruned' if entry.pruned else ''}", "dim")
    for edge in entry.edges:
        if isinstance(edge, TrainedOn) and edge.by_origin:
            text.append(
                "  on " + " and ".join(f"{n} {origin}" for origin, n in sorted(edge.by_origin.items()))
            )
        if isinstance(edge, Init) and edge.generation is not None:
            text.append(f"  from the weights of generation {edge.generation}")
    return text.append(f"\n{printable(entry.reason)}" if entry.reason else "", "dim")
