"""What a generation made, row by row: its samples with their scores and what became of them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from flywheel.errors import ConfigError, RunError
from flywheel.lineage.generation import Which, find_generation
from flywheel.lineage.graph import turns_by_batch
from flywheel.lineage.sandbox import sandbox
from flywheel.lineage.status import read_state
from flywheel.records import Role
from flywheel.storage.corpus import beside, read
from flywheel.storage.ids import batch_of
from flywheel.storage.reader import reread_when_pruned
from flywheel.storage.sources import batch_source
from flywheel.storage.state import Generation, RunState
from flywheel.storage.store import Store
from flywheel.tables.digests import column_texts


def samples(directory: Path, state: RunState, generation: Which | None = None) -> pa.Table:
    """Samples of a generation (default: the last that made some): provenance, payload, scores, decisions.

    Generation 0 has the human samples. Raises RunError if the generation made none.
    """
    return samples_of(Store(directory), state, _generation(directory, state, generation))


@reread_when_pruned
def read_samples(directory: Path, generation: Which | None = None) -> pa.Table:
    """``samples`` of a run as it is now."""
    return samples(directory, read_state(directory), generation)


def samples_of(store: Store, state: RunState, generation: Generation) -> pa.Table:
    """``samples`` of a generation that made some. Of a pruned batch, payload and scores are gone."""
    batch = str(batch_of(generation))
    if batch in state.pruned:
        rows = store.table(state.resolve_pruned(batch))
    else:
        rows = read(store, [[batch, *batch_source(generation)[1:]]])
    decided = generation.output("curate", "decisions")
    if decided is None or "keep" in rows.column_names:
        return rows
    return beside(rows, store.table(state.resolve_pruned(decided)))


def samples_where(
    directory: Path, state: RunState, condition: str
) -> tuple[dict[int, pa.ChunkedArray], list[int]]:
    """Turn -> ids of its samples for which an SQL condition holds, by DuckDB; and the turns it cannot ask.

    Of those the batch was pruned, and the condition needs what is gone. The columns are those of
    ``samples RUN --json``: provenance, payload, scores and decisions. The condition is one expression: no
    other statement, no file, no network. Raises ConfigError.
    """
    store, generations = Store(directory), state.generations
    batches = {turn: samples_of(store, state, generations[turn]) for turn in turns_by_batch(state).values()}
    if not batches:
        raise RunError(f"{directory} has no samples yet.")
    slim = {turn for turn in batches if batch_of(generations[turn]) in state.pruned}
    unpruned = [rows for turn, rows in batches.items() if turn not in slim]
    rows, unasked = pa.concat_tables(unpruned, promote_options="permissive"), list[int]()
    with sandbox({"samples": rows, **{f"of_{turn}": batches[turn] for turn in slim}}) as database:
        import duckdb

        def ids_of(view: str) -> pa.Array:
            id_rows = database.table(view).set_alias("samples").filter(condition).select("id").fetchall()
            return pa.array([row[0] for row in id_rows], pa.string())

        try:
            ids = [ids_of("samples")]
            for turn in slim:
                try:
                    ids.append(ids_of(f"of_{turn}"))
                except duckdb.BinderException:
                    unasked.append(turn)
        except duckdb.Error as error:
            raise ConfigError(
                f"The condition must be an SQL expression on the columns {', '.join(rows.column_names)}; "
                f"{condition!r} is not: {error}"
            ) from error
    matching = pa.concat_arrays(ids)
    chosen = {turn: b["id"].filter(pc.is_in(b["id"], value_set=matching)) for turn, b in batches.items()}
    return {turn: column for turn, column in chosen.items() if len(column)}, sorted(unasked)


@reread_when_pruned
def audit_rows(
    directory: Path, generation: Which | None = None, size: int = 200
) -> tuple[Generation, pa.Table]:
    """A turn (default: the newest that kept some) and its kept samples that were drawn for its audit.

    Without an audit those that one would draw: ``size`` of them, at random by the run's seed, none of which a
    dev suite asks. They come without scores and decisions, for a person to judge. Raises RunError if the
    generation kept none of a batch of its own.
    """
    state, store = read_state(directory), Store(directory)
    turns = [g for g in state.generations if g.generate and g.curate]
    if generation is None and not turns:
        raise RunError(f"{directory} has no turn yet that kept samples.")
    turn = turns[-1] if generation is None else find_generation(directory, state, generation)
    batch, decided = turn.output("generate", "samples"), turn.output("curate", "decisions")
    if batch is None or decided is None or {batch, decided} & state.pruned.keys():
        raise RunError(f"Generation {turn.number} has no batch of its own, with decisions, or no longer.")
    rows, audits = store.table(batch), turn.output("audit", "audits")
    if audits is not None:
        drawn = store.table(audits)
        return turn, rows.filter(pc.is_in(rows["id"], value_set=drawn["id"].filter(drawn["kept"])))
    decisions = store.table(decided)
    kept = decisions["id"].filter(decisions["keep"]).combine_chunks()
    rows = _asked_by_no_dev_suite(store, state, rows.filter(pc.is_in(rows["id"], value_set=kept)))
    order = state.key(turn.number, "audit")("draw").each(rows["id"].to_pylist()).uniform(1)[:, 0].argsort()
    return turn, rows.take(sorted(order[:size].tolist()))


def _asked_by_no_dev_suite(store: Store, state: RunState, rows: pa.Table) -> pa.Table:
    """The rows whose problem is no item of a dev suite, as far as the task names identity columns."""
    seed = next((g.seed for g in state.generations if g.seed), None)
    columns = seed.facts.held_out.columns if seed else ()
    if seed is None or not columns or not set(columns) <= set(rows.column_names):
        return rows
    about = state.created.data.values() if state.created else ()
    names = [f"suite_{what['name']}" for what in about if what.get("role") == Role.DEV]
    for suite in (store.table(seed.outputs[name]) for name in names if name in seed.outputs):
        texts = (
            pc.binary_join_element_wise(*(column_texts(table[name]) for name in columns), "\x1f")
            for table in (rows, suite)
        )
        ours, theirs = texts
        rows = rows.filter(pc.invert(pc.is_in(ours, value_set=theirs.combine_chunks())))
    return rows


def _generation(directory: Path, state: RunState, which: Which | None) -> Generation:
    makers = [g for g in state.generations if batch_of(g)]
    if which is None and not makers:
        raise RunError(f"{directory} has no samples yet.")
    chosen = makers[-1] if which is None else find_generation(directory, state, which)
    if not batch_of(chosen):
        numbers = ", ".join(str(g.number) for g in makers) or "none"
        raise RunError(
            f"Expected a generation of {directory} that made samples: {numbers}; got {chosen.number}."
        )
    return chosen
