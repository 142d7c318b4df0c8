"""Generate: the champion makes samples, a unit of prompts after another, on all ranks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flywheel import ranks
from flywheel.errors import DataError, StageFailed
from flywheel.keys import Key, Keys
from flywheel.records import Carry, Settings, Suite, Unit
from flywheel.runtime.context import Context, StageOutput
from flywheel.runtime.data import own_types
from flywheel.runtime.meter import tokens_of
from flywheel.runtime.weights import without_gradients
from flywheel.runtime.work import cut, to_bytes
from flywheel.storage.events import GenerateFacts
from flywheel.storage.parquet import GROUP_BYTES, GROUP_ROWS
from flywheel.storage.state import Generation
from flywheel.storage.store import Store, Stored
from flywheel.tables import (
    as_table,
    as_text,
    require,
    require_finite,
    require_own_columns,
    with_provenance,
)
from flywheel.tables.digests import sketch
from flywheel.tables.slices import results_by_slice, slice_columns
from flywheel.tables.types import is_known, matched, stored


def generate(ctx: Context, *, parent: Generation, share: float = 1.0) -> StageOutput:
    """The parent's answers to this generation's prompts, as samples with provenance.

    Prompts that are items of a suite are left out: no model may train on them. ``share``: of the prompts,
    the first ones, that a trial has answered.
    """
    task, config = ctx.components.task, ctx.components.resolved
    results = shown_results(task, ctx.data.suites, ctx.store, parent)
    drawn = draw_prompts(task, ctx.generation, ctx.carry, ctx.key, results)
    prompts, left_out = ctx.data.hold_out(drawn)
    prompts = prompts[: max(1, round(len(prompts) * share))]
    if len(prompts) == 0:
        raise StageFailed("generate", f"all {left_out} prompts are items of suites: none is left to answer")
    model = ctx.load_model(str(parent.weights), parent.settings)
    keys = ctx.key("prompt").each(as_text(prompts["prompt"], "prompt").to_pylist())
    make = MakeSamples(task, model, prompts, keys, ctx.settings, config["trainer"])
    boundaries = cut(config["chunk_size"], len(prompts))
    known_by = sketch(drawn)
    if ranks.rank() != 0:
        ctx.work.do(boundaries, make, lambda *_: None)
        return StageOutput()
    samples = _Samples(ctx, parent)
    with ctx.store.table_writer() as writer:  # as they come: a batch need not fit into memory

        def take(unit: Unit, rows: pa.Table | None, failure: Exception | None) -> None:
            for part in [] if rows is None else samples.of(unit.number, rows):
                writer.write(part)

        inputs = {"parent": parent.weights, "prompts": known_by.json()}
        counts = {"samples": len, **tokens_of(task)}
        units = ctx.work.do(boundaries, make, take, inputs=inputs, part=task, counts=counts)
        for part in samples.rest():
            writer.write(part)
        if writer.rows == 0:
            raise StageFailed("generate", f"the champion made no samples{units.why_failed}")
    facts = GenerateFacts(made=writer.rows, left_out=left_out, prompts=known_by, units=units.facts)
    return StageOutput({"samples": Stored(writer.name)}, facts, units.seconds)


def shown_results(
    task: Any, suites: Mapping[str, Suite], store: Store, parent: Generation
) -> pa.Table | None:
    """What prompts are shown of the parent's results; None: the task names no slices, or there are none."""
    outcomes = parent.dev_outcomes if slice_columns(task) else None
    return results_by_slice(task, suites, store.table(outcomes)) if outcomes else None


def draw_prompts(
    task: Any, generation: int, carry: Mapping[str, Carry], key: Key, results: pa.Table | None
) -> pa.Table:
    """The prompts of a generation; ``key``: that of its stage ``generate``. The gate's carry is left out.

    ``results``: the parent's on dev, for a task that names slices.
    """
    key.seed_globals()
    seen = {part: own for part, own in carry.items() if part != "gate"}
    shown = {"results": results} if slice_columns(task) else {}
    prompts = as_table(task.prompts(generation, seen, key("prompts"), **shown))
    return require(stored(prompts, "Prompts"), "Prompts", unique="prompt")


@dataclass(frozen=True, slots=True)
class MakeSamples:
    """The work of a unit: what the task generates for its prompts, each row with its prompt's key."""

    task: Any
    model: Any
    prompts: pa.Table
    keys: Keys
    settings: Settings
    trainer: Mapping[str, Any]
    """The configured section; see ``without_gradients``."""

    def __call__(self, unit: Unit) -> bytes:
        """The unit's rows. Raises DataError if they cannot be samples."""
        rows = slice(unit.start, unit.stop)
        prompts, keys = self.prompts[rows], self.keys[rows]
        keys.seed_globals()
        with without_gradients(self.trainer):
            answer = self.task.generate(self.model, prompts, self.settings, keys)
        title = f"Samples of unit {unit.number}"
        samples = stored(as_table(answer), title)
        require_own_columns(samples, ("prompt", "group"))
        return to_bytes(require_finite(_with_keys(samples, prompts["prompt"], keys), title))


def _with_keys(rows: pa.Table, prompts: pa.ChunkedArray, keys: Keys) -> pa.Table:
    """The rows with a column ``key``. Raises DataError if they answer a prompt that is not in the unit."""
    asked, answered = (as_text(column, "prompt") for column in (prompts, rows["prompt"]))
    where = pc.index_in(answered, value_set=asked.combine_chunks())
    if where.null_count:
        stray = answered.filter(pc.is_null(where))[0].as_py()
        raise DataError(
            "generate() must answer the prompts of its unit and no others; it answered "
            f"{stray!r}. Take the column 'prompt' from the rows it is given."
        )
    return rows.append_column("key", pa.array(keys.seeds).take(where.combine_chunks()))


class _Samples:
    """Makes samples of what ``generate`` returned, unit after unit, all with the same columns and types.

    The types are those of the seed samples; of a column that those lack, those of the first unit that says
    one: while all have only nulls or empty lists there, units wait, up to a row group of them.
    """

    def __init__(self, ctx: Context, parent: Generation) -> None:
        self._ctx, self._parent = ctx, parent
        self._types = _known_types(ctx.data.human)
        self._names: list[str] = []
        self._waiting: list[tuple[int, pa.Table]] = []
        self._rows = self._bytes = 0

    def of(self, unit: int, rows: pa.Table) -> list[pa.Table]:
        """The samples that are ready now that ``rows`` of this unit are here.

        Raises DataError if a column's type cannot become that of the others without loss, or the columns are
        not those of the first unit.
        """
        if len(rows) == 0:  # the types of its columns are not known
            return []
        names = self._names = self._names or rows.column_names
        if sorted(names) != sorted(rows.column_names):
            raise DataError(
                f"Every unit must have the same columns; unit {unit} has {rows.column_names}, those "
                f"before it {names}."
            )
        self._types = _known_types(rows) | self._types
        self._waiting.append((unit, rows.select(names)))
        self._rows, self._bytes = self._rows + len(rows), self._bytes + rows.nbytes
        is_full = self._rows >= GROUP_ROWS or self._bytes >= GROUP_BYTES
        return self.rest() if is_full or own_types(rows).keys() <= self._types.keys() else []

    def rest(self) -> list[pa.Table]:
        """The samples of all units that still wait."""
        unknown: dict[str, pa.DataType] = {}
        for _, rows in self._waiting:
            unknown = own_types(rows) | {n: kind for n, kind in unknown.items() if not pa.types.is_null(kind)}
        self._types = unknown | self._types
        ready, self._waiting, self._rows, self._bytes = self._waiting, [], 0, 0
        return [self._samples(unit, rows) for unit, rows in ready]

    def _samples(self, unit: int, rows: pa.Table) -> pa.Table:
        samples = with_provenance(
            matched(rows, self._types, f"unit {unit}"),
            own=("prompt", "group", "key"),
            origin="generated",
            made_in=self._ctx.generation,
            made_by=self._parent.weights,
        )
        return require_finite(samples, f"Samples of unit {unit}")


def _known_types(rows: pa.Table) -> dict[str, pa.DataType]:
    """Of the recipe's own columns, those whose types say what their values are."""
    return {name: kind for name, kind in own_types(rows).items() if is_known(kind)}
