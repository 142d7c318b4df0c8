"""What a line of the ledger says: one frozen type for each event, and one for the facts of each stage.

Lines become these types in ``decode``, the only place where they are checked; ``json`` is the way back. Keys
and events that are not known are ignored: a newer version may have written them. In a line ``event`` names
the type of the event, and in one of a stage ``stage`` the type of its ``facts``. ``docs/format.md`` is the
description for whoever reads a run without ``flywheel``; a test holds it and these types together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import structs
from msgspec.structs import replace

from flywheel.records import (
    Action,
    Answer,
    Decontaminate,
    Exhaustible,
    Interval,
    Json,
    Role,
    Settings,
    Sketch,
    Start,
    Verdict,
)
from flywheel.storage.accountant import ErrorBudget
from flywheel.storage.policy import Policy

F = TypeVar("F")


class Status(StrEnum):
    """Where a generation stands.

    All but unfinished are verdicts, and never overwritten, but for one: what has advanced may be promoted,
    rejected, or fail, at its look.
    """

    UNFINISHED = "unfinished"
    PROMOTED = "promoted"
    REJECTED = "rejected"
    FAILED = "failed"
    ADVANCED = "advanced"
    """No harm is shown on dev: the next generation builds on it. Promoted once a look certifies it."""
    FINAL = "final"
    """Made as the champion was, with the labels of dev and gate too: for use, and no part of the loop."""


class Fields(Answer, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What is said in a line. A field that is as by default may be left out of it.

    The garbage collector does not track them, as there are many and none can be part of a circle.
    """


class Cost(Fields, frozen=True, kw_only=True):
    """What a stage cost, e.g. ``{"seconds": 12.3456, "cpu_seconds": 11.9}``."""

    seconds: float
    """Wall time on rank 0."""
    cpu_seconds: float
    """CPU time of rank 0's process."""
    unit_seconds: float | None = None
    """Wall time of its units together, on whichever rank and in whichever session; None: it has none."""
    ranks: int = 1
    """Those that were held for it, one device each, also where only rank 0 worked."""
    samples: int = 0
    """Rows that it generated, in this session; those of trials too."""
    tokens: int = 0
    """What its task or grader reported, in this session, see ``runtime.meter``."""
    flops: float = 0.0
    """Of the steps of its fits, in this session, those of trials too; see ``runtime.flops``."""
    money: float | None = None
    """At the prices of this session, ``budget.price``; None: it has none."""


UNITS = {
    "seconds": "s",
    "device_hours": "device hours",
    "samples": "samples",
    "tokens": "tokens",
    "flops": "FLOPs",
    "money": "in money",
}
"""The limits of a run's ``budget``, and what their numbers are of, e.g. ``the budget of 600 s is spent``."""
_HOUR = 3600.0


class Spent(Answer, frozen=True):
    """What all stages together cost, those that failed or were cut off too. Nothing gives any of it back."""

    seconds: float = 0.0
    """Wall time."""
    device_hours: float = 0.0
    """Wall time x ranks, in hours."""
    samples: int = 0
    """Rows that were generated."""
    tokens: int = 0
    """Those that the task and the grader reported."""
    money: float = 0.0
    """At the prices that held when it was spent."""
    flops: float = 0.0
    """Of the steps of all fits, e.g. 1.2e13."""

    def after(self, cost: Cost) -> Spent:
        """With what one more stage cost."""
        return Spent(
            self.seconds + cost.seconds,
            self.device_hours + cost.seconds * cost.ranks / _HOUR,
            self.samples + cost.samples,
            self.tokens + cost.tokens,
            self.money + (cost.money or 0.0),
            self.flops + cost.flops,
        )

    def plus(self, other: Spent) -> Spent:
        """Both together."""
        return Spent(
            self.seconds + other.seconds,
            self.device_hours + other.device_hours,
            self.samples + other.samples,
            self.tokens + other.tokens,
            self.money + other.money,
            self.flops + other.flops,
        )

    def times(self, factor: float) -> Spent:
        """As often; a share of a sample or token is none."""
        return Spent(**{key: type(value)(value * factor) for key, value in structs.asdict(self).items()})

    def reached(self, budget: Mapping[str, Json]) -> str | None:
        """The first limit of ``budget`` that is reached, by its key; None: none is."""
        limits = {key: budget.get(key) for key in UNITS}
        return next((key for key, limit in limits.items() if limit and getattr(self, key) >= limit), None)

    def __str__(self) -> str:
        """What is not 0, e.g. ``812 s, 0.226 device hours, 9000 samples``."""
        numbers = {key: getattr(self, key) for key in UNITS}
        texts = {key: str(n) if isinstance(n, int) else f"{n:.3g}" for key, n in numbers.items()}
        texts["seconds"] = f"{self.seconds:.0f}"
        return ", ".join(f"{texts[key]} {unit}" for key, unit in UNITS.items() if numbers[key]) or "nothing"

    def rounded(self) -> Spent:
        """Without the last digits of sums of floats."""
        floats = {key: round(getattr(self, key), 6) for key in ("seconds", "device_hours", "money")}
        return replace(self, **floats)


def device_hours(seconds: float, ranks: int) -> float:
    """Of so many ranks, one device each, that are held for so long."""
    return seconds * ranks / _HOUR


def finishes(budget: Mapping[str, Json]) -> bool:
    """Whether a run that reaches a limit of its budget ends its turn and finishes, and is not stopped."""
    return budget.get("at_limit") == "finish"


def limit_is_spent(key: str, limit: float) -> str:
    """The reason of a run that stops because a limit of its budget is reached."""
    number = str(limit) if isinstance(limit, int) else f"{limit:g}"
    return f"the budget of {number} {UNITS[key]} is spent"


def limit_of(reason: str) -> str | None:
    """The key of the limit that a run stopped by, from its reason; None: by none."""
    return next((key for key, unit in UNITS.items() if reason.endswith(f" {unit} is spent")), None)


class Units(Fields, frozen=True, kw_only=True):
    """The units of a stage: the same for any ranks and kills."""

    count: int
    """How many, e.g. 12."""
    digest: str
    """SHA-256 in hex of the SHA-256 of what each made, in order."""
    failed: int | None = None
    """How many of them failed and were skipped; None: none."""
    reasons: dict[str, int] | None = None
    """The three most frequent reasons, and how often, e.g. ``{"timed out": 2}``."""


class Shared(Fields, frozen=True, kw_only=True):
    """Items of a suite that are problems of other rows, too, and may be."""

    suite: str
    """Whose items they are, e.g. ``gate``."""
    other: str = msgspec.field(name="with")
    """``the seed samples``, or another suite."""
    items: int
    """How many, e.g. 100."""
    of: int
    """Items that the suite has, e.g. 750."""


class HeldOut(Fields, frozen=True, kw_only=True):
    """By what suites are held out, and what is exempt."""

    columns: tuple[str, ...]
    """Those by whose values two rows are the same problem, e.g. ``("prompt",)``; none: not compared."""
    exhaustible: tuple[Exhaustible, ...]
    """Problems so few that they must recur."""
    shared: tuple[Shared, ...]
    """What recurs."""
    decontaminate: Decontaminate | None = None
    """Texts that are compared by n-grams, too; None: none are."""


class SeedFacts(Fields, frozen=True, kw_only=True):
    """Facts of ``seed``."""

    human: int
    """Rows of the human samples, e.g. 100."""
    held_out: HeldOut


class LabelsFacts(Fields, frozen=True, kw_only=True):
    """Facts of ``labels``."""

    human: int
    """Rows of the human samples that it made, e.g. 1000."""
    by_suite: dict[str, int]
    """Those of each suite, e.g. ``{"dev": 250, "gate": 750}``."""


class Producer(Fields, frozen=True, kw_only=True):
    """A rival that answered prompts beside the parent."""

    weights: str
    """Artifact."""
    generation: int | None
    """The one with these weights; None: they are from elsewhere."""
    prompts: int
    """How many it was asked, e.g. 60."""
    samples: int
    """Rows that it made, e.g. 60."""


class GenerateFacts(Fields, frozen=True, kw_only=True):
    """Facts of ``generate``."""

    made: int
    """Rows of the batch, e.g. 3000."""
    left_out: int | None
    """Prompts that a suite asks, e.g. 4; None: they could not be compared."""
    prompts: Sketch
    """By what the prompts are known again."""
    units: Units
    rivals: dict[str, Producer] = msgspec.field(default_factory=dict)
    """By their names, those that answered too; all other rows are the parent's."""


class PartGraded(Fields, frozen=True, kw_only=True):
    """What a part of a composition of graders did."""

    grader: str
    """Its class, e.g. ``Vote``."""
    version: str | None = None
    """Hash of its arguments and of the modules behind it; None: not known."""
    failed: int = 0
    """Samples that it could not score, e.g. 3."""
    reasons: dict[str, int] = msgspec.field(default_factory=dict)
    """The three most frequent reasons, and how often, e.g. ``{"timed out after 5 s": 3}``."""


class GradeFacts(Fields, frozen=True, kw_only=True):
    """Facts of ``grade``."""

    grader: str
    """Its class, e.g. ``Confidence``."""
    version: str | None
    """Hash of its arguments and of the modules behind it; None: not known."""
    loaded_parent: str | None
    """Artifact of the weights that it loaded; None: none."""
    units: Units
    rows: int = 0
    """Samples that it was given, e.g. 3000."""
    failed: int = 0
    """Those that have no score, e.g. 3; see the column ``failure`` of the scores."""
    reasons: dict[str, int] = msgspec.field(default_factory=dict)
    """The three most frequent reasons, and how often, e.g. ``{"timed out after 5 s": 3}``."""
    parts: dict[str, PartGraded] = msgspec.field(default_factory=dict)
    """Of a composition, its parts by their names, however deep."""


class Checked(Fields, frozen=True, kw_only=True):
    """Rows of a batch of which some were drawn for an audit."""

    rows: int
    """How many there are, e.g. 1840."""
    drawn: int
    """Those that the trusted grader was given, e.g. 200."""
    graded: int
    """Those that it gave an answer to."""
    right: int
    """Those that it found right."""


class AuditsBefore(Fields, frozen=True, kw_only=True):
    """What earlier audits of a run found of kept rows, up to the first one that drifted."""

    graded: int = 0
    right: int = 0
    gap: Interval | None = None
    """Mean over those rows of the loop's own score - what the trusted grader said."""


class AuditFacts(Fields, frozen=True, kw_only=True):
    """Facts of ``audit``."""

    grader: str
    """The trusted grader's class, e.g. ``Verifier``."""
    version: str | None
    """Hash of its arguments and of the modules behind it; None: not known."""
    column: str | None
    """Its column, e.g. ``verified``; None: it answered nothing."""
    kept: Checked
    """The turn's rows that the curator would keep, but for those that a dev suite asks."""
    dropped: Checked
    """Its rows that are dropped though they are the best, or the only one, of their group."""
    loaded_parent: str | None = None
    """Artifact of the weights that the trusted grader loaded; None: none."""
    left_out: int | None = None
    """Rows that dev suites ask, of which none is drawn; None: they could not be compared."""
    precision: Interval | None = None
    """The share of right rows among those kept, exact; None: nothing is known of it."""
    recall: Interval | None = None
    """The share of kept rows among the right ones of ``kept`` and ``dropped``; None: not known."""
    by: dict[str, dict[str, Interval]] = msgspec.field(default_factory=dict)
    """Column -> its value -> precision there, e.g. ``{"length": {"8": ...}}``."""
    score: str | None = None
    """The loop's own score: the curator's column, else the grader's first."""
    gaps: dict[str, Interval] = msgspec.field(default_factory=dict)
    """The loop's grader's column -> its mean - the trusted grader's, over the same kept rows, in [-1, 1]."""
    failures: dict[str, int] = msgspec.field(default_factory=dict)
    """Why the trusted grader gave no answer, and for how many rows."""
    before: AuditsBefore | None = None
    """What earlier audits found, with which this one is compared; None: there were none."""
    flagged: str | None = None
    """A sentence where too few kept rows are right, or nothing was found out."""
    drift: str | None = None
    """A sentence where fewer are right than before, or the loop's grader's gap is larger."""
    units: Units | None = None
    """Those of the trusted grader; None: there was nothing to grade."""

    @property
    def fault(self) -> str:
        """What it finds fault with, in words; empty: with nothing."""
        return "; ".join(filter(None, [self.flagged, self.drift]))


class PartFacts(Fields, frozen=True, kw_only=True):
    """Facts of a stage whose part may leave a carry."""

    carry_kept: str | None = None
    """When its carry is kept: ``always``, or else only with a promotion."""


class CurateFacts(PartFacts, frozen=True, kw_only=True):
    """Facts of ``curate``."""

    corpus: str
    """Digest of the corpus, SHA-256 in hex."""
    rows: int
    """Different rows of the corpus, e.g. 2454."""
    by_origin: dict[str, int]
    """Those of each origin, e.g. ``{"human": 100, "generated": 2354}``."""
    by_reason: dict[str, int]
    """Samples that were decided on, by the reason given, e.g. ``{"below threshold": 646}``."""
    leaked: int = 0
    """Generated rows that the curator would have kept and a suite asks, e.g. 3; none is in the corpus."""
    human_share: float | None = None
    """Share of the corpus's draws that are human rows, e.g. 0.2; None: the run has no floor for it."""


class TuneFacts(PartFacts, frozen=True, kw_only=True):
    """Facts of ``tune``."""

    settings: Settings
    """What it chose, e.g. ``{"lr": 0.002, "steps": 450}``."""
    start: str
    """The kind of start that it chose, e.g. ``parent``; ``trial``: the weights of the trial below."""
    units: Units | None = None
    """Its trials; None: the tuner asked for none."""
    trial: int | None = None
    """The trial whose settings these are; None: they are of none."""
    share: float = 1.0
    """Of the configured steps or epochs that the candidate's fit is to do."""
    reason: str = ""
    """For people, e.g. ``trial 7 of 12: 96.4% on dev, 1.2% more than the settings in force``."""
    importance: dict[str, float] = msgspec.field(default_factory=dict)
    """Setting -> its share of what made the trials' scores differ; they sum to 1. Empty: not known."""


class Best(Fields, frozen=True, kw_only=True):
    """The checkpoint that a ``ModelCheckpoint`` chose."""

    monitor: str
    """What it watched, e.g. ``val_loss``."""
    value: float | None
    """What that was, e.g. 0.031."""
    step: int
    """Of the fit, e.g. 400."""


class TrainFacts(Fields, frozen=True, kw_only=True):
    """Facts of ``train``, and of ``adopt``."""

    start: Start
    """What the weights started from."""
    settings: Settings
    """Those of the fit."""
    steps: int
    """Of all optimisers, e.g. 450; 0 where a start was adopted."""
    loss: float | None
    """The last step's, e.g. 0.01; None: there was none, or it is no number."""
    best: Best | None = None
    share: float = 1.0
    """Of the configured steps or epochs that it was to do; 0: the start is the candidate."""
    flops: float = 0.0
    """Of its steps, on all ranks, e.g. 2.1e11; see ``runtime.flops``."""


class EvaluateFacts(Fields, frozen=True, kw_only=True):
    """Facts of ``evaluate``, and of ``sealed``."""

    metrics: dict[str, dict[str, Interval]]
    """Suite -> name -> estimate; of gate suites what is shown, see ``metrics.ladder``."""
    units: Units
    repeated: tuple[str, ...] = ()
    """Gate suites whose estimates are those that were shown last: the candidate's are not a step up."""


class Compared(Fields, frozen=True, kw_only=True):
    """A candidate beside a generation, on the dev items."""

    generation: int
    effect: float
    """Mean difference of items, candidate - generation, e.g. -0.004."""
    p_value: float
    """One-sided, against "the candidate is no worse"."""


class ScreenFacts(Fields, frozen=True, kw_only=True):
    """Facts of ``screen``."""

    advance: bool
    """Whether no harm is shown; with ``promotion=greedy`` whether its mean is higher than the champion's."""
    reason: str
    """For people, e.g. ``no harm shown on dev: +0.40% against generation 3, the champion, p 0.84``."""
    score: float
    """The mean of all dev items, in [0, 1], of duels too."""
    against: tuple[Compared, ...]
    """The champion, and the best frontier since it came into force, if there is one."""
    metrics: dict[str, dict[str, Interval]]
    """Suite -> name -> estimate."""
    units: Units


class GateFacts(PartFacts, frozen=True, kw_only=True):
    """Facts of ``gate``."""

    verdict: Verdict


class GuardAlarm(Fields, frozen=True, kw_only=True):
    """What a guard found."""

    guard: str
    """Its name among ``guards``, e.g. ``collapse``."""
    action: Action
    reason: str
    """For people, e.g. ``guard fell from 91.0% to 84.5%``."""
    numbers: dict[str, float] = msgspec.field(default_factory=dict)
    """What it measured, e.g. ``{"entropy": 3.1}``."""


class GuardFacts(Fields, frozen=True, kw_only=True):
    """Facts of ``guard``."""

    alarms: tuple[GuardAlarm, ...]
    """What guards said, also that they passed and why; nothing of one that said nothing."""


class ReviewFacts(Fields, frozen=True, kw_only=True):
    """Facts of ``review``."""

    consent: bool
    reviewer: str
    """Its class, e.g. ``NoReview``, or who answered."""


FACTS: dict[str, type[Fields]] = {
    "seed": SeedFacts,
    "labels": LabelsFacts,
    "generate": GenerateFacts,
    "grade": GradeFacts,
    "audit": AuditFacts,
    "curate": CurateFacts,
    "tune": TuneFacts,
    "train": TrainFacts,
    "adopt": TrainFacts,
    "evaluate": EvaluateFacts,
    "sealed": EvaluateFacts,
    "screen": ScreenFacts,
    "gate": GateFacts,
    "guard": GuardFacts,
    "review": ReviewFacts,
}
"""The facts of each stage."""
PRUNABLE = {
    "train": ("weights",),
    "adopt": ("weights",),
    "generate": ("samples",),
    "grade": ("scores",),
    "curate": ("decisions", "keys"),
    "tune": ("weights",),
}
"""The outputs of a stage that a policy may let go, in the order in which they go; all others stay."""


class Event(Fields, frozen=True, kw_only=True):
    """A line. What the chain adds is set when it is written, see ``ledger``."""

    event: str
    """Its name, e.g. ``stage``."""
    seq: int = -1
    """Its number: 0, 1, 2, ...; -1: it is not written yet."""
    time: float = 0.0
    """Seconds since 1970, by the writer's clock."""
    prev: str = ""
    """``hash`` of the line before."""
    hash: str = ""
    """SHA-256 in hex of the canonical JSON of all other keys."""


def _name(event: str) -> Any:
    """The name of an event by default. From a factory: a plain default would be left out of the line."""
    return msgspec.field(default_factory=lambda: event)


class ForkedFrom(Fields, frozen=True, kw_only=True):
    """The generation of another run that a fork began with."""

    run: str
    """RECIPE/NAME, e.g. ``mnist/seed0-1a2b3c4d``."""
    generation: int
    head: str
    """``hash`` of that run's last line then."""
    weights: str
    """Artifact."""
    recalled: str | None
    """Artifact with the ids of the samples that were recalled there; None: none were."""
    openings: int = 0
    """How often sealed suites with any of the fork's sealed items had been opened by then."""

    def __str__(self) -> str:
        return f"{self.run}@{self.generation}"


class RunCreated(Event, frozen=True, kw_only=True):
    """A run began."""

    event: str = _name("run_created")
    format: int
    """1."""
    recipe: str
    """E.g. ``mnist``."""
    name: str
    """E.g. ``seed0-1a2b3c4d``."""
    config: dict[str, Any]
    """The part of the configuration that is identity, references resolved."""
    data: dict[str, dict[str, Any]]
    """Table -> its digest and columns, and what is said of a suite."""
    threads: int
    """Of torch, e.g. 2."""
    error_budget: ErrorBudget
    forked_from: ForkedFrom | None = None


class SessionStarted(Event, frozen=True, kw_only=True):
    """A process began to work on the run."""

    event: str = _name("session_started")
    world_size: int
    """Ranks, e.g. 1."""
    threads: int
    """Of torch, e.g. 2."""
    commit: str | None
    """Of flywheel's checkout, 40 hex digits; None: it is in none."""
    checkouts: dict[str, dict[str, Any]]
    """``flywheel`` and ``recipe`` -> commit, and what was changed and not committed."""
    machine: str
    """E.g. ``x86_64``."""
    compute: dict[str, str]
    """What the last bits of a fit depend on: CPU type, torch and its build, device."""
    python: str
    """E.g. ``3.11.7``."""
    versions: dict[str, str | None]
    """Package -> version; None: it is not installed."""
    command: tuple[str, ...]
    """Arguments of the process."""
    outputs: dict[str, str]
    """``config``, ``code``, ``distributions``, ``diff.flywheel``, ``diff.recipe`` -> artifact."""


class CodeChanged(Event, frozen=True, kw_only=True):
    """The next session's code is not that of the session before."""

    event: str = _name("code_changed")
    generation: int
    """The first that the next session works on."""
    since: int
    """``seq`` of the ``session_started`` before."""
    modules: dict[str, tuple[str, str]]
    """Module -> its hashes before and now: SHA-256 in hex, ``absent`` or ``unknown``."""
    distributions: dict[str, tuple[str, str]]
    """Distribution -> its versions before and now."""


class GenerationStarted(Event, frozen=True, kw_only=True):
    """A generation began."""

    event: str = _name("generation_started")
    generation: int
    """0, 1, 2, ..."""
    parent: int | None
    """What it builds on: the frontier; None: it is a genesis. Of a refit the champion's parent."""
    champion: int | None
    """The one in force, or of a refit the one to repeat; None: there is none."""
    refit: bool = False
    """Whether it repeats the champion's procedure with the labels of dev and gate."""


class Look(Event, frozen=True, kw_only=True):
    """Gate items are about to be read by a test, or the sealed suites opened: charged before any outcome."""

    event: str = _name("look")
    generation: int
    """Whose candidate is looked at; of an opening of the sealed suites, the champion then."""
    role: Role = Role.GATE
    """Of the suites that are read: ``gate`` or ``sealed``."""
    number: int
    """1, 2, ...: how many there were of this role in this run, with this one."""
    level: float | None = None
    """What the accountant gave, e.g. 0.0125; None: sealed suites decide nothing."""


class StageDone(Event, Generic[F], frozen=True, kw_only=True):
    """A stage was done."""

    event: str = _name("stage")
    generation: int
    stage: str
    """E.g. ``curate``."""
    inputs: dict[str, str]
    """Name -> artifact, e.g. ``starts.parent``."""
    outputs: dict[str, str]
    """Name -> artifact, e.g. ``corpus``."""
    facts: F
    cost: Cost


class Decided(Event, frozen=True, kw_only=True):
    """What a clock, a price or a file outside of the run decided: it is replayed, not decided again."""

    event: str = _name("decided")
    generation: int
    stage: str
    """Whose it is, e.g. ``tune``."""
    what: str
    """``memory``: what a tuner's memory holds; ``stop``: how many trials are made."""
    value: int | str
    """E.g. 12, or an artifact."""
    reason: str
    """For people, e.g. ``the trials have taken 600 s: tune.seconds is 600``."""


class GenerationEnded(Event, frozen=True, kw_only=True):
    """A generation has its verdict; one that has advanced has another at the end of its look."""

    event: str = _name("generation_ended")
    generation: int
    status: Status
    reason: str
    """For people, e.g. ``+2.13% on 750 items, 21 won, 5 lost, exact McNemar: p 0.0012 <= 0.05``."""
    carry: dict[str, str]
    """Component -> artifact: the carries that it leaves."""
    cost: Cost | None = None
    """Of the stage that failed; None: none did."""
    traceback: str | None = None
    """Of the stage that failed."""


class Recalled(Event, frozen=True, kw_only=True):
    """A flaw was recalled."""

    event: str = _name("recalled")
    why: str
    by: str
    """What was named: ``generation 3``, or a condition on samples."""
    strict: bool
    """Whether what is only suspect was recalled, too."""
    generations: tuple[int, ...]
    """Those that are flagged recalled now."""
    suspect: tuple[int, ...]
    """Those that are flagged suspect now."""
    samples: str
    """Artifact with the ``id`` of every sample recalled so far."""
    champion: int | None
    """The champion from now on; None: there is none."""
    frontier: int | None = None
    """What the next generation builds on; None: the champion."""
    carry: dict[str, str]
    """Component -> artifact: the carries in force from now on."""


class RolledBack(Event, frozen=True, kw_only=True):
    """A former champion was made champion again."""

    event: str = _name("rolled_back")
    champion: int
    why: str


class FellBack(Event, frozen=True, kw_only=True):
    """A frontier was given up: the next generation builds on the champion again."""

    event: str = _name("fell_back")
    champion: int
    generations: tuple[int, ...]
    """Those that had advanced since, which are abandoned."""
    reason: str
    """For people, e.g. ``2 looks in a row have failed``."""


class Consented(Event, frozen=True, kw_only=True):
    """A person answered a review."""

    event: str = _name("consent")
    manifest: str
    """Artifact: that of the ``run_awaiting_review`` before it."""
    consent: bool
    by: str
    """Who answered."""
    why: str


class Pruned(Event, frozen=True, kw_only=True):
    """A policy let artifacts go."""

    event: str = _name("pruned")
    policy: Policy
    """What was to be kept."""
    objects: dict[str, int]
    """Artifact -> bytes: may be absent from now on."""
    slim: dict[str, str]
    """Artifact -> the artifact that stands in for it."""


class RunEnded(Event, frozen=True, kw_only=True):
    """A session ended: ``run_finished``, ``run_stopped``, ``run_failed`` and so on."""

    reason: str = ""
    """E.g. ``generations``, ``SIGINT``; of one that waits for a review none."""
    champion: int | None = None
    """Of a run that is finished."""
    generation: int | None = None
    """Whose stage was cut off; None: none was."""
    cost: Cost | None = None
    """Of the stage that was cut off."""
    traceback: str | None = None
    """Of a failure that no generation has."""
    manifest: str | None = None
    """Artifact: what a reviewer is asked about, of ``run_awaiting_review``."""


ENDINGS = ("run_finished", "run_stopped", "run_failed", "run_awaiting_review", "run_interrupted")
EVENTS: dict[str, Any] = {
    "run_created": RunCreated,
    "session_started": SessionStarted,
    "code_changed": CodeChanged,
    "generation_started": GenerationStarted,
    "look": Look,
    "decided": Decided,
    "stage": StageDone[dict[str, Any]],
    "generation_ended": GenerationEnded,
    "recalled": Recalled,
    "rolled_back": RolledBack,
    "fell_back": FellBack,
    "consent": Consented,
    "pruned": Pruned,
    **dict.fromkeys(ENDINGS, RunEnded),
}
"""The type of each event; one that is none of these is an ``Event``."""


class _Kind(msgspec.Struct, gc=False):
    """What a line is, before the rest of it is looked at."""

    event: str
    stage: str = ""


def type_of(event: str, stage: str = "") -> Any:
    """The type of an event, or of the ``stage`` event of a stage."""
    facts = FACTS.get(stage) if event == "stage" else None
    return EVENTS.get(event, Event) if facts is None else StageDone[facts]  # type: ignore[valid-type]


_kind = msgspec.json.Decoder(_Kind).decode
_decode: dict[tuple[str, str], Callable[[bytes], Event]] = {}


def decode(line: bytes) -> Event:
    """The event of a line. Raises ValueError with the reason if it is not of its type."""
    try:
        kind = _kind(line)
        what = kind.event, kind.stage
        if what not in _decode:
            decoder: Callable[[bytes], Event] = msgspec.json.Decoder(type_of(*what)).decode
            if what[0] not in EVENTS or (what[0] == "stage" and what[1] not in FACTS):
                return decoder(line)  # not kept: names that are not known are without number
            _decode[what] = decoder
        return _decode[what](line)
    except msgspec.MsgspecError as error:
        raise ValueError(f"it is no such event as docs/format.md describes: {error}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
