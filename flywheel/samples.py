"""What a generation made, row by row: its samples with their scores and what became of them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from flywheel.corpus import beside, read
from flywheel.errors import RunError
from flywheel.lineage.state import Generation, RunState
from flywheel.lineage.store import Store


def samples(directory: Path, state: RunState, generation: int | None = None) -> pa.Table:
    """Samples of a generation (default: the last that made some): provenance, payload, scores, decisions.

    Generation 0 has the human samples. Raises RunError if the generation made none.
    """
    chosen = _generation(directory, state, generation)
    store = Store(directory)
    batch = chosen.output("generate", "samples") or chosen.output("seed", "samples")
    rows = read(store, [[batch, chosen.output("grade", "scores")]])
    decided = chosen.output("curate", "decisions")
    return rows if decided is None else beside(rows, store.table(decided))


def _generation(directory: Path, state: RunState, number: int | None) -> Generation:
    made = [g for g in state.generations if {"seed", "generate"} & g.stages.keys()]
    chosen = [g for g in made if number in (None, g.number)]
    if not chosen:
        numbers = ", ".join(str(g.number) for g in made) or "none"
        raise RunError(f"Generation {number} of {directory} made no samples. Those that did: {numbers}.")
    return chosen[-1]
