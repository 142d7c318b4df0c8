"""What a generation made, row by row: its samples with their scores and what became of them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from flywheel.corpus import read
from flywheel.errors import RunError
from flywheel.lineage.state import Generation, RunState
from flywheel.lineage.store import Store


def samples(directory: Path, state: RunState, generation: int | None = None) -> pa.Table:
    """Samples of a generation (default: the last that made some): provenance, payload, scores, decisions.

    Generation 0 has the human samples; of a pruned batch, payload and scores are gone. Raises RunError if
    the generation made none.
    """
    chosen = _generation(directory, state, generation)
    store = Store(directory)
    batch = str(chosen.output("generate", "samples") or chosen.output("seed", "samples"))
    if batch in state.pruned:
        rows = store.table(state.stand_in(batch))
    else:
        rows = read(store, [[batch, chosen.output("grade", "scores")]])
    decided = chosen.output("curate", "decisions")
    if decided is None or "keep" in rows.column_names:
        return rows
    decisions = store.table(state.stand_in(decided))
    where = pc.index_in(rows["id"], value_set=decisions["id"])
    for name in ("keep", "reason", "weight", "count"):
        rows = rows.append_column(name, decisions[name].take(where))
    return rows


def _generation(directory: Path, state: RunState, number: int | None) -> Generation:
    made = [g for g in state.generations if {"seed", "generate"} & g.stages.keys()]
    chosen = [g for g in made if number in (None, g.number)]
    if not chosen:
        numbers = ", ".join(str(g.number) for g in made) or "none"
        raise RunError(f"Generation {number} of {directory} made no samples. Those that did: {numbers}.")
    return chosen[-1]
