"""Everything that made one generation: what ``show RUN GEN`` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flywheel.errors import RunError, near_misses
from flywheel.lineage.code_changes import CodeChange, hashes
from flywheel.lineage.data import Contribution, DataShare, by_origin, contributions
from flywheel.lineage.generation import Which
from flywheel.lineage.graph import Graph, Init
from flywheel.lineage.record import Record
from flywheel.lineage.status import Cost, Final, Metrics, bare, cost, held_out, metrics
from flywheel.records import Answer, TrialResult, Verdict
from flywheel.storage.events import (
    AuditFacts,
    Compared,
    GuardAlarm,
    HeldOut,
    PartGraded,
    Producer,
    SessionStarted,
)
from flywheel.storage.ids import batch_of, rows_of
from flywheel.storage.reader import reread_when_pruned
from flywheel.storage.state import Generation

_SESSION = ("seq", "time", "command", "world_size", "threads", "machine", "python", "versions", "commit")


class Session(Answer, frozen=True):
    """A session in which a generation was made, and the code that it ran."""

    seq: int
    """Number of its event in the ledger."""
    time: float
    """When it began, in seconds since 1970."""
    command: Sequence[str]
    world_size: int
    """Processes of torchrun; 1 without."""
    threads: int
    """Threads of torch in each."""
    machine: str
    """Operating system and CPU."""
    python: str
    versions: Mapping[str, str | None]
    """{library: version} of those that a fit's last bits depend on, e.g. ``{"torch": "2.9.1"}``."""
    commit: str | None
    """Of flywheel's own checkout; None outside one."""
    checkouts: Mapping[str, Mapping[str, Any]]
    """{checkout: ``commit``, ``dirty``, ``diff`` (artifact), ``diff_bytes``, ``untracked`` and its count}."""
    modules: Mapping[str, str | None]
    """{module: SHA-256 of its source}; None: it is not known."""
    sources: Sequence[str]
    """The modules whose source is kept."""
    distributions: Mapping[str, str]
    """{distribution: version} of all that was installed."""
    code_changed: CodeChange | None
    """How its code differs from that of the session before."""


class Seeds(Answer, frozen=True):
    """The run's seed, and that of each stage: ``state.key(generation, stage)``."""

    run: int
    stages: Mapping[str, int]


class Batch(Answer, frozen=True):
    """The samples of a generation's turn, and who graded them."""

    samples: str | None
    """SHA-256 of the batch."""
    made: int
    """How many there are."""
    left_out: int | None
    """Prompts that a suite asks, and that were left out; None: nothing was compared."""
    grader: str | None
    """Its class, e.g. ``Vote``; None: it was not graded."""
    version: str | None
    """Hash of the grader's source and arguments."""
    loaded_parent: str | None
    """SHA-256 of the weights with which it graded; None: with none."""
    rivals: Mapping[str, Producer]
    """Who answered its prompts beside the parent, by name."""
    ungraded: int
    """Samples without a score, as the grader failed on them."""
    reasons: Mapping[str, int]
    """Why, the three most frequent reasons, e.g. ``{"timed out after 5 s": 3}``."""
    parts: Mapping[str, PartGraded]
    """Of a composition, its graders by their names."""


class CorpusData(Answer, frozen=True):
    """What a generation was given to train on."""

    corpus: str | None
    """Hash of its sample ids in order."""
    rows: int
    by_origin: tuple[DataShare, ...]
    by_reason: Mapping[str, int]
    """Samples by the rule that decided on them, e.g. ``{"kept": 40, "low vote": 20}``."""
    leaked: int = 0
    """Generated rows that a suite asks, which the curator would have kept."""
    human_share: float | None = None
    """Share of the draws that are human rows; None: the run has no floor for it."""


class StageArtifacts(Answer, frozen=True):
    """Names of what a stage was given and made."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


class Tuned(Answer, frozen=True):
    """What the tuner of a generation did."""

    reason: str
    """E.g. ``trial 7 of 12: 96.4% on dev, 1.2% more than the settings in force``."""
    trial: int | None
    """The trial whose settings were chosen."""
    failed: int
    """Trials that failed."""
    pruned: int
    """Trials that ended at a rung."""
    share: float
    """Steps that all trials did, in whole fits."""
    importance: Mapping[str, float]
    """Setting -> its share of what made scores differ; empty: not known."""
    stopped: str
    """Why a limit of ``tune`` ended the study; empty: none did."""
    prior: tuple[str, ...]
    """The studies that it was shown, e.g. ``generation 2``, ``mnist/seed1-1a2b3c4d@3``, the oldest first."""


class Shown(Answer, frozen=True):
    """All that made a generation."""

    run: str
    """The run's directory."""
    recipe: str | None
    generation: int
    status: str
    """``unfinished``, ``promoted``, ``rejected``, ``advanced``, ``failed`` or ``final``."""
    reason: str
    """The verdict's sentence, or why it failed."""
    flags: Sequence[str]
    """What is to be said beside it: ``champion``, ``frontier``, ``no test``, ``abandoned``, ``recalled``,
    ``suspect``, ``pruned``."""
    parent: int | None
    champion: int | None
    """The one in force when it began, then when its look began."""
    refit_of: int | None
    """The champion whose procedure it repeats with the labels of dev and gate; None: it is no refit."""
    children: Sequence[int]
    """The generations whose data it made."""
    init: Init | None
    """What its fit began from; None: it was not trained."""
    weights: str | None
    """SHA-256 of its weights."""
    settings: Mapping[str, Any]
    """Those it was trained with, e.g. ``{"lr": 0.01}``."""
    tuned: Tuned | None
    """What its tuner did; None: it tried nothing."""
    trials: tuple[TrialResult, ...]
    """What the tuner tried."""
    config: Mapping[str, Any]
    """The run's configuration."""
    model: Mapping[str, Any]
    """The model's class and arguments."""
    sessions: tuple[Session, ...]
    seeds: Seeds
    batch: Batch | None
    audit: AuditFacts | None
    """What a trusted grader found of the samples that were kept; None: there was no audit."""
    data: CorpusData
    contributions: tuple[Contribution, ...]
    """What each producer of the turn gave to it, the parent first; empty where it had one only."""
    metrics: Metrics
    sealed_openings: int
    """How often the run's sealed suites were opened, with what a fork inherited."""
    final: Final | None
    """Of the champion's final, its sealed figures beside the champion's."""
    held_out: HeldOut | None
    verdict: Verdict | None
    """The gate's; None of a genesis, and of what was only screened."""
    screened: tuple[Compared, ...]
    """How it did on dev beside the champion and the best frontier, where that was asked."""
    alarms: tuple[GuardAlarm, ...]
    """What the guards said, apart from the gate."""
    cost: Cost
    artifacts: Mapping[str, StageArtifacts]
    """By stage."""


@reread_when_pruned
def show(directory: Path, which: Which) -> Shown:
    """All that made a generation. Raises RunError if there is none of this name."""
    record = Record.read(directory)
    return shown(record, record.generation(which))


def shown(record: Record, generation: Generation) -> Shown:
    """``show`` of a record already read."""
    number, state = generation.number, record.state
    created, config = state.created, state.created.config if state.created else {}
    trials = generation.output("tune", "trials")
    return Shown(
        run=str(record.directory),
        recipe=created.recipe if created else None,
        generation=number,
        status=str(generation.status),
        reason=generation.reason,
        flags=record.flags(number),
        parent=generation.parent,
        champion=generation.champion,
        refit_of=generation.refit_of,
        children=[g.number for g in state.generations if g.parent == number and g.is_turn],
        init=Graph(record.store, state).init(generation),
        weights=bare(generation.weights),
        settings=generation.settings,
        tuned=_tuned(record, generation),
        trials=tuple(map(TrialResult.of, record.store.json(trials) if trials else ())),
        config=config,
        model=config.get("model", {}),
        sessions=tuple(_session(record, event) for event in record.sessions(number)),
        seeds=_seeds(record, generation),
        batch=_batch(generation),
        audit=generation.audit.facts if generation.audit else None,
        data=_corpus(record, generation),
        contributions=contributions(record, generation),
        metrics=metrics(generation, state),
        sealed_openings=state.times_opened,
        final=Final.of(state) if generation is state.final else None,
        held_out=held_out(state),
        verdict=generation.gate.facts.verdict if generation.gate else None,
        screened=generation.screen.facts.against if generation.screen else (),
        alarms=generation.guard.facts.alarms if generation.guard else (),
        cost=cost(generation),
        artifacts={
            stage: StageArtifacts(event.inputs, event.outputs) for stage, event in generation.stages.items()
        },
    )


def uncommitted(directory: Path, which: Which) -> bytes:
    """The uncommitted changes that a generation was made with, for ``git apply``; empty without any."""
    record = Record.read(directory)
    number = record.generation(which).number
    sessions = record.sessions(number)
    diffs = dict.fromkeys(name for event in sessions for name in _diffs(event).values())
    return b"".join(record.store.get(name) for name in diffs if not record.is_gone(name))


def source(directory: Path, which: Which, module: str) -> str:
    """The source of a module as the last session in which a generation was made ran it. Raises RunError."""
    record = Record.read(directory)
    number = record.generation(which).number
    code = record.code(record.sessions(number)[-1])
    text = code.get(module, {}).get("text")
    if text is None:
        known = [name for name, entry in code.items() if entry.get("text") is not None]
        raise RunError(
            f"Expected a module whose source the run recorded, got {module!r}."
            f"{near_misses(module, known)} Recorded: {', '.join(sorted(known)) or 'none'}."
        )
    return text


def _diffs(session: SessionStarted) -> dict[str, str]:
    """{checkout: artifact of its uncommitted changes} of a session."""
    return {name[5:]: diff for name, diff in session.outputs.items() if name.startswith("diff.")}


def _session(record: Record, event: SessionStarted) -> Session:
    diffs, change = _diffs(event), record.code_change(event)
    recorded: dict[str, Any] = {key: getattr(event, key) for key in _SESSION}
    trees = {name: {**tree, "diff": diffs.get(name)} for name, tree in event.checkouts.items()}
    code = record.code(event)
    return Session(
        **recorded,
        checkouts=trees,
        modules=hashes(code),
        sources=[name for name, module in code.items() if module.get("text") is not None],
        distributions=record.distributions(event),
        code_changed=CodeChange.of(change) if change else None,
    )


def _seeds(record: Record, generation: Generation) -> Seeds:
    root = record.state.key
    return Seeds(
        int(root.path[0]), {stage: root(generation.number, stage).seed for stage in generation.stages}
    )


def _batch(generation: Generation) -> Batch | None:
    samples = batch_of(generation)
    if samples is None:
        return None
    graded = generation.grade.facts if generation.grade else None
    return Batch(
        samples=bare(samples),
        made=rows_of(generation),
        left_out=generation.generate.facts.left_out if generation.generate else None,
        grader=graded.grader if graded else None,
        version=graded.version if graded else None,
        loaded_parent=bare(graded.loaded_parent if graded else None),
        rivals=generation.rivals,
        ungraded=graded.failed if graded else 0,
        reasons=graded.reasons if graded else {},
        parts=graded.parts if graded else {},
    )


def _tuned(record: Record, generation: Generation) -> Tuned | None:
    tune, trials = generation.tune, generation.output("tune", "trials")
    if tune is None or trials is None:
        return None
    results = [TrialResult.of(result) for result in record.store.json(trials)]
    stop = generation.decisions.get("stop")
    read = {name: record.store.json(tune.inputs[name]) for name in ("memory", "prior") if name in tune.inputs}
    others = [study["of"] for study in read.get("memory", ())]
    return Tuned(
        reason=tune.facts.reason,
        trial=tune.facts.trial,
        failed=sum(result.failure is not None for result in results),
        pruned=sum(result.pruned for result in results),
        share=sum(result.share for result in results),
        importance=tune.facts.importance,
        stopped=stop.reason if stop else "",
        prior=(*others, *(f"generation {number}" for number, _ in read.get("prior", ()))),
    )


def _corpus(record: Record, generation: Generation) -> CorpusData:
    if generation.curate is None:
        return CorpusData(None, 0, (), {})
    facts = generation.curate.facts
    origins = by_origin(record, generation)
    return CorpusData(facts.corpus, facts.rows, origins, facts.by_reason, facts.leaked, facts.human_share)
