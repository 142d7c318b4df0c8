"""The looks of a run as it recorded them: the pairs that its gate was given, and the gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flywheel.api import GenerationView, Run
from flywheel.experiments.pairs import Pairs, Population
from flywheel.keys import Key
from flywheel.lineage.record import Record
from flywheel.lineage.status import held_out
from flywheel.protocols import Evidence
from flywheel.records import Carry, Differences, Role, Suite
from flywheel.runtime.data import recorded_suites
from flywheel.runtime.evidence import PairedOutcomes
from flywheel.runtime.held_out import Problems
from flywheel.storage.accountant import decide
from flywheel.storage.ledger import canonical
from flywheel.storage.state import Generation


@dataclass(frozen=True, slots=True)
class Decider:
    """A gate with its carry: what it promotes at a level."""

    gate: Any
    carry: Carry

    def promotes(self, evidence: Evidence, level: float, key: Key) -> bool:
        """Whether what the gate says of the evidence is enough."""
        result, _ = self.gate.test(evidence, level, self.carry, key("gate"))
        return decide(result, level).promote


@dataclass(frozen=True, slots=True)
class RecordedLook:
    """A look that has a verdict."""

    generation: int
    champion: str
    """Artifact of the outcomes that it was compared with."""
    level: float
    """That was spent on it."""
    decider: Decider
    differences: Mapping[str, Differences]
    """By gate suite."""
    copies: Mapping[str, np.ndarray]
    """By gate suite the number of each item's unit, if items that ask the same are taken together with their
    clusters, shape (items,)."""

    @property
    def items(self) -> int:
        """Of all gate suites."""
        return sum(len(one.items) for one in self.differences.values())

    @property
    def clusters(self) -> int:
        """Of all gate suites."""
        return sum(int(one.clusters.max()) + 1 for one in self.differences.values())

    def pairs(self, *, joined: bool = False) -> Pairs:
        """What there was, to draw from: by clusters as recorded, or ``joined`` where items ask the same."""
        return Pairs(
            {
                name: Population.of(one, self.copies[name] if joined else None)
                for name, one in self.differences.items()
            }
        )

    @property
    def in_copies(self) -> dict[str, int]:
        """By gate suite how many clusters are not of their own, since an item of another asks the same."""
        surplus = {
            name: int(one.clusters.max() - self.copies[name].max()) for name, one in self.differences.items()
        }
        return {name: count for name, count in surplus.items() if count}


def recorded_looks(run: Run, last: int | None = None) -> list[RecordedLook]:
    """The looks of a run that have a verdict, in order; ``last``: only so many, the newest.

    Raises RunError as ``GenerationView.load`` does, where the gate's class is not trusted.
    """
    record = Record.read(run.path)
    generations = [record.state.generations[look.generation] for look in record.state.looks]
    judged = [generation for generation in generations if generation.gate]
    judged = judged[-last:] if last else judged
    if not judged:
        return []
    suites = recorded_suites(record.state, record.store, Role.GATE)
    recorded = held_out(record.state)
    problems = Problems(recorded.columns if recorded else ())
    texts = {name: _numbers(suite.items, problems) for name, suite in suites.items()}
    reader = _Reader(run, record, suites, texts)
    return [reader.look(generation) for generation in judged]


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads looks; what is the same for all of them is read or built once."""

    run: Run
    record: Record
    suites: Mapping[str, Suite]
    texts: Mapping[str, Mapping[str, int]]
    """By suite the number of what each item asks, by its name."""
    gates: dict[bytes, Any] = field(default_factory=dict)
    """By the settings from which they are built."""

    def look(self, generation: Generation) -> RecordedLook:
        """The look at a generation's candidate."""
        assert generation.gate is not None
        assert generation.look is not None
        store, inputs = self.record.store, generation.gate.inputs
        candidate = store.table(inputs["candidate"])
        evidence = PairedOutcomes(self.suites, candidate, store.table(inputs["champion"]))
        differences = {name: evidence.differences(name) for name in evidence.suites}
        carry = generation.carry_before.artifacts.get("gate")
        return RecordedLook(
            generation=generation.number,
            champion=inputs["champion"],
            level=generation.look.level or 0.0,
            decider=Decider(self._gate(generation), store.json(carry) if carry else {}),
            differences=differences,
            copies={name: self._units(name, one, candidate) for name, one in differences.items()},
        )

    def _gate(self, generation: Generation) -> Any:
        settings = canonical(generation.settings)
        if settings not in self.gates:
            components = GenerationView(self.run, generation, self.record.state).components("gate")
            self.gates[settings] = components.build("gate", generation.settings)
        return self.gates[settings]

    def _units(self, suite: str, differences: Differences, outcomes: pa.Table) -> np.ndarray:
        items = outcomes.filter(pc.equal(outcomes["suite"], suite))["item"].to_pylist()
        return joined(differences.clusters, np.array([self.texts[suite][item] for item in items]))


def _numbers(items: pa.Table, problems: Problems) -> dict[str, int]:
    """The number of what each item asks, by its name."""
    numbers = problems.asked(items).combine_chunks().dictionary_encode().indices.to_pylist()
    return dict(zip(items["item"].cast(pa.string()).to_pylist(), numbers, strict=True))


def joined(clusters: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """Numbers 0, 1, ... of units such that neither a cluster nor what several items ask is in two of them."""
    units = clusters.copy()
    while True:
        before = units
        for groups in (texts, clusters):
            least = np.full(groups.max() + 1, len(units))
            np.minimum.at(least, groups, units)
            units = least[groups]
        if np.array_equal(units, before):
            return np.unique(units, return_inverse=True)[1]
