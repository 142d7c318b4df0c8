"""A bench: single stages on real artifacts, outside of a run."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from flywheel.config.components import Components
from flywheel.config.compose import compose
from flywheel.config.parts import OBJECT
from flywheel.executors import Inline
from flywheel.keys import Key
from flywheel.records import Carry, Start
from flywheel.runtime.context import Stage, StageTools
from flywheel.runtime.data import Data, read_data
from flywheel.runtime.environment import threads, use_threads
from flywheel.runtime.stop import Stop
from flywheel.stages import table as stages
from flywheel.storage.corpus import read
from flywheel.storage.events import Cost, Fields, StageDone
from flywheel.storage.ledger import canonical
from flywheel.storage.sources import Source
from flywheel.storage.state import Generation, Status
from flywheel.storage.store import Store
from flywheel.tables import as_table, constant, with_provenance
from flywheel.tables.types import stored
from flywheel.testing.places import CONFIG_DIR


class ContractBroken(AssertionError):
    """A part does not do what the loop relies on. The message says the rule, the value and the remedy."""


def rule(holds: object, text: str) -> None:
    """Raise ContractBroken with the text unless the rule holds."""
    if not holds:
        raise ContractBroken(text)


class Bench:
    """Components with a store, to run their stages in.

    The chunk size may be set; the data too.
    """

    def __init__(self, components: Components, directory: Path) -> None:
        data = read_data(components.task, needs_seed=components.resolved["genesis"] == "train")
        self.components, self.store = components, Store(directory)
        stop = Stop(directory)
        self.tools = StageTools(components, self.store, data, stop, Inline(stop.check))

    @property
    def data(self) -> Data:
        """The human samples and the suites."""
        return self.tools.data

    def do(
        self,
        stage: Stage,
        *,
        generation: int = 1,
        carry: Mapping[str, Carry] | None = None,
        **inputs: Any,
    ) -> StageDone[Any]:
        """Do a stage as the runner does it, but for the record."""
        settings, carry = self.components.settings(genesis=generation == 0), carry or {}
        before = canonical(carry)
        output = self.tools.run(stage, generation, Key.root(0), settings, carry=carry, **inputs)
        rule(canonical(carry) == before, f"{stage.name}: a carry is changed by returning a new one.")
        outputs = {name: self.store.put_value(value) for name, value in output.outputs.items()}
        _check_json(stage.name, output.facts)
        return StageDone(
            generation=generation,
            stage=stage.name,
            inputs={},
            outputs=outputs,
            facts=output.facts,
            cost=Cost(seconds=0.0, cpu_seconds=0.0),
        )

    def twice(self, stage: Stage, **inputs: Any) -> StageDone[Any]:
        """Do a stage two times and check law 2: the same inputs give the same outputs."""
        first, second = self.do(stage, **inputs), self.do(stage, **inputs)
        pairs = [{**done.outputs, **done.facts.json()} for done in (first, second)]
        differ = [name for name in pairs[0] if pairs[0][name] != pairs[1].get(name)]
        rule(
            not differ,
            f"{stage.name}: run again with the same inputs it must make the same, or no run can be "
            f"resumed; {', '.join(differ)} differ. Draw from `key` or a global generator, and keep state in "
            "the carry.",
        )
        return first

    def champion(self) -> Generation:
        """A first champion: untrained weights, so that no suite waits for a fit."""
        record = self.do(stages.adopt, generation=0, start=Start("fresh"))
        champion = Generation(0, None, Status.PROMOTED)
        champion.stages["adopt"] = record
        return champion

    def human(self) -> Source:
        """The human samples, as a source of a corpus."""
        return [self.store.put_table(self.data.human), None, None]

    def samples(self, rows: Any, generation: int) -> str:
        """Payload rows as samples: those of generation 0 are human."""
        origin = "generated" if generation else "human"
        where = {"origin": origin, "made_in": generation, "made_by": "a test", "key": 0}
        payload = stored(as_table(rows), "Samples")
        return self.store.put_table(with_provenance(payload, own=("prompt", "group"), **where))

    def corpus(self, sources: Sequence[Source]) -> dict[str, Any]:
        """A corpus of all rows once, as ``train`` takes it."""
        ids = read(self.store, sources)["id"]
        ones = {"weight": constant(1.0, pa.float64(), len(ids)), "count": constant(1, pa.int32(), len(ids))}
        corpus = self.store.put_table(pa.table({"id": ids, **ones}))
        return {"corpus": corpus, "sources": self.store.put_json([list(source) for source in sources])}


@contextmanager
def bench_of(components: Components) -> Iterator[Bench]:
    """A bench in a folder that is removed afterwards, with as many threads as a run would have."""
    with (
        use_threads(threads(components.resolved, None)),
        tempfile.TemporaryDirectory(prefix="flywheel-contract-") as folder,
    ):
        yield Bench(components, Path(folder))


def given(settings: Mapping[str, Any] | None = None, **parts: Any) -> Components:
    """The parts given, and those of the recipe ``moons`` for the rest, with fits of two steps."""
    from omegaconf import OmegaConf, open_dict

    config = compose(["recipe=moons", "debug=fast_dev_run"], CONFIG_DIR).copy()
    OmegaConf.set_readonly(config, False)
    with open_dict(config):
        for section in parts:
            config[section] = {OBJECT: {"of": "a test", "sha256": ""}}
        if settings is not None:
            config.settings = dict(settings)
            config.curator = {}  # it refers to settings of its own
    module = parts.get("model")
    return Components(config, parts | ({} if module is None else {"model": lambda _: copy.deepcopy(module)}))


def _check_json(stage: str, facts: Fields | None) -> None:
    try:
        canonical(facts)
    except (TypeError, ValueError) as error:
        raise ContractBroken(
            f"{stage}: what the ledger keeps must be JSON: {error}. NumPy's scalars have .item()."
        ) from error
