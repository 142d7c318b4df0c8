"""The seams: what a recipe and the parts of its stages look like to the loop.

A recipe writes a ``Task``; the others have implementations under ``flywheel/`` and may be its own too.
Tables are Arrow; their columns are described in ``flywheel.records``. ``settings`` is a plain dict. Records
are msgspec structs: ``msgspec.structs.replace(suite, items=items)`` is a copy with changes.

``generate``, ``evaluate`` and ``grade`` are called without gradients: under ``torch.inference_mode``, or,
with ``trainer.inference_mode=false``, under ``torch.no_grad``. Choose the latter to take a gradient in one
of them (within ``torch.enable_grad()``) or to train on a tensor that one of them has kept.

A task or a grader that asks an outside service, as a judge behind an API, has an attribute
``outside_service = True``: what each unit of ``chunk_size`` rows was answered is then on disk before the next
one begins (on several ranks: the next one of each), so that a run that is killed asks for no unit twice. Of
other units the last few seconds' are done again.

A grader that judges an answer, as a verifier does, has an attribute ``checked_answer``, the name of the
payload column that it judges: it is tried on wrong answers before a run starts, see
``flywheel.graders.controls``. With a method ``close()`` it is closed at the end of the stage; its next
``grade`` may open it again. A composition of graders has them in ``graders``, by name.

A task or a grader that uses tokens, as a language model does, has an attribute ``tokens_column``, the name of
a column of what ``generate`` or ``grade`` returns: whole numbers, how many each row took. The budget counts
them (``budget.tokens``, ``budget.price.thousand_tokens``); those that ``evaluate`` uses it does not know.

A component with a carry says when the carry is kept by an attribute ``carry_kept``: "always", or
"promotion" (the default) to forget what happened in a generation that was rejected. What a failed
generation carried is never kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from flywheel.records import (
    Alarm,
    Carry,
    Choice,
    Consent,
    Differences,
    GateResult,
    Interval,
    Progress,
    Settings,
    Start,
    Step,
    Study,
    Suite,
    Trial,
    TrialResult,
    Unit,
    UnitResult,
    Verdict,
)
from flywheel.space import Space

if TYPE_CHECKING:
    from pathlib import Path

    import lightning
    import pyarrow as pa

    from flywheel.keys import Key, Keys
    from flywheel.storage.events import Event
    from flywheel.storage.state import Generation, RunState

Columns = Any
"""A table, a record batch, or a mapping from column names to arrays."""


class Task(Protocol):
    """What is being improved: where data comes from, and how a model is used and scored.

    An optional method says how the items of suites become human samples, for ``refit=true``, which trains on
    those of dev and gate once the run is over:

    ``samples_of(items: pa.Table) -> Columns``: a row for each item that has a label, with the columns of
    ``seed()`` but ``source``, which names the suite; ``prompt`` is unique in a suite.

    Another optional method says how a person sees a sample, in reports, notebooks, W&B tables and
    ``samples --show``:

    ``show(sample: dict[str, Any]) -> Any``: text, ``flywheel.views.Html``, an image (array [H, W] or
    [H, W, 3], uint8 or floats in [0, 1], or PIL's), a plot (Altair, matplotlib, or what a notebook shows by
    ``_repr_png_`` or ``_repr_html_``), or a tuple of these; None: as without the method. ``sample`` is a row
    of ``samples``: payload, scores and decisions that there are. It must neither draw from a global generator
    nor change the task: it may be called while a fit is on. A report builds the task in a process of its own,
    so load large data when it is asked for. An error in ``show`` is shown in place of that view.
    Without the method arrays and images get a picture, and other columns are text.

    Optional attributes keep the items of suites apart from the rows that are trained on:

    ``identity_columns``, e.g. ``("prompt",)``: columns that the seed samples and the items of every suite
    have. Two rows with equal values there are the same problem. Before anything is trained, a suite is
    refused if it shares a problem with the seed samples, or with a suite of another role (a gate and a guard
    may share problems: both judge a finished candidate). If prompts have the columns, too, prompts that are
    problems of a suite are left out. Without this attribute nothing is compared, and every report says so.

    Generated rows are compared, too, whatever the curator says: one that is a problem of a suite gets into no
    corpus. Its decision says so, ``leaked: suite gate asks it``.

    ``decontaminate``, a ``flywheel.records.Decontaminate``: columns with texts, as of questions. Seed samples
    that have an n-gram of words in common with items of a suite are refused, and generated rows get into
    no corpus.

    ``slice_columns``, e.g. ``("digit",)``: columns of the items of dev suites. ``prompts`` is then called
    with a further keyword, ``results``: a table of how the model that will answer them did there, a row for
    each combination of values, with these columns, ``items`` (how many) and ``score`` (their mean); None
    where it was not evaluated. ``flywheel.prompting.WeakSpots`` decides from it how much to ask of what.

    ``exhaustible``, a sequence of ``flywheel.records.Exhaustible``: problems that are exempt, because
    there are too few of them. Every report counts them.
    """

    def seed(self) -> Columns:
        """Human samples: a unique string column ``prompt``, optionally ``source``, and the payload.

        May have no rows if genesis is not trained.
        """

    def suites(self) -> Sequence[Suite]:
        """Items to evaluate on, at least one suite with role gate."""

    def prompts(self, generation: int, carry: Mapping[str, Carry], key: Key) -> pa.Table:
        """Prompts for the champion: a unique string column ``prompt``, and the columns that generate needs.

        ``carry`` has the carries of curator and tuner by these names, e.g. a curriculum's frontier; that of
        the gate may tell what is not shown of scores on its items.
        """

    def generate(
        self, model: lightning.LightningModule, prompts: pa.Table, settings: Settings, keys: Keys
    ) -> Columns:
        """Samples for a unit of prompts: ``prompt``, the payload, optionally ``group`` (default: prompt).

        ``keys`` has one key a prompt. What is drawn by them depends neither on ranks nor on ``chunk_size``,
        the number of prompts in a unit. torch's and NumPy's global generators are seeded from all keys of the
        unit, so what is drawn by those depends on ``chunk_size``. Several rows may answer a prompt.

        The payload's columns are cast to the types of the seed samples, or else of the first unit, where
        that loses nothing. The names of provenance columns and ``keep``, ``reason``, ``weight`` and
        ``count`` are reserved. Types must be ones that Parquet returns unchanged.
        """

    def data(self, corpus: pa.Table, settings: Settings) -> Any:
        """A LightningDataModule or DataLoader over the corpus: sample columns, ``weight``, ``count``."""

    # Optional: ``calibrate(model, dev)``, see ``Calibrates``.

    def evaluate(
        self,
        model: lightning.LightningModule,
        opponent: lightning.LightningModule | None,
        items: pa.Table,
        keys: Keys,
    ) -> Any:
        """A score in [0, 1] for each item of a unit; against the opponent where the suite is a duel.

        ``keys`` has one key an item; see ``generate``.
        """


class Calibrates(Protocol):
    """What a task has besides if its scores depend on how sure a model is, e.g. a Brier score.

    Without it a candidate could gain by stating its probabilities better or worse, and not by knowing more.
    """

    def calibrate(self, model: lightning.LightningModule, dev: Mapping[str, pa.Table]) -> Any:
        """What is evaluated in place of the model, e.g. one with a temperature fitted on ``dev``.

        ``dev``: the items of each dev suite, by name. Called on each rank before a model is evaluated,
        whatever the suites; it must answer the same on all. ``flywheel.metrics.temperature`` may serve.
        """


class Grader(Protocol):
    """Scores samples, some whole groups at a time."""

    def grade(self, samples: pa.Table, load_parent: Callable[[], Any], keys: Keys) -> Columns:
        """Columns of scores, row for row, for whole groups of about ``chunk_size`` samples together.

        The first column is the score. It is null where the grader failed on a sample, never 0, with the
        reason in a text column ``failure``. ``load_parent()`` gives the parent model, in evaluation mode;
        units share it: do not change it. ``keys`` has the key of each row's group.
        """


class Curator(Protocol):
    """Decides which samples a candidate trains on."""

    def curate(self, samples: pa.Table, carry: Carry, key: Key) -> tuple[Columns, Carry]:
        """Decisions row for row (see ``flywheel.records``), and the new carry.

        ``samples`` has all rows that may be used, from the human ones over earlier generations' to the
        newest, beside their graders' columns (null where not graded). Those of earlier generations are
        the ones in the parent's corpus and those of generations rejected since.
        """


class StreamCurator(Protocol):
    """A curator that decides on each row by itself, whatever came before; ``curate`` is not called.

    It is shown each batch once, some rows at a time, so the corpus need not fit into memory, and a turn costs
    what its new rows cost. Its class may have an attribute ``unique``, columns of which no two kept rows may
    have the same values: the first of them is kept. It has no carry.
    """

    @property
    def columns(self) -> Sequence[str]:
        """The columns that it looks at, besides ``id`` and ``origin``: no others are read for it."""

    def decide(self, rows: pa.Table) -> Columns:
        """Decisions row for row (see ``flywheel.records``). ``rows`` lack columns that their batch lacks."""


class TunerView(msgspec.Struct, frozen=True):
    """What a tuner may look at; no item of any suite."""

    settings: Settings
    """Those in force."""
    starts: Mapping[str, Start]
    """What a fit may begin from, by kind."""
    init: str
    """The configured kind."""
    results: tuple[TrialResult, ...]
    """The trials of this generation that the next one may depend on, by number: all but the last ones, see
    ``tune.lag``; when it chooses, all."""
    prior: tuple[Study, ...]
    """Those of earlier generations that had any and are not recalled, and of earlier runs; the oldest
    first."""
    carry: Carry
    key: Key
    """Another one for each trial, and for the choice."""
    space: Space = Space()
    """What it may search."""
    pending: tuple[Trial, ...] = ()
    """Trials that were asked for after those of ``results``."""


class Tuner(Protocol):
    """Chooses the settings of a candidate and the weights it starts from.

    It is asked for one trial after the other until it asks for none, and then for its choice. It must answer
    the same to the same view: a run that is resumed asks anew, and what was tried is not tried again. It is
    built anew for each generation, and may keep what it has computed from earlier views of that one.

    With an attribute ``memory``, the path of a file, it is shown the trials of the runs that share the file,
    and those of this run are added to it.
    """

    def ask(self, view: TunerView) -> Trial | None:
        """The next trial; None: no more.

        A trial is a fit by one rank for its share of the steps on this generation's corpus, or, with
        ``redo_from``, on one that is made anew for it and then forgotten. Each has random numbers of its own.
        One that fails is a result, too.
        """

    def choose(self, view: TunerView) -> Choice:
        """The choice, once all trials that it asked for are made. Called if not all of them failed."""


class Metric(Protocol):
    """Sums up what a model did on a suite. Reports show it; neither gate nor tuner decides by it.

    What it is belongs to the identity of the suite, as its items do: its class and what it holds. Make it a
    frozen dataclass of plain values.
    """

    @property
    def columns(self) -> Sequence[str]:
        """Columns that the suite's items must have for it."""

    def measure(self, outcomes: pa.Table, items: pa.Table) -> Mapping[str, Interval]:
        """Values by name, each with its interval, e.g. ``{"accuracy": Interval(0.97, 0.96, 0.98)}``.

        ``outcomes``: those on this suite, one at least; ``items``: the same rows of the suite's table. A name
        is given by one metric of the suite only.
        """


class Evidence(Protocol):
    """What a gate may look at: paired differences; never a model, an item or a mean."""

    @property
    def suites(self) -> Sequence[str]:
        """Names of the gate suites."""

    def differences(self, suite: str, clusters: int | None = None) -> Differences:
        """Differences of the suite's first ``clusters`` clusters, with all their items; None: of all."""


class Gate(Protocol):
    """Says how strong the evidence for a candidate is. The core decides: see ``storage.accountant``."""

    def test(self, evidence: Evidence, level: float, carry: Carry, key: Key) -> tuple[GateResult, Carry]:
        """A p-value or an e-value with its sentence, and the new carry.

        ``level``: the value is compared with it, e.g. to know when more items cannot change the decision.
        Called on all ranks with the same arguments; it must answer the same on all.
        """


class GuardView(msgspec.Struct, frozen=True):
    """What a guard may look at."""

    generation: Generation
    """The one whose candidate was just judged."""
    opponent: Generation
    """The champion that it was compared with."""
    verdict: Verdict
    candidate: pa.Table
    """Outcomes on dev and guard suites; their columns are in ``flywheel.records``."""
    champion: pa.Table
    """Outcomes of the champion's weights on the same items."""
    evidence: Evidence
    """Paired differences on the guard suites."""
    suites: Mapping[str, Suite] = msgspec.field(default_factory=dict)
    """The dev and guard suites by name, with their items."""
    parent: Generation | None = None
    """The one that made the data of this turn."""
    first_champion: Generation | None = None
    outcomes: Mapping[int, pa.Table] = msgspec.field(default_factory=dict)
    """Of the parent and the first champion, by number: their outcomes on dev and guard suites, read when they
    are asked for. A parent that no look certified has those on dev only."""
    batches: Mapping[int, pa.Table] = msgspec.field(default_factory=dict)
    """What this turn and the run's first turns generated, by number: samples beside their graders' columns
    and what audits found (``audited``), read when they are asked for. Those of turns that are recalled or
    pruned are missing."""
    measured: Mapping[int, Mapping[str, float]] = msgspec.field(default_factory=dict)
    """``Alarm.numbers`` that this guard gave in the first turns that it looked at, by number."""


class Guard(Protocol):
    """Looks for what may be wrong with a generation, whatever the gate says: a collapse, a regression.

    It has no part in the gate's error budget. A guard with a method ``check_suites(suites)`` is given the
    task's suites with role guard before a run is opened, and raises ValueError for those that it cannot
    judge by.
    """

    def check(self, view: GuardView) -> Alarm | None:
        """What it found, or None. Called once a look, after the gate."""


class ReviewRequest(msgspec.Struct, frozen=True):
    """What a reviewer is asked."""

    candidate: Generation
    verdict: Verdict
    manifest: str
    """The artifact that says what would be promoted, on what evidence; consent holds for this one only."""
    answer: Consent | None
    """What a person has answered to this manifest."""


class Reviewer(Protocol):
    """Is asked before a promotion."""

    def review(self, request: ReviewRequest) -> bool | None:
        """Consent: True or False; None: the answer is not there yet, and the run waits for it."""


class Executor(Protocol):
    """Does the units of a stage: in this process, on the ranks of torchrun, or elsewhere."""

    def run(self, work: Callable[[Unit], bytes], units: Iterable[Unit]) -> Iterator[UnitResult]:
        """The results of ``work``, a failure in place of one that raised, in the order of ``units``.

        All ranks call it; rank 0 alone has units and receives results. A unit is pulled when a worker is
        free for it. To end early, stop yielding units, and read the results of those under way.
        ``work`` can be pickled if the recipe's parts can.
        """


class Tracker(Protocol):
    """Something that follows a run.

    It is called in a thread of its own, a little behind the run, by way of a bounded queue. If it raises,
    hangs or is too slow it is reported once and removed, and the run goes on. With an attribute
    ``synchronous = True`` the run calls it itself, at the very moment, and waits for it. See
    ``docs/trackers.md``.
    """

    def open(self, directory: Path) -> None:
        """The session begins; ``directory`` is the run's."""

    def event(self, event: Event, state: RunState) -> None:
        """An event was recorded; ``state`` includes it."""

    def progress(self, progress: Progress) -> None:
        """A stage got further. Left out, and counted, while half of the queue is taken."""

    def metrics(self, step: Step, values: Mapping[str, float]) -> None:
        """What a fit logged at a step, with its loss and learning rate. Left out as progress is."""

    def close(self) -> None:
        """The session ends, or a call raised: no other call follows."""
