"""Scoring a model on suites, item by item, in units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from flywheel import ranks
from flywheel.errors import StageFailed
from flywheel.keys import Key, Keys
from flywheel.records import Interval, Json, Role, Suite, Unit
from flywheel.runtime.context import Context
from flywheel.runtime.weights import without_gradients
from flywheel.runtime.work import UnitsDone, cut, to_bytes
from flywheel.storage.state import Generation
from flywheel.tables import OUTCOMES, as_text, constant

if TYPE_CHECKING:
    import lightning

_ROUNDING = 1e-6
"""What a mean of 32-bit floats may be above 1, or below 0; of coarser floats it may be one step of theirs."""


def measure(ctx: Context, weights: str, opponent: Generation | None) -> tuple[pa.Table, UnitsDone]:
    """Outcomes on the suites that the stage sees, item by item, and the units they were made in.

    On ranks other than 0 the table is empty.
    """
    model = ctx.load_model(weights, ctx.settings)
    rival = ctx.load_model(str(opponent.weights), opponent.settings) if opponent else None
    chosen = [suite for suite in ctx.data.suites.values() if rival is not None or not suite.duel]
    names = [suite.name for suite in chosen]
    inputs = {"weights": weights, "opponent": opponent and opponent.weights, "suites": names}
    scored, units = score_suites(ctx, model, rival, chosen, ctx.key, inputs)
    if ranks.rank() != 0:
        return OUTCOMES.empty_table(), units
    tables = [
        _outcomes(rows, suite, weights, opponent.weights if suite.duel and opponent else None)
        for suite, rows in zip(chosen, scored, strict=True)
    ]
    return pa.concat_tables(tables) if tables else OUTCOMES.empty_table(), units


def _outcomes(scored: pa.Table, suite: Suite, subject: str, opponent: str | None) -> pa.Table:
    columns = {
        "suite": constant(suite.name, pa.string(), len(scored)),
        "item": scored["item"],
        "cluster": scored["cluster"],
        "subject": constant(subject, pa.string(), len(scored)),
        "opponent": constant(opponent, pa.string(), len(scored)),
        "score": scored["score"],
    }
    return pa.table(columns).cast(OUTCOMES)


def score_suites(
    ctx: Context,
    model: lightning.LightningModule,
    rival: Any,
    suites: Sequence[Suite],
    key: Key,
    inputs: Json = None,
) -> tuple[list[pa.Table], UnitsDone]:
    """Columns ``item``, ``cluster``, ``score`` of each suite's items, on rank 0; empty lists elsewhere.

    An item of a unit that failed and is skipped scores 0: none is missing. ``inputs``: see ``Work.do``.
    """
    config = ctx.components.resolved
    task, trainer = ctx.components.task, config["trainer"]
    model, rival = (m and calibrated(task, m, ctx.data.dev, trainer) for m in (model, rival))
    items = [with_clusters(suite.items) for suite in suites]
    keys = [key(suite.name).each(item_names(part)) for suite, part in zip(suites, items, strict=True)]
    rivals = [rival if suite.duel else None for suite in suites]
    work = ScoreItems(task, model, rivals, items, keys, trainer)
    scored: list[list[pa.Table]] = [[] for _ in suites]

    def take(unit: Unit, rows: pa.Table | None, failure: Exception | None) -> None:
        suite, chosen = work.place(unit)
        part = items[suite][chosen]
        scored[suite].append(_scores(part, np.zeros(len(part))) if rows is None else rows)

    boundaries = cut(config["chunk_size"], *map(len, items))
    whose = {"part": work.task, "note": lambda unit: suites[work.place(unit)[0]].name}
    units = ctx.work.do(boundaries, work, take, inputs=inputs, **whose)
    return [pa.concat_tables(parts) for parts in scored if parts], units


def calibrated(task: Any, model: Any, dev: Mapping[str, pa.Table], trainer: Mapping[str, Any]) -> Any:
    """The model as it is scored: if the task calibrates, on the items of its dev suites."""
    if not hasattr(task, "calibrate"):
        return model
    if not dev:
        raise ValueError("a task with calibrate() must have a dev suite: models are calibrated on it")
    with without_gradients(trainer):
        return task.calibrate(model, dev)


@dataclass(frozen=True, slots=True)
class ScoreItems:
    """The work of a unit: the scores of its items, which are of one suite. Suites follow each other."""

    task: Any
    model: Any
    rivals: Sequence[Any]
    """Each suite's opponent, or None."""
    items: Sequence[pa.Table]
    keys: Sequence[Keys]
    trainer: Mapping[str, Any]

    def place(self, unit: Unit) -> tuple[int, slice]:
        """The number of a unit's suite, and which of that suite's items are the unit's."""
        suite, first = 0, 0
        while unit.start >= first + len(self.items[suite]):
            suite, first = suite + 1, first + len(self.items[suite])
        return suite, slice(unit.start - first, unit.stop - first)

    def __call__(self, unit: Unit) -> bytes:
        """Columns ``item``, ``cluster``, ``score``. Raises ValueError for bad scores."""
        suite, rows = self.place(unit)
        items, keys = self.items[suite][rows], self.keys[suite][rows]
        return to_bytes(score_unit(self.task, self.model, self.rivals[suite], items, keys, self.trainer))


def with_clusters(items: pa.Table) -> pa.Table:
    """The items with a column ``cluster``; by default each item is its own cluster."""
    return items if "cluster" in items.column_names else items.append_column("cluster", items["item"])


def item_names(items: pa.Table) -> list[str]:
    """The names of items, as text."""
    names: list[str] = as_text(items["item"], "item").to_pylist()
    return names


def score_unit(
    task: Any,
    model: lightning.LightningModule,
    rival: object,
    items: pa.Table,
    keys: Keys,
    trainer: Mapping[str, Any],
) -> pa.Table:
    """Columns ``item``, ``cluster``, ``score`` of a unit of items. Raises ValueError for bad scores.

    ``trainer``: the configured section; see ``without_gradients``.
    """
    keys.seed_globals()
    with without_gradients(trainer):
        scores, step = _numbers(task.evaluate(model, rival, items, keys))
    if scores.shape != (len(items),):
        raise ValueError(f"evaluate() must score every item: {len(items)} items, shape {scores.shape}")
    bad = np.flatnonzero(~((scores >= -step) & (scores <= 1 + step)))
    if len(bad):
        raise ValueError(
            f"scores must lie in [0, 1]; {len(bad)} of {len(scores)} do not, the first is "
            f"{scores[bad[0]]:g}, of item {str(items['item'][bad[0]])!r}"
        )
    return _scores(items, scores.clip(0, 1) + 0.0)  # no -0.0


def _scores(items: pa.Table, scores: np.ndarray) -> pa.Table:
    return pa.table({"item": items["item"], "cluster": items["cluster"], "score": pa.array(scores)})


def _numbers(scores: Any) -> tuple[np.ndarray, float]:
    """Scores as 64-bit floats, NaN where there is none, and the largest rounding error they may have."""
    if str(getattr(scores, "dtype", "")) == "torch.bfloat16":  # NumPy has no such type
        return scores.double().numpy(force=True), 2.0**-7
    if isinstance(scores, np.ma.MaskedArray):
        scores = np.ma.filled(scores.astype(float), np.nan)
    raw = np.asarray(scores)
    if raw.dtype.kind not in "biufO":
        raise ValueError(f"scores must be numbers; evaluate() gave {raw.dtype}")
    step = float(np.finfo(raw.dtype).eps) if raw.dtype.kind == "f" else 0.0
    return np.asarray(scores, float), max(step, _ROUNDING)


@dataclass(frozen=True, slots=True)
class Means:
    """How a model did on suites."""

    score: float
    """The mean over all items."""
    error: float | None
    """Its standard error, with clusters as the units that are independent; None: there is one of them."""
    suites: dict[str, float]
    """The mean of each suite."""
    sums: list[float]
    """The scores of each cluster's items, summed up."""
    sizes: list[int]
    """The items of each cluster."""

    @classmethod
    def of(cls, tables: Mapping[str, pa.Table]) -> Means:
        """Of tables with ``cluster`` and ``score``, by suite."""
        scores = {name: table["score"].to_numpy() for name, table in tables.items()}
        every = np.concatenate(list(scores.values()))
        clusters = [f"{name} {own}" for name, table in tables.items() for own in table["cluster"].to_pylist()]
        _, of_item, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
        sums = np.bincount(of_item, weights=every)
        means = {name: float(own.mean()) for name, own in scores.items()}
        return cls(float(every.mean()), error_of_mean(sums, sizes), means, sums.tolist(), sizes.tolist())


def error_of_mean(sums: Sequence[float] | np.ndarray, sizes: Sequence[int] | np.ndarray) -> float | None:
    """The standard error of a mean over items, of each cluster's sum and size; None: there is one cluster.

    Of the differences of two models' sums it is that of the difference of their means on the same items.
    """
    sums, sizes = np.asarray(sums, float), np.asarray(sizes)
    count, items = len(sizes), sizes.sum()
    apart = sums - sizes * (sums.sum() / items)
    return float(np.sqrt((apart**2).sum() * count / (count - 1)) / items) if count > 1 else None


def score_means(ctx: Context, model: lightning.LightningModule, rival: object, role: Role, key: Key) -> Means:
    """How a model does on the suites with this role; duels only with a rival."""
    model.eval()
    suites = [s for s in ctx.data.suites.values() if s.role == role and (rival or not s.duel)]
    if not suites:
        raise StageFailed("tune", f"trials are scored on {role} suites, and the task has none to use")
    tables, _ = score_suites(ctx, model, rival, suites, key)

    names = [suite.name for suite in suites]
    return ranks.from_rank_0(lambda: Means.of(dict(zip(names, tables, strict=True))))


def metrics(outcomes: pa.Table, suites: Mapping[str, Suite]) -> dict[str, dict[str, Interval]]:
    """{suite: {metric: estimate}}. Raises ValueError."""
    names = outcomes["suite"].to_numpy()
    rows = {suite.name: outcomes.filter(names == suite.name) for suite in suites.values()}
    return {name: _measured(suites[name], own) for name, own in rows.items() if len(own)}


def _measured(suite: Suite, outcomes: pa.Table) -> dict[str, Interval]:
    measured: dict[str, Interval] = {}
    for metric in suite.metrics:
        values = metric.measure(outcomes, suite.items)
        twice = sorted(values.keys() & measured.keys())
        if twice:
            rule = "metrics of a suite must have names of their own"
            raise ValueError(f"{rule}; two of suite {suite.name} are called {twice[0]!r}")
        measured |= values
    return measured
