"""What a task brings from outside, read and checked once, before a run is opened."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from flywheel.config.parts import section_of
from flywheel.errors import DataError
from flywheel.metrics import Mean
from flywheel.records import Json, Role, Suite
from flywheel.runtime.held_out import HeldOut, Problems
from flywheel.storage import events
from flywheel.storage.state import RunState
from flywheel.storage.store import Store
from flywheel.tables import PROVENANCE, as_table, require, with_provenance
from flywheel.tables.digests import columns_of, table_digest
from flywheel.tables.slices import check_slices
from flywheel.tables.types import is_known, matched, stored

if TYPE_CHECKING:
    import pyarrow as pa

SEED = "seed samples"


class Data(msgspec.Struct, frozen=True):
    """Human samples, with their provenance, and suites by name."""

    human: pa.Table
    suites: Mapping[str, Suite]
    problems: Problems = msgspec.field(default_factory=Problems)
    asked: HeldOut = msgspec.field(default_factory=HeldOut)
    """The problems of all suites, also of those that a view does not have."""
    shared: tuple[events.Shared, ...] = ()
    """Problems that suites share with other rows, as an exception allows."""
    dev: Mapping[str, pa.Table] = msgspec.field(default_factory=dict)
    """Items of the dev suites, in a view that evaluates."""
    recorded: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Those of ``tables`` that the run has recorded, as artifacts."""

    @property
    def tables(self) -> dict[str, pa.Table]:
        """The human samples and each suite's items, by the names that ``identity`` and messages have."""
        items = {f"suite {name}": suite.items for name, suite in self.suites.items()}
        return {SEED: self.human, **items}

    def as_recorded(self, state: RunState, store: Store) -> Data:
        """The same, with the tables that the run recorded: a resumed run uses those, to the bit."""
        outputs = next((g.seed.outputs for g in state.generations if g.seed), {})
        artifacts = {name: outputs[output_of(name)] for name in self.tables if output_of(name) in outputs}
        tables = self.tables | {name: store.table(artifact) for name, artifact in artifacts.items()}
        suites = {name: replace(suite, items=tables[f"suite {name}"]) for name, suite in self.suites.items()}
        return replace(self, human=tables[SEED], suites=suites, recorded=artifacts)

    @property
    def held_out(self) -> events.HeldOut:
        """By which columns suites are held out, and what was exempt."""
        problems = self.problems
        return events.HeldOut(
            columns=problems.columns,
            exhaustible=problems.exhaustible,
            shared=self.shared,
            decontaminate=problems.texts_of,
        )

    def hold_out(self, prompts: pa.Table) -> tuple[pa.Table, int | None]:
        """The prompts that are in no suite, and how many were left out; None if they cannot be compared."""
        return self.asked.leave_out(prompts)

    def view(self, roles: Collection[Role]) -> Data:
        """The same with the suites of these roles only: what a stage does not need it does not hold.

        What evaluates has the dev suites' items, too: models are calibrated on them.
        """
        suites = {name: suite for name, suite in self.suites.items() if suite.role in roles}
        dev = {name: suite.items for name, suite in self.suites.items() if suite.role == Role.DEV}
        return replace(self, suites=suites, dev=dev if suites else {})

    def problems_of(self, suites: Iterable[Suite]) -> set[str]:
        """What items of suites ask, as texts; see ``Problems.asked``."""
        return {text for suite in suites for text in self.problems.asked(suite.items).to_pylist()}

    @property
    def identity(self) -> dict[str, Any]:
        """What each table is: the digest of its rows, floats included; of a suite also its metrics etc."""
        about = {f"suite {suite.name}": _about(suite) for suite in self.suites.values()}
        return {
            name: {"table": table_digest(table), "columns": columns_of(table), **about.get(name, {})}
            for name, table in self.tables.items()
        }


def _about(suite: Suite) -> dict[str, Json]:
    metrics = [section_of(f"a metric of suite {suite.name}", metric) for metric in suite.metrics]
    return {"name": suite.name, "role": suite.role, "metrics": metrics, "duel": suite.duel}


def recorded_suites(state: RunState, store: Store, role: Role) -> dict[str, Suite]:
    """A run's suites with a role, by name, with the items that it recorded and without metrics.

    None before it was seeded.
    """
    outputs = next((g.seed.outputs for g in state.generations if g.seed), {})
    tables = state.created.data.items() if state.created else ()
    about = {output_of(table): what for table, what in tables if what.get("role") == role}
    return {
        what["name"]: Suite(what["name"], role, store.table(outputs[name]), duel=what["duel"])
        for name, what in about.items()
        if name in outputs
    }


def output_of(table: str) -> str:
    """The output of the stage ``seed`` that has one of ``Data.tables``."""
    return "samples" if table == SEED else table.replace("suite ", "suite_", 1)


def read_data(task: Any, *, needs_seed: bool) -> Data:
    """The task's seed samples and suites. Raises DataError if they cannot be trained or evaluated on.

    So it does if a suite shares problems with them or with another suite: see ``flywheel.runtime.held_out``.

    ``needs_seed``: genesis is trained on the seed samples, so there must be some.
    """
    seed = stored(as_table(task.seed()), "Seed samples")
    require(seed, "Seed samples", unique="prompt", may_be_empty=not needs_seed)
    own = ("prompt", "group", "source")
    human = with_provenance(seed, own=own, origin="human", made_in=0, source="recipe", key=0)
    named = [
        replace(s, items=stored(as_table(s.items), f"Suite {s.name}"), metrics=tuple(s.metrics) or (Mean(),))
        for s in task.suites()
    ]
    suites = {suite.name: suite for suite in named}
    if len(suites) < len(named):
        raise DataError(f"Suites must have names of their own; they are {[suite.name for suite in named]}.")
    if not any(suite.role == Role.GATE for suite in named):
        raise DataError("A task must have a suite with role gate; without one nothing can be promoted.")
    for suite in suites.values():
        require(suite.items, f"Suite {suite.name}", unique="item")
        missing = {c for m in suite.metrics for c in m.columns} - set(suite.items.column_names)
        if missing:
            raise DataError(f"Suite {suite.name} must have the columns of its metrics: {sorted(missing)}.")
    check_slices(task, named)
    problems = Problems.of(task)
    shared = problems.check(human, named)
    return Data(human, suites, problems, problems.held_out(named), shared)


def labelled(task: Any, suite: Suite, human: pa.Table) -> pa.Table:
    """A suite's items as human samples, as the task's optional ``samples_of`` makes them.

    Raises DataError without that method, or if they are not what could be mixed with ``human``, the run's
    human samples.
    """
    if not hasattr(task, "samples_of"):
        raise DataError(
            "refit=true trains on the labels of dev and gate, so the task must say how their items become "
            f"samples; {type(task).__name__} has no samples_of(items). Define it, see flywheel/protocols.py, "
            "or leave refit=false."
        )
    what = f"samples_of() of suite {suite.name}"
    samples = stored(as_table(task.samples_of(suite.items)), what)
    require(samples, what, unique="prompt")
    own = own_types(human)
    missing = [name for name in own if len(human) and name not in samples.column_names]
    if missing:
        raise DataError(f"{what} must have the columns of the seed samples: {missing} are missing.")
    samples = matched(samples, {name: kind for name, kind in own.items() if is_known(kind)}, what)
    provenance = {"origin": "human", "made_in": 0, "source": f"suite {suite.name}", "key": 0}
    return with_provenance(samples, own=("prompt", "group"), **provenance)


def own_types(rows: pa.Table) -> dict[str, pa.DataType]:
    """The types of the recipe's own columns of samples."""
    return {field.name: field.type for field in rows.schema if field.name not in PROVENANCE.names}
