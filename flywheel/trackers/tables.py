"""What a run says in tables of a few rows: samples, trials, outcomes of a generation that has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, zip_longest
from typing import TYPE_CHECKING, Any

from flywheel.errors import PrunedError
from flywheel.lineage.status import kept_from_people
from flywheel.storage.state import Generation, RunState

if TYPE_CHECKING:
    import pyarrow as pa

    from flywheel.storage.store import Store
    from flywheel.views import View

_PROVENANCE = ("id", "made_in", "made_by", "origin", "source", "prompt", "group", "key")
_SIDES = ("kept", "dropped")


@dataclass(frozen=True, slots=True)
class SmallTable:
    """Rows of plain values, and of views of samples."""

    columns: tuple[str, ...]
    rows: list[list[Any]]


def tables_of(
    generation: Generation, state: RunState, store: Store, limit: int, task: Any = None
) -> dict[str, SmallTable]:
    """Name -> table of at most ``limit`` rows; those that a generation has.

    ``task``: whose ``show`` says how people see a sample.
    """
    makers: dict[str, Callable[..., SmallTable | None]] = {
        "samples": partial(samples_table, task=task),
        "trials": trials_table,
        "outcomes": outcomes_table,
    }
    tables = {}
    for name, make in makers.items():
        with suppress(PrunedError):  # of an earlier session: what was pruned since is not in that state
            table = make(generation, state, store, limit)
            if table is not None and table.rows:
                tables[name] = table
    return tables


def samples_table(
    generation: Generation, state: RunState, store: Store, limit: int, task: Any = None
) -> SmallTable | None:
    """Some samples that were kept beside some that were dropped, with scores and why; None: no batch.

    They are drawn by their ids, which are hashes: always the same ones, and no particular ones. Of those
    dropped there is one of each reason before there is a second one.
    """
    batch, decisions = generation.output("generate", "samples"), generation.output("curate", "decisions")
    if batch is None or decisions is None or state.pruned.keys() & {batch, decisions}:
        return None
    from flywheel.lineage.samples import samples_of

    rows = samples_of(store, state, generation)
    payload = [name for name in store.table(batch).column_names if name not in _PROVENANCE]
    shown = ("prompt", *payload)
    scores = [
        name
        for name in rows.column_names
        if name not in {*_PROVENANCE, *payload, "keep", "reason", "weight", "count"}
    ]
    sides = [_drawn(rows, keep, limit) for keep in (True, False)]
    columns = [f"{side}{name}" for side in _SIDES for name in ("", *(f" {s}" for s in scores), " reason")]
    cells = [[_cells(row, shown, scores, task) for row in side] for side in sides]
    empty = [None] * (len(scores) + 2)
    pairs = zip_longest(*cells, fillvalue=empty)
    return SmallTable(("generation", *columns), [[generation.number, *a, *b] for a, b in pairs])


def _drawn(rows: pa.Table, keep: bool, limit: int) -> list[dict[str, Any]]:
    """So many of the rows that were kept, or dropped, of all reasons."""
    import pyarrow.compute as pc

    side = rows.filter(pc.equal(rows["keep"], keep))
    by_reason = []
    for reason in sorted(pc.unique(side["reason"]).to_pylist()):
        same = side.filter(pc.equal(side["reason"], reason))
        first = pc.select_k_unstable(same, min(limit, len(same)), [("id", "ascending")])
        by_reason.append(same.take(first).to_pylist())
    return _in_turns(by_reason, limit)


def _cells(row: dict[str, Any], shown: tuple[str, ...], scores: list[str], task: Any) -> list[Any]:
    return [_view(row, shown, task), *(row[name] for name in scores), row["reason"]]


def _view(row: dict[str, Any], shown: tuple[str, ...], task: Any) -> View:
    from flywheel.views import view_of

    sample = row if hasattr(task, "show") else {name: row[name] for name in shown if name in row}
    return view_of(sample, task)


def trials_table(generation: Generation, state: RunState, store: Store, limit: int) -> SmallTable | None:
    """The trials of a generation with their settings, the best first; None: it has none."""
    name = generation.output("tune", "trials")
    facts = generation.tune.facts if generation.tune else None
    if name is None or facts is None or facts.units is None:
        return None
    trials = store.json(name)
    settings = sorted({key for trial in trials for key in trial["trial"]["settings"]})
    columns = ("generation", "trial", "score", "error", "chosen", "pruned", "failure", "start", "share")
    rows = [
        [
            *(generation.number, trial["number"], trial.get("score"), trial.get("error")),
            *(trial["number"] == facts.trial, bool(trial.get("pruned")), trial.get("failure")),
            *(trial["trial"].get("start"), trial.get("share")),
            *(trial["trial"]["settings"].get(key) for key in settings),
        ]
        for trial in _best_first(trials)[:limit]
    ]
    return SmallTable((*columns, *settings), rows)


def _best_first(trials: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Trials by score, then by number; those without one, which failed, come last."""

    def place(trial: dict[str, Any]) -> tuple[bool, float, int]:
        score = trial.get("score")
        return score is None, -(score or 0.0), trial["number"]

    return sorted(trials, key=place)


def outcomes_table(generation: Generation, state: RunState, store: Store, limit: int) -> SmallTable | None:
    """Items with the candidate's score and that of the champion when it began: those that differ most first.

    As many of each suite as of the others, where there are so many. None of gate suites, and of guard suites
    that share items with one: people see no more of these than the figures (docs/gates.md).
    """
    import pyarrow.compute as pc

    ours = _scores(generation, state, store)
    if ours is None:
        return None
    champion = None if generation.champion is None else state.generations[generation.champion]
    theirs = _scores(champion, state, store) if champion else None
    keys = ["suite", "item", "opponent"]
    rows = ours.join(ours.slice(0, 0) if theirs is None else theirs, keys, right_suffix=" before")
    difference = pc.subtract(rows["score"], rows["score before"])
    rows = rows.append_column("difference", difference)
    rows = rows.append_column("size", pc.fill_null(pc.abs(difference), 0.0))
    by_suite = []
    for suite in sorted(pc.unique(rows["suite"]).to_pylist()):
        same = rows.filter(pc.equal(rows["suite"], suite))
        order = [("size", "descending"), ("item", "ascending")]
        by_suite.append(same.take(pc.select_k_unstable(same, min(limit, len(same)), order)).to_pylist())
    columns = ("suite", "item", "score", "score before", "difference")
    few = [[generation.number, *(row[name] for name in columns)] for row in _in_turns(by_suite, limit)]
    return SmallTable(("generation", "suite", "item", "candidate", "champion", "difference"), few)


def _scores(generation: Generation, state: RunState, store: Store) -> pa.Table | None:
    """Its outcomes on suites that people may see, of its evaluation, else of its screening; None: none.

    The opponent is empty where there is none.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    left_out = sorted(kept_from_people(state))
    tables = []
    for stage in ("evaluate", "screen"):
        if (name := generation.output(stage, "outcomes")) is None:
            continue
        rows = store.table(name, ["suite", "item", "opponent", "score"])
        rows = rows.filter(pc.invert(pc.is_in(rows["suite"], value_set=pa.array(left_out, pa.string()))))
        opponent = pc.fill_null(rows["opponent"].cast(pa.string()), "")
        tables.append(rows.set_column(2, "opponent", opponent))
        left_out += pc.unique(rows["suite"]).to_pylist()
    return pa.concat_tables(tables) if tables else None


def _in_turns(groups: list[list[dict[str, Any]]], limit: int) -> list[dict[str, Any]]:
    """So many rows: one of each group before there is a second one."""
    turns = chain.from_iterable(zip_longest(*groups))
    return list(islice((row for row in turns if row is not None), limit))
