"""The loop from Python: ``run`` a recipe, ``open_run`` a directory, ``load`` a champion.

import flywheel
run = flywheel.run({"recipe": "mnist", "seed": 1})
model = run.champion().load()
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.components import (
    Components,
    check_components,
    check_module,
    identity,
    identity_part,
    plain,
    targets_in,
)
from flywheel.compose import add_working_directory, compose, known_targets, overrides_of
from flywheel.errors import DataError, ExitCode, FlywheelError, RunError, UnwritableError
from flywheel.lineage import ledger, lock
from flywheel.lineage.sources import sources_of
from flywheel.lineage.state import Generation, RunState, RunStateName
from flywheel.lineage.store import Store
from flywheel.lineage.verify import Verification, verify
from flywheel.schema import Genesis
from flywheel.status import metrics, read_state, status

if TYPE_CHECKING:
    import lightning
    import pyarrow as pa
    from omegaconf import DictConfig

    from flywheel.lineage.retention import Pruning
    from flywheel.reproduce import Reproduction

_BUILDABLE = "{} must be buildable and readable before anything is trained:"


@dataclass(frozen=True, repr=False)
class GenerationView:
    """One generation of a run, to look at and to load."""

    run: Run
    record: Generation
    state: RunState

    def __repr__(self) -> str:
        return f"<generation {self.number} of {self.run.path}: {self.record.status}>"

    @property
    def number(self) -> int:
        """Its number; 0 is genesis."""
        return self.record.number

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """{suite: {metric: {value, low, high}}}."""
        return metrics(self.record, self.state)

    @property
    def weights(self) -> str:
        """Name of its weights in the store. Raises RunError if it has none."""
        if self.record.weights is None:
            raise RunError(
                f"Generation {self.number} of {self.run.path} is {self.record.status}: no weights."
            )
        return self.record.weights

    @property
    def file(self) -> Path:
        """Its weights, a safetensors file. Raises PrunedError if a policy dropped them."""
        store = Store(self.run.path)
        return store.require(self.weights)

    def load(self) -> lightning.LightningModule:
        """The trained module, in evaluation mode, on the CPU.

        Raises RunError if the run's model is of a class that no known recipe names: a config read
        from disk must not choose what is imported.
        """
        from flywheel.models import load_weights

        model = self._components("model").model(self.record.settings)
        load_weights(model, Store(self.run.path).weights(self.weights))
        return model.eval()

    def corpus(self) -> pa.Table:
        """Rows that it was trained on, with ``weight`` and ``count``. Raises RunError if there are none."""
        from flywheel.corpus import read_corpus

        corpus, store = self.record.output("curate", "corpus"), Store(self.run.path)
        if corpus is None:
            raise RunError(f"Generation {self.number} of {self.run.path} was trained on no corpus.")
        return read_corpus(store, corpus, sources_of(store, self.record))

    def task(self) -> Any:
        """The recipe's task, as it was configured. Raises RunError as ``load`` does."""
        return self._components("task").task

    def read_items(self, path: str | Path) -> pa.Table:
        """Items of your own from a .csv, .jsonl or .parquet file, with the columns that suites have.

        Raises DataError.
        """
        from flywheel.items import read_items

        return read_items(path, self._suite_columns())

    def evaluate(self, items: pa.Table) -> pa.Table:
        """Columns ``item``, ``cluster`` and ``score`` of this generation on items of your own.

        ``items`` has a unique column ``item`` and what the recipe's suites have. Nothing is recorded.
        Raises DataError if the recipe cannot evaluate them, RunError as ``load`` does.
        """
        import pyarrow as pa

        from flywheel.score import score_chunk, with_clusters

        model, components = self.load(), self._components("task")
        items, size = with_clusters(items), components.resolved["chunk_size"]
        key = self.state.key(self.number, "items")
        chunks = range(-(-len(items) // size))
        try:
            return pa.concat_tables(
                score_chunk(components.task, model, None, items.slice(k * size, size), key("chunk", k))
                for k in chunks
            )
        except Exception as error:
            missing = [name for name in self._suite_columns().names if name not in items.column_names]
            lack = f" Its suites have columns that these lack: {', '.join(missing)}." if missing else ""
            said = f"{type(error).__name__}: {error}"
            raise DataError(f"The recipe must be able to score the items; it says {said}.{lack}") from error

    def reproduce(self, into: str | Path | None = None) -> Reproduction:
        """Train it again from what is recorded, and compare; see ``flywheel.reproduce``.

        ``into``: a new folder to leave the weights and outcomes in. Raises RunError as ``load`` does.
        """
        from flywheel.reproduce import reproduce, session_of

        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        trainer = session_of(ledger.read(self.run.path), self.record)["trainer"] | {"logger": False}
        components = self._components("task", "model", "trainer", trainer=trainer)
        with told_whole("What is reproduced must train and evaluate as it did:"):
            return reproduce(self.run.path, self.number, components, into)

    def _suite_columns(self) -> pa.Schema:
        made = next(g.stages["seed"]["outputs"] for g in self.state.generations if "seed" in g.stages)
        name = next(name for key, name in made.items() if key.startswith("suite_"))
        return Store(self.run.path).table(name).schema

    def _components(self, *sections: str, **templates: Any) -> Components:
        """What the run's configuration names, if the classes of the sections may be built."""
        from omegaconf import OmegaConf

        created = self.state.created or {}
        templates = {**created["config"], "model": created["model"], **templates}
        components = Components(OmegaConf.create(templates))
        each = [(name, s) for name in sections for s in (self.record.settings, components.settings())]
        _refuse_unknown(self.run.path, [components.section(*one) for one in each], self.run)
        return components


@dataclass(frozen=True)
class Run:
    """A run directory, for reading. Each call reads the ledger anew, so it may still be growing."""

    path: Path
    config_dir: str | None = None
    trusted: frozenset[str] = frozenset()
    """Class paths to build besides those that recipes name."""
    exit_code: ExitCode | None = None
    """How the call of ``run`` that returned this ended; None from ``open_run``."""

    def status(self) -> dict[str, Any]:
        """What ``python -m flywheel status RUN --json`` prints."""
        return status(self.path)

    def generations(self) -> list[GenerationView]:
        """All generations, genesis first."""
        state = read_state(self.path)
        return [GenerationView(self, generation, state) for generation in state.generations]

    def generation(self, number: int) -> GenerationView:
        """One generation. Raises RunError if there is none of this number."""
        found = self.generations()
        if not 0 <= number < len(found):
            raise RunError(f"{self.path} has generations 0 to {len(found) - 1}; there is no {number}.")
        return found[number]

    def samples(self, generation: int | None = None) -> pa.Table:
        """What a generation made (default: the newest): provenance, payload, scores, decisions."""
        from flywheel.samples import samples

        return samples(self.path, read_state(self.path), generation)

    def show(self, generation: int) -> dict[str, Any]:
        """All that made a generation: what ``python -m flywheel show RUN GEN --json`` prints."""
        from flywheel.questions.show import show

        return show(self.path, generation)

    def diff(self, a: int, b: int, other: Run | None = None) -> dict[str, Any]:
        """How generation ``b`` (of another run, if given) differs from ``a``: what ``diff --json`` prints."""
        from flywheel.questions.difference import difference
        from flywheel.questions.record import Record

        record = Record.read(self.path)
        return difference(record, a, Record.read(other.path) if other else record, b)

    def query(self, sql: str) -> pa.Table:
        """One SQL SELECT over generations, events, samples, decisions, outcomes and edges.

        Nothing can be written or reached from it. Raises RunError, and MissingExtra without DuckDB.
        """
        from flywheel.questions.query import query

        return query(self.path, sql)

    def bundle(self, generation: int, out: str | Path) -> Path:
        """Write a generation with its papers to a new folder; see ``flywheel.handover.bundle``."""
        from flywheel.handover.bundle import bundle

        return bundle(self.path, generation, Path(out))

    def champion(self) -> GenerationView:
        """The generation in force. Raises RunError if there is none yet."""
        state = read_state(self.path)
        if state.champion is None:
            raise RunError(f"{self.path} has no champion yet.")
        return GenerationView(self, state.champion, state)

    def reproduce(self, generation: int, into: str | Path | None = None) -> Reproduction:
        """Train a generation again and compare; see ``GenerationView.reproduce``."""
        return self.generation(generation).reproduce(into)

    def prune(self, keep: str, *, yes: bool = False) -> Pruning:
        """Drop what the policy ``keep``, e.g. ``promoted,last=3``, does not; without ``yes`` only say so.

        Raises ConfigError for a policy that is none, LockedError while the run is being written.
        """
        from flywheel.lineage.retention import prune

        return prune(self.path, keep, yes=yes)

    def du(self) -> dict[str, Any]:
        """What takes the room, as ``python -m flywheel du RUN --json`` prints it."""
        from flywheel.lineage.usage import usage

        return usage(self.path)

    def verify(self, head: str | None = None) -> Verification:
        """Check every line and artifact; ``head``, kept elsewhere, must be in the ledger."""
        return verify(self.path, head)

    def trace(
        self,
        *,
        sample: str | None = None,
        generation: int | None = None,
        item: str | None = None,
        up: bool = True,
        down: bool = True,
    ) -> dict[str, Any]:
        """What ``python -m flywheel trace RUN ... --json`` prints; see ``flywheel.trace.trace``."""
        from flywheel.trace import trace

        return trace(self.path, sample=sample, generation=generation, item=item, up=up, down=down)

    def recall(
        self,
        *,
        why: str,
        generation: int | None = None,
        where: str | None = None,
        strict: bool = False,
        yes: bool = False,
    ) -> dict[str, Any]:
        """What a recall would touch, or with ``yes`` did; see ``flywheel.recall.recall``."""
        from flywheel.recall import recall

        return recall(self.path, why=why, generation=generation, where=where, strict=strict, yes=yes)

    def rollback(self, generation: int, *, why: str) -> dict[str, Any]:
        """Make a former champion the champion again; see ``flywheel.recall.rollback``."""
        from flywheel.recall import rollback

        return rollback(self.path, generation, why)

    def fork(self, generation: int, config: Mapping[str, Any] | Sequence[str] = ()) -> Run:
        """Start a new run from a generation, with these overrides on top of this run's configuration.

        Called again, it goes on with that run. Raises RunError or ConfigError as ``flywheel.fork`` says.
        """
        return fork(self.path, generation, overrides_of(config), self.config_dir, self.trusted)


def open_run(path: str | Path, config_dir: str | None = None, trusted: Iterable[str] = ()) -> Run:
    """An existing run, for reading. Raises RunError if there is none at ``path``.

    ``trusted``: class paths that ``load`` may build besides those that recipes on the search path name.
    """
    if not (Path(path) / "ledger.jsonl").is_file():
        raise RunError(f"A run directory has a ledger.jsonl; {path} has none.")
    return Run(Path(path), config_dir, frozenset(trusted))


def run(
    config: Mapping[str, Any] | Sequence[str] | DictConfig,
    *,
    config_dir: str | None = None,
) -> Run:
    """Run a recipe, or resume or extend it, and return it.

    ``config``: ``{"recipe": "mnist", "settings.lr": 0.01}``, or overrides as on the command line, or a
    configuration that ``compose`` made. Raises ConfigError, DataError or RunError before anything is
    trained; how the run itself ended is in ``exit_code`` and ``status()["state"]``.
    """
    return launch(composed(config, config_dir), config_dir)


def composed(config: Any, config_dir: str | None = None) -> DictConfig:
    """The configuration that ``run`` runs; under torchrun, rank 0's everywhere. Raises ConfigError."""
    from flywheel import distributed

    add_working_directory()
    distributed.start()
    if hasattr(config, "_metadata"):  # a DictConfig, without importing omegaconf to ask
        from omegaconf import OmegaConf

        if OmegaConf.is_readonly(config):  # made by compose
            made: DictConfig = config
            return made
        config = OmegaConf.to_container(config)
    composed_by_0: DictConfig = distributed.from_rank_0(lambda: compose(overrides_of(config), config_dir))
    return composed_by_0


def _refuse_unknown(path: Path, nodes: object, known: Run) -> None:
    """Raise RunError if what was read from a run names a class that nobody here vouches for."""
    unknown = targets_in(nodes) - known_targets(known.config_dir) - known.trusted
    if unknown:
        raise RunError(
            f"Only classes that a recipe on the search path names are built; {path} names "
            f"{', '.join(sorted(unknown))}. Open it with open_run(path, config_dir=...) of its recipe, "
            "or with trusted={...} if you know the class."
        )


def fork(
    directory: Path,
    generation: int,
    overrides: Sequence[str],
    config_dir: str | None = None,
    trusted: frozenset[str] = frozenset(),
) -> Run:
    """Start, or go on with, a new run from a generation of the run in ``directory``; see ``Run.fork``."""
    from flywheel import distributed
    from flywheel.fork import begin, overrides_of_fork, with_weights

    if distributed.world_size() > 1:
        raise RunError("A fork is begun by one process; torchrun goes on with it by the command it prints.")
    add_working_directory()
    words = overrides_of_fork(directory, generation, overrides, config_dir)
    config = compose(with_weights(words, directory, generation), config_dir)
    own = {text.partition("=")[2] for text in overrides if text.partition("=")[0].endswith("_target_")}
    _refuse_unknown(directory, plain(config), Run(directory, config_dir, trusted | own))
    check_components(config)
    _quieten_lightning()
    check_module(Components(config))
    target = directory_of(config)
    forked_from = begin(directory, generation, target)
    config = compose(
        [*with_weights(words, target, forked_from["weights"]), f"name={target.name}"], config_dir
    )
    return launch(config, config_dir, forked_from)


def launch(
    config: DictConfig, config_dir: str | None = None, forked_from: Mapping[str, Any] | None = None
) -> Run:
    """Run a composed configuration; see ``run``. ``forked_from``: what ``flywheel.fork.begin`` returned."""
    from flywheel import distributed

    directory = directory_of(config)
    trusted = frozenset(targets_in(plain(config)["model"]))
    state = distributed.from_rank_0(lambda: _recorded(directory, config))
    if state is not None and _is_finished(state, config):
        return Run(directory, config_dir, trusted, ExitCode.FINISHED)
    check_components(config)

    import torch

    from flywheel.data import read_data
    from flywheel.loop import run_loop
    from flywheel.session import open_journal, threads
    from flywheel.trackers import Audience

    components = Components(config)
    _quieten_lightning()
    torch.set_num_threads(threads(components.resolved, state))
    with told_whole(_BUILDABLE.format("The recipe's task")):
        data = read_data(components.task, needs_seed=config.genesis is Genesis.train)
    with told_whole(_BUILDABLE.format("The model or the trainer")):
        check_module(components)
    audience = Audience([] if distributed.rank() else _trackers(config, components))
    with open_journal(directory, components, data, audience, forked_from) as journal:
        code = run_loop(journal)
    return Run(directory, config_dir, trusted, code)


def _quieten_lightning() -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # its banners, at every fit


def directory_of(config: DictConfig) -> Path:
    """Where the run lies: ``runs_dir/recipe/name``; by default the name is the seed and the identity."""
    name = config.name or f"seed{config.seed}-{identity(config)[:8]}"
    return Path(str(config.runs_dir), str(config.recipe), name)


@contextmanager
def told_whole(rule: str) -> Iterator[None]:
    """Raise DataError, with the whole traceback, for what the user's own code raises in the block."""
    try:
        yield
    except FlywheelError:
        raise
    except Exception as error:
        whole = "".join(traceback.format_exception(error))
        raise DataError(f"{rule}\n\n{whole}") from error


def _recorded(directory: Path, config: DictConfig) -> RunState | None:
    """The state of the run so far, None if it is new. Raises RunError if we cannot go on with it."""
    from flywheel.session import check_same

    try:
        if not (directory / "ledger.jsonl").exists():
            return None
        state = read_state(directory)
    except OSError as error:
        raise UnwritableError.of(directory, error) from error
    if state.created is not None:
        check_same("config", directory, state.created["config"], identity_part(config))
    if lock.is_held(directory):
        lock.refuse(directory)
    return state


def _is_finished(state: RunState, config: DictConfig) -> bool:
    over = state.is_over(config.generations, config.patience, config.on_failure.value)
    return over is not None and state.name(writer_alive=False) is RunStateName.FINISHED


def _trackers(config: DictConfig, components: Components) -> list[Any]:
    from flywheel.trackers.terminal import terminal

    return [terminal(config), components.build("tracker", components.settings())]
