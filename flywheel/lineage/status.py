"""What a run's ledger says, as plain data: the stable surface of ``status RUN --json``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flywheel.errors import RunError, near_misses
from flywheel.lineage.code_changes import code_change
from flywheel.storage import ledger, lock
from flywheel.storage.ledger import Event
from flywheel.storage.sources import drawn_of
from flywheel.storage.state import Generation, RunState
from flywheel.storage.store import Store

_LISTED = 5


def find_run(run: str, runs_dir: str = "runs", *, changes: bool = False) -> Path:
    """The directory of a run: a path, RECIPE/NAME, NAME, or a recipe's newest run.

    Raises RunError if there is none; and where something ``changes``, if there are several.
    """
    fitting = find_runs(run, runs_dir)
    if changes and len(fitting) > 1:
        raise RunError(
            f"What is changed is named by one run's name; {run!r} is that of {len(fitting)}: "
            f"{', '.join(map(str, fitting[: -_LISTED - 1 : -1]))}{' ...' if len(fitting) > _LISTED else ''}. "
            "Give RECIPE/NAME, or the directory."
        )
    return fitting[-1]


def find_runs(run: str, runs_dir: str) -> list[Path]:
    """The directories of all runs that a name fits, the one written last at the end. Raises RunError."""
    for path in (Path(run), Path(runs_dir) / run):
        if (path / "ledger.jsonl").is_file():
            return [path]
    known = {str(path.relative_to(runs_dir)): path for path in all_runs(runs_dir)}
    fitting = [path for name, path in known.items() if run in name.split("/")]
    if fitting:
        return fitting
    newest = list(known)[: -_LISTED - 1 : -1]
    more = f" and {len(known) - len(newest)} older ones" if len(known) > len(newest) else ""
    listed = (", ".join(newest) or "none") + more
    raise RunError(f"There is no run {run!r}.{near_misses(run, known)} Under {runs_dir}: {listed}.")


def all_runs(runs_dir: str) -> list[Path]:
    """Every run under a folder, the one written last at the end."""
    return sorted(
        (path.parent for path in Path(runs_dir).glob("*/*/ledger.jsonl")),
        key=lambda path: (path / "ledger.jsonl").stat().st_mtime,
    )


def read_state(directory: Path) -> RunState:
    """The state of a run. Raises DamagedError if its ledger is not what was written."""
    with ledger.no_garbage_collection():
        return RunState.replay(ledger.read_lazy(directory))


def status(directory: Path) -> dict[str, Any]:
    """The documented status of a run."""
    return describe(directory, read_state(directory), lock.work_under_way(directory))


def summary_line(directory: Path, state: RunState) -> str:
    """Where a run stands, in a line."""
    work, origin = lock.work_under_way(directory), forked_from(state)
    name = state.name(is_running=work is lock.Work.RUN)
    recipe, reason = (state.created or {}).get("recipe"), (state.last or {}).get("reason", "")
    reason = {"generations": "all generations are made", "patience": "patience ran out"}.get(reason, reason)
    other = f"(being {work.passive})" if work not in (None, lock.Work.RUN) else ""
    parts = [str(directory), f"recipe {recipe}", str(name), f"({reason})" if reason else "", other]
    return "  ".join([*filter(None, parts), *([f"forked from {origin}"] if origin else [])])


def forked_from(state: RunState) -> str | None:
    """RUN@GENERATION that a fork started from; None if it is none."""
    origin = (state.created or {}).get("forked_from")
    return f"{origin['run']}@{origin['generation']}" if origin else None


def held_out(state: RunState) -> dict[str, Any] | None:
    """What is held out from what, as recorded with the seed samples; None before."""
    seeded = [g for g in state.generations if "seed" in g.stages]
    recorded: dict[str, Any] | None = seeded[0].fact("seed", "held_out") if seeded else None
    return recorded


def held_out_text(recorded: Mapping[str, Any]) -> str:
    """``held_out`` as a line for people."""
    if not recorded["columns"]:
        return "not checked whether suites ask what was taught: the task names no identity_columns"
    text = f"held out by {', '.join(recorded['columns'])}"
    if not recorded["shared"]:
        return f"{text}: no item is a seed sample, or in a suite of another role"
    by_other: dict[str, list[str]] = {}
    for entry in recorded["shared"]:
        by_other.setdefault(entry["with"], []).append(
            f"{entry['items']} of {entry['of']} items of {entry['suite']}"
        )
    shared = "; ".join(f"{', '.join(items)} in {other}" for other, items in by_other.items())
    few = "; ".join(
        f"{rule['column']} {', '.join(map(str, rule['values']))}: {rule['reason']}"
        for rule in recorded["exhaustible"]
    )
    return f"{text}, except {shared}" + (f" ({few})" if few else "")


def describe(directory: Path, state: RunState, work: lock.Work | None) -> dict[str, Any]:
    """``status`` of a state already read; ``work``: what the run's writer does."""
    with ledger.no_garbage_collection():
        generations = [_generation(g, state) for g in state.generations]
    champion = state.champion
    created = state.created or {}
    return {
        "run": str(directory),
        "recipe": created.get("recipe"),
        "state": str(state.name(is_running=work is lock.Work.RUN)),
        "writer": work and str(work),
        "reason": _reason(state.last or {}),
        "head": ledger.read_head(directory),
        "champion": champion and {"generation": champion.number, "weights": bare(champion.weights)},
        "forked_from": created.get("forked_from"),
        "held_out": held_out(state),
        "code_changes": [code_change(event) for event in state.code_changes],
        "generations": generations,
    }


def _reason(last: Event) -> str:
    if "why" in last:
        return f"{last['event'].replace('_', ' ')}: {last['why']}"
    return str(last.get("reason", ""))


def metrics(generation: Generation, state: RunState) -> dict[str, dict[str, Any]]:
    """{suite: {metric: {value, low, high}}}, the sealed suites included once they were looked at."""
    seen = state.sealed.get(generation.number)
    return {**generation.fact("evaluate", "metrics", {}), **(seen["facts"]["metrics"] if seen else {})}


def bare(artifact: str | None) -> str | None:
    """The hash in an artifact's name."""
    return artifact.partition(".")[0] if artifact else None


def _generation(generation: Generation, state: RunState) -> dict[str, Any]:
    return {
        "generation": generation.number,
        "parent": generation.parent,
        "init": generation.init,
        "status": str(generation.status),
        "reason": generation.reason,
        "recalled": generation.recalled,
        "suspect": generation.suspect,
        "weights": bare(generation.weights),
        "corpus": generation.fact("curate", "corpus"),
        "by_origin": generation.fact("curate", "by_origin", {}),
        "metrics": metrics(generation, state),
        "cost": cost(generation),
    }


def cost(generation: Generation) -> dict[str, Any]:
    """What the stages that are done cost, together and one by one, and what those lost that are not."""
    costs = {stage: generation.stages.cost(stage) for stage in generation.stages}
    return {
        "seconds": round(sum(cost["seconds"] for cost in costs.values()), 3),
        "cpu_seconds": round(sum(cost["cpu_seconds"] for cost in costs.values()), 3),
        "lost_seconds": round(generation.lost_seconds, 3),
        "steps": generation.training_event["facts"]["steps"] if generation.training_event else 0,
        "stages": {stage: cost["seconds"] for stage, cost in costs.items()},
    }


def lineage(directory: Path, state: RunState) -> list[dict[str, Any]]:
    """Each generation with its typed edges to what made it: init, trained_on, produced_by, graded_by."""
    store = Store(directory)
    makers = {g.output("generate", "samples"): g for g in state.generations}
    return [
        {
            "generation": g.number,
            "parent": g.parent,
            "status": str(g.status),
            "reason": g.reason,
            "recalled": g.recalled,
            "suspect": g.suspect,
            "weights": bare(g.weights),
            "pruned": g.weights in state.pruned,
            "edges": list(_edges(g, drawn_of(store, g), makers)),
        }
        for g in state.generations
    ]


def _edges(
    generation: Generation, drawn: Sequence[str], makers: Mapping[str | None, Generation]
) -> Iterator[dict[str, Any]]:
    if generation.training_event:
        start = generation.training_event["inputs"].get(f"starts.{generation.init}")
        parent = generation.parent if generation.init == "parent" else None
        yield {"type": "init", "init": generation.init, "weights": bare(start), "generation": parent}
    if generation.fact("curate", "corpus"):
        counts = generation.fact("curate", "by_origin")
        yield {"type": "trained_on", "corpus": generation.fact("curate", "corpus"), "by_origin": counts}
    for samples in drawn:
        if maker := makers.get(samples):
            yield {"type": "produced_by", "generation": maker.parent, "made_in": maker.number}
    if "grade" in generation.stages:
        yield {"type": "graded_by", "grader": generation.fact("grade", "grader")}
