"""Everything that made one generation, as plain data: the surface of ``show RUN GEN --json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flywheel.errors import RunError, near_misses
from flywheel.lineage.code_changes import code_change, hashes
from flywheel.lineage.data import by_origin
from flywheel.lineage.record import Record
from flywheel.lineage.status import bare, cost, forked_from, held_out, metrics
from flywheel.storage.ids import batch_of
from flywheel.storage.ledger import Event
from flywheel.storage.reader import reread_when_pruned
from flywheel.storage.state import Generation

_SESSION = ("time", "command", "world_size", "threads", "machine", "python", "versions", "commit")


@reread_when_pruned
def show(directory: Path, number: int) -> dict[str, Any]:
    """All that made a generation. Raises RunError if there is none of this number."""
    record = Record.read(directory)
    return shown(record, record.generation(number))


def shown(record: Record, generation: Generation) -> dict[str, Any]:
    """``show`` of a record already read."""
    number, state = generation.number, record.state
    created = state.created or {}
    return {
        "run": str(record.directory),
        "recipe": created.get("recipe"),
        "generation": number,
        "status": str(generation.status),
        "reason": generation.reason,
        "flags": record.flags(number),
        "parent": generation.parent,
        "children": [g.number for g in state.generations if g.parent == number],
        "init": _init(record, generation),
        "weights": bare(generation.weights),
        "settings": generation.settings,
        "attempts": generation.fact("tune", "attempts", []),
        "config": created.get("config", {}),
        "model": created.get("model", {}),
        "sessions": [_session(record, event) for event in record.sessions(number)],
        "seeds": _seeds(record, generation),
        "batch": _batch(generation),
        "data": {
            "corpus": generation.fact("curate", "corpus"),
            "rows": generation.fact("curate", "rows", 0),
            "by_origin": by_origin(record, generation),
            "by_reason": generation.fact("curate", "by_reason", {}),
        },
        "metrics": metrics(generation, state),
        "held_out": held_out(state),
        "verdict": generation.fact("gate", "verdict"),
        "cost": cost(generation),
        "artifacts": {
            stage: {"inputs": event["inputs"], "outputs": event["outputs"]}
            for stage, event in generation.stages.items()
        },
    }


def uncommitted(directory: Path, number: int) -> bytes:
    """The uncommitted changes that a generation was made with, for ``git apply``; empty without any."""
    record = Record.read(directory)
    record.generation(number)
    sessions = record.sessions(number)
    diffs = dict.fromkeys(name for event in sessions for name in _diffs(event).values())
    return b"".join(record.store.get(name) for name in diffs if not record.is_gone(name))


def source(directory: Path, number: int, module: str) -> str:
    """The source of a module as the last session in which a generation was made ran it. Raises RunError."""
    record = Record.read(directory)
    record.generation(number)
    code = record.code(record.sessions(number)[-1])
    text = code.get(module, {}).get("text")
    if text is None:
        known = [name for name, entry in code.items() if entry.get("text") is not None]
        raise RunError(
            f"Source is kept of the modules that the named classes come from; of {module!r} there is none."
            f"{near_misses(module, known)} There is of {', '.join(sorted(known)) or 'no module'}."
        )
    return text


def _diffs(session: Event) -> dict[str, str]:
    """{checkout: artifact of its uncommitted changes} of a session."""
    outputs: dict[str, str] = session.get("outputs", {})
    return {name[5:]: diff for name, diff in outputs.items() if name.startswith("diff.")}


def _init(record: Record, generation: Generation) -> dict[str, Any] | None:
    if generation.training_event is None:
        return None
    start = generation.training_event["inputs"].get(f"starts.{generation.init}")
    number = generation.parent if generation.init == "parent" else None
    origin = forked_from(record.state) if generation.init == "base" else None
    return {"from": generation.init, "weights": bare(start), "generation": number, "forked_from": origin}


def _session(record: Record, event: Event) -> dict[str, Any]:
    diffs, change = _diffs(event), record.code_change(event)
    trees = {name: {**tree, "diff": diffs.get(name)} for name, tree in event.get("checkouts", {}).items()}
    code = record.code(event)
    return {
        "seq": event["seq"],
        **{key: event.get(key) for key in _SESSION},
        "checkouts": trees,
        "modules": hashes(code),
        "sources": [name for name, module in code.items() if module.get("text") is not None],
        "distributions": record.distributions(event),
        "code_changed": change and code_change(change),
    }


def _seeds(record: Record, generation: Generation) -> dict[str, Any]:
    """The run's seed, and that of each stage: ``state.key(generation, stage)``."""
    root = record.state.key
    stages = {stage: root(generation.number, stage).seed for stage in generation.stages}
    return {"run": root.path[0], "stages": stages}


def _batch(generation: Generation) -> dict[str, Any] | None:
    """The samples of this generation's turn, and who graded them."""
    samples = batch_of(generation)
    if samples is None:
        return None
    graded = {name: generation.fact("grade", name) for name in ("grader", "version", "loaded_parent")}
    made = generation.fact("generate", "made", generation.fact("seed", "human"))
    left_out = generation.fact("generate", "left_out")
    batch = {"samples": bare(samples), "made": made, "left_out": left_out}
    return {**batch, **graded, "loaded_parent": bare(graded["loaded_parent"])}
