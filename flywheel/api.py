"""The loop from Python: ``run`` a recipe, ``open_run`` a directory, ``load`` a champion.

    import flywheel
    run = flywheel.run({"recipe": "mnist", "seed": 1})
    model = run.champion().load()

Reading a run executes nothing that it names; what is built is of classes that a known recipe names.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.config.components import Components
from flywheel.config.compose import overrides_of
from flywheel.config.recorded import recorded_config
from flywheel.config.remembered import remembered
from flywheel.errors import ConfigError, DataError, ExitCode, FlywheelError, RunError, wrap_user_errors
from flywheel.launch.launch import Launched, composed, fork, launch, resume
from flywheel.launch.recorded import refuse_unknown
from flywheel.lineage.generation import Which, find_generation
from flywheel.lineage.status import Metrics, RunStatus, metrics, read_state, status
from flywheel.records import CHAMPION, FINAL, LAST, Role
from flywheel.runtime.exclusive import only_run, refuse_beside_a_run
from flywheel.storage import ledger
from flywheel.storage.events import SessionStarted
from flywheel.storage.sources import sources_of
from flywheel.storage.state import Generation, RunState
from flywheel.storage.store import Store
from flywheel.storage.verify import Verification, verify

if TYPE_CHECKING:
    import lightning
    import pyarrow as pa
    from omegaconf import DictConfig

    from flywheel.launch.reproduce import Reproduction
    from flywheel.lineage.diff import Difference
    from flywheel.lineage.graph import Lineage
    from flywheel.lineage.recall import RecallReport, Rollback
    from flywheel.lineage.show import Shown
    from flywheel.lineage.trace import Trace
    from flywheel.lineage.usage import Usage
    from flywheel.protocols import Task
    from flywheel.report.plots import Plots
    from flywheel.storage.pruning import Pruning
    from flywheel.views import Viewer


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
    def metrics(self) -> Metrics:
        """Its estimates with their intervals: ``view.metrics["gate"]["accuracy"].value``."""
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
        from disk must not choose what is imported; and while another thread runs a run, from whose
        generators the new module would draw.
        """
        from flywheel.runtime.weights import load_weights

        refuse_beside_a_run(f"generation {self.number} of {self.run.path} cannot be loaded")
        model = self.components("model").model(self.record.settings)
        load_weights(model, Store(self.run.path).weights(self.weights))
        return model.eval()

    def corpus(self) -> pa.Table:
        """Rows of its corpus, with ``weight`` and how often drawn (``count``). Raises RunError without."""
        from flywheel.storage.corpus import read_corpus

        corpus, store = self.record.output("curate", "corpus"), Store(self.run.path)
        if corpus is None:
            raise RunError(f"Generation {self.number} of {self.run.path} has no corpus.")
        return read_corpus(store, corpus, sources_of(store, self.record))

    def task(self) -> Task:
        """The recipe's task, as it was configured. Raises RunError as ``load`` does."""
        task: Task = self.components("task").task
        return task

    def read_items(self, path: str | Path) -> pa.Table:
        """Items of your own from a .csv, .jsonl or .parquet file, with the columns that suites have.

        Raises DataError.
        """
        from flywheel.tables.items import read_items

        return read_items(path, self._suite_columns())

    def evaluate(self, items: Any, opponent: GenerationView | None = None) -> pa.Table:
        """Columns ``item``, ``cluster`` and ``score`` of this generation on items of your own.

        ``items``: a list of dicts, a DataFrame, an Arrow table, or a mapping of columns, with what the
        recipe's suites have; rows are numbered if they have no unique ``item``. ``opponent``: a generation of
        the same run that it plays against, where the items are a duel's. Nothing is recorded.
        Raises DataError if the recipe cannot evaluate them, RunError as ``load`` does.
        """
        import pyarrow as pa

        from flywheel.runtime.data import recorded_suites
        from flywheel.runtime.scoring import calibrated, item_names, score_unit, with_clusters
        from flywheel.runtime.work import cut
        from flywheel.tables.items import as_items

        refuse_beside_a_run(f"generation {self.number} of {self.run.path} cannot be evaluated")
        model, components = self.load(), self.components("task")
        rival = opponent.load() if opponent else None
        trainer = components.resolved["trainer"]
        items, size = with_clusters(as_items(items, self._suite_columns())), components.resolved["chunk_size"]
        keys = self.state.key(self.number, "items").each(item_names(items))
        ends = cut(size, len(items))
        units = [slice(*pair) for pair in itertools.pairwise(ends)]

        def score(unit: slice) -> pa.Table:
            part = items.slice(unit.start, unit.stop - unit.start)
            return score_unit(components.task, model, rival, part, keys[unit], trainer)

        try:
            dev = recorded_suites(self.state, Store(self.run.path), Role.DEV)
            shown = {name: suite.items for name, suite in dev.items()}
            model = calibrated(components.task, model, shown, trainer)
            rival = calibrated(components.task, rival, shown, trainer) if rival is not None else None
            return pa.concat_tables(score(unit) for unit in units)
        except Exception as error:
            missing = [name for name in self._suite_columns().names if name not in items.column_names]
            lack = f" Its suites have columns that these lack: {', '.join(missing)}." if missing else ""
            said = f"{type(error).__name__}: {error}"
            raise DataError(f"The recipe must be able to score the items; it says {said}.{lack}") from error

    def reproduce(self, into: str | Path | None = None) -> Reproduction:
        """Train it again from what is recorded, and compare; see ``flywheel.launch.reproduce``.

        ``into``: a new folder to leave the weights and outcomes in. Raises RunError as ``load`` does.
        """
        from flywheel.launch.preflight import quieten_lightning
        from flywheel.launch.reproduce import reproduce, session_of

        quieten_lightning()
        session = session_of(ledger.read(self.run.path), self.record)
        components = self.components("task", "model", "trainer", session=session)
        with (
            only_run(self.run.path),
            wrap_user_errors("What is reproduced must train and evaluate as it did:"),
        ):
            return reproduce(self.run.path, self.number, components, into)

    def _suite_columns(self) -> pa.Schema:
        outputs = next(g.seed.outputs for g in self.state.generations if g.seed)
        name = next(name for key, name in outputs.items() if key.startswith("suite_"))
        return Store(self.run.path).table(name).schema

    def components(self, *sections: str, session: SessionStarted | None = None) -> Components:
        """What the run's configuration names, if the classes of the sections may be built.

        ``session``: whose configuration; default: the newest. Raises RunError as ``load`` does.
        """
        from omegaconf import OmegaConf

        config = recorded_config(self.run.path, session or self.state.session)
        config["trainer"]["logger"] = False
        components = Components(OmegaConf.create(config), self.run.parts)
        each = [(name, s) for name in sections for s in (self.record.settings, components.settings())]
        nodes = [components.section(*one) for one in each]
        refuse_unknown(self.run.path, nodes, self.run.config_dir, self.run.trusted)
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
    parts: Mapping[str, Any] = field(default_factory=dict)
    """Those that were given as objects; see ``flywheel.config.parts``."""

    @classmethod
    def of(cls, launched: Launched, parts: Mapping[str, Any]) -> Run:
        """The run that was launched."""
        return cls(launched.path, launched.config_dir, launched.trusted, launched.exit_code, parts)

    def status(self) -> RunStatus:
        """Where the run stands: what ``python -m flywheel status RUN`` prints."""
        return status(self.path)

    def lineage(self) -> Lineage:
        """Every generation with its typed edges to what it was made from."""
        from flywheel.lineage.graph import lineage

        return lineage(self.path, read_state(self.path))

    def generations(self) -> list[GenerationView]:
        """All generations, genesis first."""
        state = read_state(self.path)
        return [GenerationView(self, generation, state) for generation in state.generations]

    def generation(self, which: Which) -> GenerationView:
        """One generation: by its number, ``champion`` or ``last``. Raises RunError if there is none."""
        state = read_state(self.path)
        return GenerationView(self, find_generation(self.path, state, which), state)

    def samples(self, generation: Which | None = None) -> pa.Table:
        """What a generation made (default: the newest): provenance, payload, scores, decisions."""
        from flywheel.lineage.samples import read_samples

        return read_samples(self.path, generation)

    def viewer(self) -> Viewer:
        """How samples are shown: ``run.viewer()(sample)`` is the view of a row of ``samples`` as a dict.

        By the task's ``show``, if it has one. If its class must not be built, see ``load``, or cannot be, by
        their columns; ``why`` then says so.
        """
        from flywheel.views import Viewer

        try:
            newest = self.generation(LAST)
            components = newest.components("task")
            has_show = components.has_method("task", "show")
            return Viewer(components.task) if has_show else Viewer()
        except FlywheelError as error:
            return Viewer(why=str(error))

    @property
    def plot(self) -> Plots:
        """Pictures for a notebook, e.g. ``run.plot.progress()``; see ``flywheel.report.plots``."""
        from flywheel.report.plots import Plots

        return Plots(self.path, self.viewer)

    def report(self, out: str | Path | None = None) -> Path:
        """Write what came of the run as one HTML page, by default ``report.html`` in it; its path.

        Raises MissingExtra without the libraries that draw.
        """
        from flywheel.report import write_report

        return write_report(self.path, Path(out) if out else None, self.viewer())

    def show(self, generation: Which) -> Shown:
        """All that made a generation: what ``python -m flywheel show RUN GEN`` prints."""
        from flywheel.lineage.show import show

        return show(self.path, generation)

    def diff(self, a: Which, b: Which, other: Run | None = None) -> Difference:
        """How generation ``b`` (of another run, if given) differs from ``a``."""
        from flywheel.lineage.diff import diff

        return diff(self.path, a, other.path if other else self.path, b)

    def query(self, sql: str) -> pa.Table:
        """One SQL SELECT over generations, events, samples, decisions, outcomes and edges.

        Nothing can be written or reached from it. Raises RunError, and MissingExtra without DuckDB.
        """
        from flywheel.lineage.sql import query

        return query(self.path, sql)

    def bundle(self, generation: Which, out: str | Path) -> Path:
        """Write a generation to a new folder; see ``flywheel.export.bundle``."""
        from flywheel.export.bundle import bundle

        return bundle(self.path, generation, Path(out))

    def champion(self) -> GenerationView:
        """The generation in force. Raises RunError if there is none yet."""
        return self.generation(CHAMPION)

    def final(self) -> GenerationView:
        """The refit of the champion, by ``refit=true``. Raises RunError if there is none."""
        return self.generation(FINAL)

    def reproduce(self, generation: Which, into: str | Path | None = None) -> Reproduction:
        """Train a generation again and compare; see ``GenerationView.reproduce``."""
        return self.generation(generation).reproduce(into)

    def prune(self, *, promoted: bool = False, last: int | None = None, yes: bool = False) -> Pruning:
        """Drop all but the generations that became champions, the ``last`` N that ended, or both.

        ``last=0`` keeps only what the run needs. Without ``yes`` it is only said what would go. Raises
        ConfigError if neither is given, LockedError while the run is being written.
        """
        from flywheel.storage.pruning import prune

        return prune(self.path, promoted=promoted, last=last, yes=yes)

    def du(self) -> Usage:
        """What takes the room, and what ``prune`` could free."""
        from flywheel.lineage.usage import usage

        return usage(self.path)

    def verify(self, head: str | None = None) -> Verification:
        """Check every line and artifact; ``head``, kept elsewhere, must be in the ledger."""
        return verify(self.path, head)

    def trace(
        self,
        *,
        sample: str | None = None,
        generation: Which | None = None,
        item: str | tuple[str, str] | None = None,
        up: bool = True,
        down: bool = True,
    ) -> Trace:
        """Where one of the three came from, and what came of it; see ``flywheel.lineage.trace.trace``."""
        from flywheel.lineage.trace import trace

        return trace(self.path, sample=sample, generation=generation, item=item, up=up, down=down)

    def recall(
        self,
        *,
        why: str,
        generation: Which | None = None,
        where: str | None = None,
        strict: bool = False,
        yes: bool = False,
    ) -> RecallReport:
        """What a recall would touch, or with ``yes`` did; see ``flywheel.lineage.recall.recall``."""
        from flywheel.lineage.recall import recall

        return recall(self.path, why=why, generation=generation, where=where, strict=strict, yes=yes)

    def rollback(self, generation: Which, *, why: str) -> Rollback:
        """Make a former champion the champion again; see ``flywheel.lineage.recall.rollback``."""
        from flywheel.lineage.recall import rollback

        return rollback(self.path, generation, why)

    def resume(self, config: Mapping[str, Any] | Sequence[str] = (), **parts: Any) -> Run:
        """Go on with this run from what it recorded; no recipe's YAML is needed.

        ``config``: operational keys to change, e.g. ``{"generations": 8}``; the others are those of the last
        session. ``parts``: those that were given as objects, if this run does not know them. Raises
        ConfigError for a key that is part of its identity, RunError for a class that
        is not trusted here, and else as ``run`` does.
        """
        words, parts = overrides_of(config), {**self.parts, **parts}
        return Run.of(resume(self.path, words, self.config_dir, self.trusted, parts), parts)

    def fork(self, generation: Which, config: Mapping[str, Any] | Sequence[str] = (), **parts: Any) -> Run:
        """Start a new run from a generation, with these overrides on top of this run's configuration.

        It lies beside this run unless ``runs_dir`` is given. Called again, it continues that run; so does
        ``resume`` of it, without this one. Raises RunError or ConfigError as ``flywheel.launch.fork`` says.
        """
        words, parts = overrides_of(config), {**self.parts, **parts}
        return Run.of(fork(self.path, generation, words, self.config_dir, self.trusted, parts), parts)


def open_run(
    path: str | Path, config_dir: str | None = None, trusted: Iterable[str] = (), **parts: Any
) -> Run:
    """An existing run, for reading. Raises RunError if there is none at ``path``.

    ``config_dir``: the folder of its recipe; default: the one with which you started it on this machine.
    ``trusted``: class paths that ``load`` may build besides those that recipes on the search path name.
    ``parts``: those that the run was given as objects and that it cannot build from its record.
    """
    if not (Path(path) / "ledger.jsonl").is_file():
        raise RunError(f"Expected a run directory (with ledger.jsonl), got {path}.")
    known = remembered(Path(path))
    return Run(Path(path), config_dir or known.config_dir, known.trusted | frozenset(trusted), parts=parts)


def run(
    config: Mapping[str, Any] | Sequence[str] | DictConfig,
    *,
    config_dir: str | None = None,
    tune: Mapping[str, Any] | None = None,
    **parts: Any,
) -> Run:
    """Run a recipe, or resume or extend it, and return it.

    ``config``: ``{"recipe": "mnist", "settings.lr": 0.01}``, or overrides as on the command line, or a
    configuration that ``compose`` made. ``parts``: a task, grader, curator, tuner, gate, review or tracker
    as an object, a model as a function of the settings; ``flywheel.config.parts`` says what is recorded of
    them. ``tune``: what a tuner may search, on top of what the configuration says of it, e.g.
    ``{"space": {"lr": {"low": 1e-4, "high": 1e-1, "log": True}}}``. With a task and a model, a mapping needs
    no recipe's YAML:

        flywheel.run({"recipe": "mine", "settings": {"lr": 0.1}, "trainer": {"max_steps": 100}}, task=Mine(),
                     model=lambda settings: Net(settings["lr"]), grader=Vote(), curator=Confident())

    Raises ConfigError, DataError or RunError before anything is
    trained, RunError also while another run is on in this process (see ``flywheel.runtime.exclusive``);
    how the run itself ended is in ``exit_code`` and ``status().state``.
    """
    if tune is not None:
        config = _with_tune(config, tune)
    return Run.of(launch(composed(config, config_dir, parts), config_dir, parts=parts), parts)


def _with_tune(
    config: Mapping[str, Any] | Sequence[str] | DictConfig, tune: Mapping[str, Any]
) -> Mapping[str, Any] | Sequence[str]:
    if hasattr(config, "_metadata"):  # a DictConfig, without importing omegaconf to ask
        raise ConfigError(
            "A configuration that is composed has its tune: give tune=... with a mapping or overrides."
        )
    if isinstance(config, Mapping):
        return {**dict(config), **{f"tune.{key}": value for key, value in tune.items()}}
    return [*config, *overrides_of({"tune": tune})]
