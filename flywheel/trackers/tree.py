"""A run's lineage as a tree in the terminal."""

from __future__ import annotations

from typing import Any

from rich.text import Text
from rich.tree import Tree

from flywheel.storage.state import Status
from flywheel.trackers.console import printable
from flywheel.trackers.terminal import COLOURS, flags_text


def lineage_tree(title: str, entries: list[dict[str, Any]]) -> Tree:
    """Generations below the generation that made their data, with verdict, weights and corpus."""
    root = Tree(title)
    branches: dict[int, Tree] = {}
    for entry in entries:
        edges = {edge["type"]: edge for edge in entry["edges"]}
        parent = entry["parent"]
        branch = branches.get(parent, root) if parent is not None else root
        branches[entry["generation"]] = branch.add(_label(entry, edges))
    return root


def _label(entry: dict[str, Any], edges: dict[str, Any]) -> Text:
    text = Text(f"generation {entry['generation']} ")
    text.append(entry["status"], COLOURS[Status(entry["status"])])
    text.append(flags_text(entry["recalled"], entry["suspect"]), "magenta")
    pruned = ", pruned" if entry["pruned"] else ""
    text.append(f"  weights {(entry['weights'] or '-')[:12]}{pruned}", "dim")
    counts = edges.get("trained_on", {}).get("by_origin", {})
    if counts:
        text.append("  on " + " and ".join(f"{n} {origin}" for origin, n in sorted(counts.items())))
    if "init" in edges and edges["init"]["generation"] is not None:
        text.append(f"  from the weights of generation {edges['init']['generation']}")
    return text.append(f"\n{printable(entry['reason'])}" if entry["reason"] else "", "dim")
