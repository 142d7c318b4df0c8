"""The tables that ``query`` offers, each built from the ledger and its artifacts when it is asked for.

generations  one row a generation: verdict, flags, counts, cost; ``settings`` is JSON
events       the ledger's lines; ``content`` is JSON of what is not in a column of its own
samples      every sample that was made, with the scores and the decision of its own turn
decisions    every decision on every sample: one row for each generation that chose
outcomes     one row an evaluated item; ``stage`` is screen, evaluate or sealed
edges        what was made (``child``) from what (``parent``), see ``VIEWS``
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa

from flywheel.lineage.data import corpus_of
from flywheel.lineage.graph import Graph, turns_by_batch
from flywheel.lineage.record import Record
from flywheel.lineage.samples import samples_of
from flywheel.storage.ids import batch_of
from flywheel.storage.state import Generation
from flywheel.tables import DECISIONS, OUTCOMES, PROVENANCE, constant

_TEXT, _INT, _REAL, _YES = pa.string(), pa.int32(), pa.float64(), pa.bool_()
GENERATIONS = pa.schema(
    [
        *(("generation", _INT), ("parent", _INT), ("status", _TEXT), ("reason", _TEXT)),
        *(("champion", _YES), ("frontier", _YES), ("recalled", _YES), ("suspect", _YES)),
        *(("abandoned", _YES), ("opponent", _INT)),
        *(("init", _TEXT), ("weights", _TEXT), ("corpus", _TEXT), ("rows", _INT), ("steps", _INT)),
        *(("seconds", _REAL), ("settings", _TEXT)),
    ]
)
EVENTS = pa.schema(
    [
        *(("seq", _INT), ("time", _REAL), ("event", _TEXT), ("generation", _INT), ("stage", _TEXT)),
        *(("hash", _TEXT), ("content", _TEXT)),
    ]
)
EDGES = pa.schema(
    [
        *(("type", _TEXT), ("generation", _INT), ("child_kind", _TEXT), ("child", _TEXT)),
        *(("parent_kind", _TEXT), ("parent", _TEXT), ("count", _INT)),
    ]
)


def generations(record: Record) -> pa.Table:
    """A row for each."""
    rows = [_generation_row(record, g) for g in record.state.generations]
    return pa.Table.from_pylist(rows, GENERATIONS)


def _generation_row(record: Record, g: Generation) -> dict[str, Any]:
    flags = record.flags(g.number)
    return {
        "generation": g.number,
        "parent": g.parent,
        "status": str(g.status),
        "reason": g.reason,
        **{name: name in flags for name in ("champion", "frontier", "recalled", "suspect", "abandoned")},
        "opponent": g.champion,
        "init": g.init,
        "weights": g.weights,
        "corpus": g.curate.facts.corpus if g.curate else None,
        "rows": g.curate.facts.rows if g.curate else None,
        "steps": g.train.facts.steps if g.train else None,
        "seconds": g.seconds,
        "settings": json.dumps(g.settings),
    }


def events(record: Record) -> pa.Table:
    """A row for each line of the ledger."""
    own = set(EVENTS.names)
    rows = [
        {
            **{name: event.get(name) for name in own},
            "content": json.dumps({key: event[key] for key in event if key not in own and key != "prev"}),
        }
        for event in map(json.loads, record.lines())
    ]
    return pa.Table.from_pylist(rows, EVENTS)


def samples(record: Record) -> pa.Table:
    """All batches, each beside its scores and what its own turn decided."""
    makers = [record.state.generations[turn] for turn in turns_by_batch(record.state).values()]
    batches = [samples_of(record.store, record.state, g) for g in makers]
    empty = pa.schema([*PROVENANCE, *list(DECISIONS)[1:]]).empty_table()
    return pa.concat_tables([empty, *batches], promote_options="permissive")


def decisions(record: Record) -> pa.Table:
    """Every generation's choice among all samples it saw; of pruned ones, those on its own batch."""
    stacked = _stacked(record, ((g, g.output("curate", "decisions"), {}) for g in record.state.generations))
    columns = _led(DECISIONS, {})
    return stacked.select(columns.names) if stacked is not None else columns.empty_table()


def outcomes(record: Record) -> pa.Table:
    """Every item that a generation was scored on."""
    return outcomes_of(record, record.state.generations)


def outcomes_of(record: Record, chosen: Iterable[Generation]) -> pa.Table:
    """Outcomes of some generations, on the sealed suites too where they were looked at.

    One that was screened and evaluated has those on dev of both stages.
    """
    sealed = record.state.sealed

    def parts() -> Iterator[tuple[Generation, str | None, dict[str, str]]]:
        for g in chosen:
            for stage in ("screen", "evaluate"):
                yield g, g.output(stage, "outcomes"), {"stage": stage}
            if g.number in sealed:
                yield g, sealed[g.number].outputs.get("outcomes"), {"stage": "sealed"}

    rows = _stacked(record, parts())
    return rows if rows is not None else _led(OUTCOMES, {"stage": ""}).empty_table()


def _stacked(
    record: Record, parts: Iterable[tuple[Generation, str | None, dict[str, str]]]
) -> pa.Table | None:
    """Artifacts one below the other, each led by its generation's number and the texts given."""
    tables = []
    for g, name, texts in parts:
        table = record.table(name)
        if table is not None:
            led = {"generation": constant(g.number, _INT, len(table))}
            led |= {key: constant(value, _TEXT, len(table)) for key, value in texts.items()}
            tables.append(pa.table({**led, **{key: table[key] for key in table.column_names}}))
    return pa.concat_tables(tables, promote_options="permissive") if tables else None


def _led(schema: pa.Schema, texts: dict[str, str]) -> pa.Schema:
    return pa.schema([("generation", _INT), *((key, _TEXT) for key in texts), *schema])


def edges(record: Record) -> pa.Table:
    """Typed edges from what was made to what it was made from."""
    tables, graph = [EDGES.empty_table()], Graph(record.store, record.state)
    for g in record.state.generations:
        tables.append(pa.Table.from_pylist(list(_small_edges(graph, g)), EDGES))
        tables += _sample_edges(record, g)
    return pa.concat_tables(tables)


def _small_edges(graph: Graph, g: Generation) -> Iterator[dict[str, Any]]:
    """All but those of single samples. A batch and weights are named by their artifacts, as in the ledger."""

    def edge(kind: str, child: tuple[str, Any], parent: tuple[str, Any]) -> dict[str, Any]:
        names = {"child_kind": child[0], "child": child[1], "parent_kind": parent[0], "parent": parent[1]}
        return {"type": kind, "generation": g.number, **names}

    number, all_of = ("generation", str(g.number)), graph.state.generations
    init = graph.init(g)
    if init and init.weights:
        yield edge("init", ("weights", g.weights), ("weights", f"{init.weights}.safetensors"))
    for chosen in graph.settings_from(g):
        yield edge("settings_from", number, ("generation", str(chosen.generation)))
    for turn in graph.seen_turns(g):
        yield edge("saw", number, ("samples", batch_of(all_of[turn])))
    for graded in graph.graded_by(g):
        kind = {"grade": "scores", "audit": "audits"}[graded.stage]
        scores = (kind, g.output(graded.stage, kind))
        yield edge("graded_by", scores, ("grader", graded.grader))
        if graded.weights:
            yield edge("graded_by", scores, ("weights", f"{graded.weights}.safetensors"))
    for rival in graph.opponents(g):
        outcomes = ("outcomes", g.output("evaluate", "outcomes") or g.output("screen", "outcomes"))
        yield edge("opponent", outcomes, ("weights", all_of[rival.generation].weights))


def _sample_edges(record: Record, g: Generation) -> Iterator[pa.Table]:
    """trained_on: generation to sample, as often as it was drawn; produced_by: sample to weights."""
    corpus = corpus_of(record, g)
    if corpus is not None:
        child, parent = ("generation", str(g.number)), ("sample", corpus["id"])
        yield _many("trained_on", g, child, parent, corpus["count"])
    samples = record.table(g.output("generate", "samples"))
    if samples is not None:
        yield _many("produced_by", g, ("sample", samples["id"]), ("weights", samples["made_by"]), None)


def _many(
    kind: str, g: Generation, child: tuple[str, Any], parent: tuple[str, Any], count: pa.ChunkedArray | None
) -> pa.Table:
    length = next(len(end[1]) for end in (child, parent) if not isinstance(end[1], str))
    columns = [kind, g.number, *child, *parent, count]
    arrays = [
        column if isinstance(column, pa.ChunkedArray) else constant(column, field.type, length)
        for column, field in zip(columns, EDGES, strict=True)
    ]
    return pa.table(arrays, schema=EDGES)


VIEWS: dict[str, Callable[[Record], pa.Table]] = {
    "generations": generations,
    "events": events,
    "samples": samples,
    "decisions": decisions,
    "outcomes": outcomes,
    "edges": edges,
}
