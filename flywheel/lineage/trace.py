"""Where a sample or a generation came from, down to what people made, and what came of it.

The way up is in the ledger and needs the one batch that a sample is in; the way down reads the corpora
that may have drawn on what is flawed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flywheel.errors import RunError
from flywheel.lineage.forks import forks_of
from flywheel.lineage.graph import descend, seen_by, settings_from, turns_by_batch
from flywheel.lineage.item_history import ItemHistory, evaluated_suites, item_history
from flywheel.lineage.samples import samples
from flywheel.lineage.status import bare, forked_from, read_state
from flywheel.storage import ids
from flywheel.storage.ledger import no_garbage_collection
from flywheel.storage.reader import reread_when_pruned
from flywheel.storage.sources import drawn_of
from flywheel.storage.state import Generation, RunState
from flywheel.storage.store import Store

_LISTED = 5


@reread_when_pruned
@no_garbage_collection()
def trace(
    directory: Path,
    *,
    sample: str | None = None,
    generation: int | None = None,
    item: str | tuple[str, str] | None = None,
    up: bool = True,
    down: bool = True,
) -> dict[str, Any]:
    """The ancestors (``up``) and descendants (``down``) of one of three, with typed edges.

    ``sample``: an id or its first characters. ``generation``: a number. ``item``: SUITE/ITEM, both of
    which may have slashes, or the two as a pair; traced from the generation on the champion's line since
    which it is worse, else from the champion; see ``item_history``. Raises RunError if there is none.
    """
    state, store = read_state(directory), Store(directory)
    found: dict[str, Any] = {"run": str(directory)}
    if sample is not None:
        turn, name = _the_one(directory, ids.find(directory, state, store, sample), sample)
        found["sample"] = _row(directory, state, turn, name)
        maker = found["sample"]["made_by_generation"]
        starts = [] if maker is None else [maker]
        return found | _ways(directory, state, store, starts, up, down, (turn, name))
    if item is not None:
        found["item"], generation = _item(directory, state, store, item)
    if generation is None or not 0 <= generation < len(state.generations):
        numbers = f"0 to {len(state.generations) - 1}" if state.generations else "none"
        raise RunError(f"{directory} has no generation {generation}; its generations: {numbers}.")
    found["generation"] = generation
    return found | _ways(directory, state, store, [generation], up, down)


def _ways(
    directory: Path,
    state: RunState,
    store: Store,
    starts: list[int],
    up: bool,
    down: bool,
    sample: tuple[int, str] | None = None,
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if up:
        found["up"] = list(ancestors(store, state, starts))
    if down:
        found["down"] = _descendants(directory, state, store, starts, sample)
    return found


def _the_one(directory: Path, found: list[tuple[int, str]], prefix: str) -> tuple[int, str]:
    if len(found) == 1:
        return found[0]
    if not found:
        raise RunError(f"{directory} has no sample whose id begins with {prefix!r}.")
    names = ", ".join(name for _, name in found[:_LISTED])
    raise RunError(
        f"Expected the beginning of one sample's id, got {prefix!r}, with which {len(found)} begin: "
        f"{names} ..."
    )


def _row(directory: Path, state: RunState, turn: int, name: str) -> dict[str, Any]:
    """A sample with its payload, scores and decision, who made it, and who graded it."""
    rows = samples(directory, state, turn)
    row: dict[str, Any] = rows.slice(rows["id"].to_pylist().index(name), 1).to_pylist()[0]
    generation = state.generations[turn]
    maker = None if row["origin"] == "human" else generation.parent
    return row | {
        "made_by": bare(row["made_by"]),
        "made_by_generation": maker,
        "recalled": _recalled(directory, state, name),
        "graded_by": generation.fact("grade", "grader"),
    }


def _recalled(directory: Path, state: RunState, name: str) -> bool:
    import pyarrow.compute as pc

    if state.recalled is None:
        return False
    return bool(pc.any(pc.equal(Store(directory).table(state.recalled)["id"], name)).as_py())


def ancestors(store: Store, state: RunState, starts: list[int]) -> Iterator[dict[str, Any]]:
    """The generations whose weights these ones learned from, newest first, themselves included."""
    turns, first_with = turns_by_batch(state), _first_with(state)
    wanted = set(starts)
    for generation in reversed(state.generations):
        if generation.number not in wanted:
            continue
        edges = list(_edges_of(store, generation, state, turns, first_with))
        wanted |= {e["generation"] for e in edges if e["type"] in ("init", "produced_by")} - {None}
        yield _entry(generation) | {"edges": edges}


def _first_with(state: RunState) -> dict[str | None, int]:
    """Weights -> the first generation that has them."""
    first: dict[str | None, int] = {}
    for generation in state.generations:
        weights = generation.output("train", "weights") or generation.output("adopt", "weights")
        if weights is not None:
            first.setdefault(weights, generation.number)
    return first


def _edges_of(
    store: Store,
    generation: Generation,
    state: RunState,
    turns: dict[str, int],
    first_with: dict[str | None, int],
) -> Iterator[dict[str, Any]]:
    """A generation's typed edges to what it was made from (law 4)."""
    training = generation.training_event
    if training:
        start = training["inputs"].get(f"starts.{generation.init}")
        whose = generation.parent if generation.init == "parent" else first_with.get(start)
        whose = whose if whose is not None and whose < generation.number else None
        edge = {"type": "init", "init": generation.init, "generation": whose, "weights": bare(start)}
        origin = forked_from(state) if generation.init == "base" else None
        yield edge | ({"forked_from": origin} if origin else {})
    corpus = generation.fact("curate", "corpus")
    if corpus:
        yield {"type": "trained_on", "corpus": corpus, "by_origin": generation.fact("curate", "by_origin")}
    for batch in drawn_of(store, generation):
        brought = state.generations[turns[batch]]
        edge = {"type": "produced_by", "generation": brought.parent, "made_in": ids.made_in(brought)}
        yield edge | {"samples": bare(batch)}
    if "grade" in generation.stages:
        yield {"type": "graded_by", "grader": generation.fact("grade", "grader")}
    for number in settings_from(state, generation):
        yield {"type": "settings_from", "generation": number}
    if "gate" in generation.stages:
        yield {"type": "opponent", "generation": generation.parent}
    seen = seen_by(store, generation)
    if seen:
        yield {"type": "saw", "made_in": [ids.made_in(state.generations[turns[batch]]) for batch in seen]}


def _entry(generation: Generation) -> dict[str, Any]:
    return {
        "generation": generation.number,
        "parent": generation.parent,
        "status": str(generation.status),
        "recalled": generation.recalled,
        "suspect": generation.suspect,
        "weights": bare(generation.weights),
    }


def _descendants(
    directory: Path, state: RunState, store: Store, starts: list[int], sample: tuple[int, str] | None
) -> dict[str, Any]:
    import pyarrow as pa

    if sample:
        named = {sample[0]: pa.chunked_array([[sample[1]]])}
        found = descend(store, state, samples=named)
    else:
        found = descend(store, state, generations=starts, batches=False)
    beside = forks_of(directory, state, found)
    return {
        "generations": [_entry(state.generations[n]) | {"by": by} for n, by in found.flawed.items()],
        "suspect": [_entry(state.generations[n]) | {"by": by} for n, by in found.suspect.items()],
        "samples": [
            {"made_in": ids.made_in(state.generations[turn]), "rows": len(rows)}
            for turn, rows in found.samples.items()
        ],
        "forks": beside.forks,
        "unread": beside.unread,
    }


def _item(
    directory: Path, state: RunState, store: Store, item: str | tuple[str, str]
) -> tuple[dict[str, Any], int]:
    """An item's scores, since when the champion does worse on it, and the generation to trace."""
    suite, name, history = _the_one_item(directory, state, store, item)
    listed = [
        _entry(state.generations[s.generation]) | {"score": s.score, "opponent": bare(s.opponent)}
        for s in history.scores
    ]
    report = {
        "suite": suite,
        "item": name,
        "champion": history.line[-1] if history.line else None,
        "last_scored": history.last_scored,
        "worse_since": history.worse_since,
        "worse_between": history.worse_between and list(history.worse_between),
        "not_compared": history.not_compared,
        "scores": listed,
    }
    if history.drop:
        return report, history.drop[1]
    return report, history.line[-1] if history.line else history.scores[-1].generation


def _readings(item: str, suites: list[str]) -> Iterator[tuple[str, str]]:
    """Each (suite, item) that SUITE/ITEM may mean."""
    for suite in suites:
        if item.startswith(f"{suite}/"):
            yield suite, item.removeprefix(f"{suite}/")


def _the_one_item(
    directory: Path, state: RunState, store: Store, item: str | tuple[str, str]
) -> tuple[str, str, ItemHistory]:
    """Suite, item and history of what was named: slashes may be the suite's, the item's, or between both."""
    known = evaluated_suites(state, store)
    pairs = [item] if isinstance(item, tuple) else list(_readings(item, known))
    found = [(suite, name, item_history(state, store, suite, name)) for suite, name in pairs]
    found = [one for one in found if one[2].scores]
    if len(found) == 1:
        return found[0]
    if found:
        these = " and ".join(f"{name!r} of suite {suite!r}" for suite, name, _ in found)
        raise RunError(
            f"SUITE/ITEM must name one item; {item!r} is {these}. In Python, give the pair: "
            f"run.trace(item={found[0][:2]!r})."
        )
    raise RunError(
        f"No generation of {directory} was evaluated on {item!r}; give SUITE/ITEM. Suites that were "
        f"evaluated: {', '.join(known) or 'none'}."
    )
