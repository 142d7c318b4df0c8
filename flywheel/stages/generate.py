"""Generate: the parent, and rivals beside it, make samples, a unit of prompts after another, on all ranks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flywheel import ranks
from flywheel.config.schema import rivals_in
from flywheel.errors import DataError, StageFailed
from flywheel.keys import Key, Keys
from flywheel.records import Carry, Settings, Start, Suite, Unit
from flywheel.runtime.context import Context, StageOutput
from flywheel.runtime.data import own_types
from flywheel.runtime.meter import tokens_of
from flywheel.runtime.weights import ModelLoader, without_gradients
from flywheel.runtime.work import cut, to_bytes
from flywheel.storage.events import GenerateFacts, Producer
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


def generate(
    ctx: Context,
    *,
    parent: Generation,
    rivals: Mapping[str, Generation | Start] = MappingProxyType({}),
    share: float = 1.0,
) -> StageOutput:
    """The parent's answers to this generation's prompts, and those of rivals, as samples with provenance.

    Prompts that are items of a suite are left out: no model may train on them. Of the others each rival, by
    its name, answers its configured share; what several answer to one prompt shares a group. ``share``: of
    the prompts, the first ones, that a trial has answered.
    """
    task, config = ctx.components.task, ctx.components.resolved
    results = shown_results(task, ctx.data.suites, ctx.store, parent)
    drawn = draw_prompts(task, ctx.generation, ctx.carry, ctx.key, results)
    prompts, left_out = ctx.data.hold_out(drawn)
    prompts = prompts[: max(1, round(len(prompts) * share))]
    if len(prompts) == 0:
        raise StageFailed("generate", f"all {left_out} prompts are items of suites: none is left to answer")
    asked = _asked(ctx, prompts, parent, rivals)
    asked[0].loader()  # on all ranks: without the parent there is no unit to do
    make = MakeSamples(task, asked, ctx.settings, config["trainer"])
    boundaries = cut(config["chunk_size"], *(len(each.prompts) for each in asked))
    known_by = sketch(drawn)
    if ranks.rank() != 0:
        ctx.work.do(boundaries, make, lambda *_: None)
        return StageOutput()
    samples = _Samples(ctx)
    with ctx.store.table_writer() as writer:  # as they come: a batch need not fit into memory

        def take(unit: Unit, rows: pa.Table | None, failure: Exception | None) -> None:
            if rows is not None:
                by = make.asked_by(unit)
                made[by.name] += len(rows)
                for part in samples.of(unit.number, by.loader.weights, rows):
                    writer.write(part)

        made: Counter[str] = Counter()
        others = {each.name: each.loader.weights for each in asked[1:]}
        inputs = {"parent": parent.weights, "rivals": others, "prompts": known_by.json()}
        counts = {"samples": len, **tokens_of(task)}
        units = ctx.work.do(boundaries, make, take, inputs=inputs, part=task, counts=counts)
        for part in samples.rest():
            writer.write(part)
        if writer.rows == 0:
            raise StageFailed("generate", f"the champion made no samples{units.why_failed}")
    facts = GenerateFacts(
        made=writer.rows,
        left_out=left_out,
        prompts=known_by,
        units=units.facts,
        rivals={each.name: each.facts(made[each.name]) for each in asked[1:]},
    )
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
class _Asked:
    """The prompts that one producer answers. The parent has no name."""

    name: str
    generation: int | None
    loader: ModelLoader
    prompts: pa.Table
    keys: Keys
    first: int
    """The number of its first row, counted over all producers."""

    def facts(self, samples: int) -> Producer:
        """What the ledger says of it, with how many samples it made."""
        return Producer(
            weights=self.loader.weights,
            generation=self.generation,
            prompts=len(self.prompts),
            samples=samples,
        )


def _asked(
    ctx: Context, prompts: pa.Table, parent: Generation, rivals: Mapping[str, Generation | Start]
) -> list[_Asked]:
    """Who answers what: the parent all prompts, each rival a share of them. The first is the parent."""
    names = as_text(prompts["prompt"], "prompt").to_pylist()
    shares = rivals_in(ctx.components.resolved["rivals"])
    loader = ModelLoader(ctx.components, ctx.store, str(parent.weights), parent.settings)
    asked = [_Asked("", parent.number, loader, prompts, ctx.key("prompt").each(names), 0)]
    for name, rival in rivals.items():
        keys = ctx.key("rival", name).each(names)
        drawn = keys.uniform(1, "share")[:, 0] < shares[name].share
        rows, first = np.flatnonzero(drawn), asked[-1].first + len(asked[-1].prompts)
        number, settings = None, ctx.components.settings()
        if isinstance(rival, Generation):
            number, settings = rival.number, rival.settings
        loader = ModelLoader(ctx.components, ctx.store, str(rival.weights), settings)
        asked.append(_Asked(name, number, loader, prompts.take(rows), keys[rows], first))
    return asked


@dataclass(frozen=True, slots=True)
class MakeSamples:
    """The work of a unit: what the task generates for its prompts, each row with its prompt's key."""

    task: Any
    asked: Sequence[_Asked]
    settings: Settings
    trainer: Mapping[str, Any]
    """The configured section; see ``without_gradients``."""

    def __call__(self, unit: Unit) -> bytes:
        """The unit's rows. Raises DataError if they cannot be samples."""
        by = self.asked_by(unit)
        rows = slice(unit.start - by.first, unit.stop - by.first)
        prompts, keys, model = by.prompts[rows], by.keys[rows], self._model_of(by)
        keys.seed_globals()
        with without_gradients(self.trainer):
            answer = self.task.generate(model, prompts, self.settings, keys)
        title = f"Samples of unit {unit.number}"
        samples = stored(as_table(answer), title)
        require_own_columns(samples, ("prompt", "group"))
        return to_bytes(require_finite(_with_keys(samples, prompts["prompt"], keys), title))

    def asked_by(self, unit: Unit) -> _Asked:
        """Who does a unit."""
        return next(each for each in reversed(self.asked) if each.first <= unit.start)

    def _model_of(self, by: _Asked) -> Any:
        """Its model; no other is kept, as there may be room for one only."""
        for other in self.asked:
            if other is not by:
                other.loader.model = None
        return by.loader()


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

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._types = _known_types(ctx.data.human)
        self._names: list[str] = []
        self._waiting: list[tuple[int, str, pa.Table]] = []
        self._rows = self._bytes = 0

    def of(self, unit: int, made_by: str, rows: pa.Table) -> list[pa.Table]:
        """The samples that are ready now that ``rows`` of this unit are here, made by these weights.

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
        self._waiting.append((unit, made_by, rows.select(names)))
        self._rows, self._bytes = self._rows + len(rows), self._bytes + rows.nbytes
        is_full = self._rows >= GROUP_ROWS or self._bytes >= GROUP_BYTES
        return self.rest() if is_full or own_types(rows).keys() <= self._types.keys() else []

    def rest(self) -> list[pa.Table]:
        """The samples of all units that still wait."""
        unknown: dict[str, pa.DataType] = {}
        for *_, rows in self._waiting:
            unknown = own_types(rows) | {n: kind for n, kind in unknown.items() if not pa.types.is_null(kind)}
        self._types = unknown | self._types
        ready, self._waiting, self._rows, self._bytes = self._waiting, [], 0, 0
        return [self._samples(*unit) for unit in ready]

    def _samples(self, unit: int, made_by: str, rows: pa.Table) -> pa.Table:
        samples = with_provenance(
            matched(rows, self._types, f"unit {unit}"),
            own=("prompt", "group", "key"),
            origin="generated",
            made_in=self._ctx.generation,
            made_by=made_by,
        )
        return require_finite(samples, f"Samples of unit {unit}")


def _known_types(rows: pa.Table) -> dict[str, pa.DataType]:
    """Of the recipe's own columns, those whose types say what their values are."""
    return {name: kind for name, kind in own_types(rows).items() if is_known(kind)}
