"""The same questions put to the real code and to the reference, answered in the same form."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from flywheel import loop
from flywheel.errors import FlywheelError, RunError
from flywheel.launch import plan
from flywheel.lineage.graph import lineage
from flywheel.lineage.recall import recall
from flywheel.lineage.record import Record
from flywheel.lineage.show import show
from flywheel.lineage.status import read_state, status
from flywheel.lineage.trace import trace
from flywheel.lineage.views import edges
from flywheel.storage.state import RunState
from flywheel.storage.store import Store
from tests.histories import reference

Answer = dict[str, Any]
Question = tuple[int, int | None, str, dict[str, Any]]
"""generations, patience, on_failure, budget"""
REFUSED = {"refused": True}


def state_by_code(directory: Path, questions: list[Question]) -> Answer:
    state, said, store = read_state(directory), status(directory).json(), Store(directory)
    stands_in = {name: state.resolve_pruned(name) for name in state.pruned}
    return {
        "state": said["state"],
        "champion": said["champion"] and said["champion"]["generation"],
        "first champion": state.first_champion and state.first_champion.number,
        "generations": [
            (g["generation"], g["parent"], g["status"], g["recalled"], g["suspect"], g["weights"])
            for g in said["generations"]
        ],
        "under way": state.current and state.current.number,
        "carries": state.carries.artifacts,
        "recalled samples": sorted(store.table(state.recalled)["id"].to_pylist() if state.recalled else []),
        "over": [why_over(state, *question) for question in questions],
        "must reopen": [must_reopen(directory, state, *question[:3]) for question in questions],
        "times opened": state.times_opened,
        "turns without promotion": state.turns_without_promotion,
        "spent": {key: round(value, 6) for key, value in state.spent.json().items()},
        "pruned": {name: None if other == name else other for name, other in stands_in.items()},
        "can be champion": [g.number for g in state.generations if state.can_be_champion(g)],
        "frontier": state.frontier and state.frontier.number,
        "can be frontier": [g.number for g in state.generations if state.can_be_frontier(g)],
        "ahead": [g.number for g in state.ahead],
        "best ahead": state.best_ahead and state.best_ahead.number,
        "abandoned": [g.number for g in state.generations if g.abandoned],
        "looks": (len(state.looks), state.looks_in_vain, state.turns_since_look),
        "look due": [state.is_look_due(is_over=is_over) for is_over in (False, True)],
        "must fall back": state.must_fall_back,
    }


def why_over(
    state: RunState, generations: int, patience: int | None, on_failure: str, budget: dict[str, Any]
) -> str | None:
    limits = {"generations": generations, "patience": patience, "on_failure": on_failure}
    run: Any = SimpleNamespace(state=state, config=limits | {"budget": budget})
    return loop.why_over(run)


def must_reopen(
    directory: Path, state: RunState, generations: int, patience: int | None, on_failure: str
) -> bool:
    limits = {"generations": generations, "patience": patience, "on_failure": on_failure}
    try:
        plan._check_seal(directory, state, limits | {"seal": "keep", "refit": False})
    except RunError:
        return True
    return False


def state_by_reference(directory: Path, questions: list[Question]) -> Answer:
    run = reference.Run(directory)
    return {
        "state": run.state(),
        "champion": run.champion,
        "first champion": run.first_champion,
        "generations": [
            (g.number, g.parent, g.status, g.recalled, g.suspect, g.weights and g.weights.partition(".")[0])
            for g in run.generations
        ],
        "under way": run.under_way.number if run.under_way else None,
        "carries": reference.names(run.carries),
        "recalled samples": sorted(run.ids(run.recalled_samples)),
        "over": [run.is_over(*question) for question in questions],
        "must reopen": [run.must_reopen(*question[:3]) for question in questions],
        "times opened": run.times_opened(),
        "turns without promotion": run.turns_without_promotion(),
        "spent": {key: round(value, 6) for key, value in run.spent().items()},
        "pruned": run.gone,
        "can be champion": [g.number for g in run.generations if run.can_be_champion(g)],
        "frontier": run.frontier,
        "can be frontier": [g.number for g in run.generations if run.can_be_frontier(g)],
        "ahead": [g.number for g in run.ahead()],
        "best ahead": run.best_ahead(),
        "abandoned": [g.number for g in run.generations if g.abandoned],
        "looks": (len(run.looks), run.looks_in_vain, run.turns_since_look),
        "look due": [run.is_look_due(is_over) for is_over in (False, True)],
        "must fall back": run.must_fall_back(),
    }


def recall_by_code(directory: Path, yes: bool = False, **flaw: Any) -> Answer:
    """``flaw``: ``generation``, or ``ids``; ``strict``."""
    ids = flaw.pop("ids", None)
    where = None if ids is None else "id IN ({})".format(", ".join(f"'{name}'" for name in ids))
    before = read_state(directory)
    try:
        report = recall(directory, why="so it was drawn", where=where, yes=yes, **flaw).json()
    except FlywheelError as error:
        return REFUSED | {"why": str(error)}
    carries = dict(before.carries.artifacts) | {c["component"]: c["after"] for c in report["carries"]}
    return {
        "generations": {g["generation"]: by(g["by"]) for g in report["generations"]},
        "suspect": {g["generation"]: by(g["by"]) for g in report["suspect"]},
        "samples": {b["made_in"]: (b["recalled"], b["of"]) for b in report["samples"]["batches"]},
        "corpora": {c["generation"]: (c["recalled"], c["of"]) for c in report["corpora"]},
        "champion": report["champion"]["after"],
        "frontier": report["frontier"]["after"],
        "carries": {component: carry for component, carry in carries.items() if carry},
        "ends": report["ends"],
        "forks": by_run(report["forks"]),
    }


def recall_by_reference(directory: Path, **flaw: Any) -> Answer:
    run = reference.Run(directory)
    if flaw.get("generation") is not None and run.is_from_elsewhere(run.generations[flaw["generation"]]):
        return REFUSED
    return run.recall(**flaw)


def by(edges: list[str]) -> list[str]:
    return sorted({"named": "itself"}.get(edge, edge) for edge in edges)


def by_run(forks: list[dict[str, Any]]) -> dict[str, tuple[str, list[int]]]:
    """Name of a run -> by which edge it descends, and which of its generations do."""
    return {"/".join(Path(f["run"]).parts[-2:]): (f["by"], f["generations"]) for f in forks}


def trace_by_code(directory: Path, **of: Any) -> Answer:
    report = trace(directory, **of).json()
    answer: Answer = {
        "up": {e["generation"]: reference.in_order(e["edges"]) for e in report["up"][::-1]},
        "generations": {g["generation"]: by(g["by"]) for g in report["down"]["generations"]},
        "suspect": {g["generation"]: by(g["by"]) for g in report["down"]["suspect"]},
        "samples": {batch["made_in"]: batch["rows"] for batch in report["down"]["samples"]},
        "forks": by_run(report["down"]["forks"]),
    }
    if "sample" in report:
        row = report["sample"]
        names = ("made_in", "made_by", "made_by_generation", "origin", "recalled")
        answer["sample"] = {name: row[name] for name in names}
    return answer


def edges_by_code(directory: Path) -> Answer:
    """By generation: its edges as ``lineage`` has them, what ``show`` says of its start, and the SQL view."""
    record = Record.read(directory)
    view = defaultdict[int, list[tuple[str, str]]](list)
    for row in edges(record).to_pylist():
        view[row["generation"]].append((row["type"], reference.bare(row["parent"])))
    return {
        g.generation: {
            "lineage": reference.in_order(g.json()["edges"]),
            "show": [e.json() for e in [show(directory, g.generation).init] if e],
            "view": sorted(view[g.generation]),
        }
        for g in lineage(directory, record.state).generations
    }


def edges_by_reference(directory: Path) -> Answer:
    run = reference.Run(directory)
    return {
        g.number: {
            "lineage": reference.in_order(run.edges(g)),
            "show": [edge for edge in run.edges(g) if edge["type"] == "init"],
            "view": sorted(rows_of_view(run, g)),
        }
        for g in run.generations
    }


def rows_of_view(run: reference.Run, g: reference.Generation) -> Iterator[tuple[str, str]]:
    """(type, what it leads to) of each row that the SQL view of edges has of a generation."""
    yield from (("trained_on", id) for id in run.drawn(g))
    if g.output("generate", "samples"):
        yield from (("produced_by", reference.bare(row["made_by"])) for row in run.batch(g))
    yield from (("saw", reference.bare(run.batch_of(turn))) for turn in run.turns_with(run.saw(g)))
    for edge in run.edges(g):
        match edge["type"]:
            case "settings_from":
                yield "settings_from", str(edge["generation"])
            case "opponent":
                yield "opponent", reference.bare(run.generations[edge["generation"]].weights)
            case "graded_by":
                yield from (("graded_by", by) for by in (edge["grader"], edge["weights"]) if by)
            case "init" if edge["weights"]:
                yield "init", edge["weights"]


def trace_by_reference(directory: Path, **of: Any) -> Answer:
    run = reference.Run(directory)
    return run.trace_sample(of["sample"]) if "sample" in of else run.trace_generation(of["generation"])
