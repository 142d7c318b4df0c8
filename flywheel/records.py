"""The small frozen records that stages exchange. Nothing heavy is imported here.

Samples, scores and outcomes are Arrow tables, never Python objects one by one; their columns are
described here and checked in ``tables.py``.

Samples     id            string   content hash that includes the origin, see ``tables.sample_ids``
            origin        string   ``human`` or ``generated``
            made_in       int32    the generation in whose turn the row was made; 0 for human rows
            made_by       string   the weights that made the row; null for human rows
            source        string   where human rows come from; null for generated rows
            prompt        string   what the row answers; unique within one batch of prompts
            group         string   rows that compete with or vote on each other share it
            key           int64    seed of the prompt's key; 0 for human rows
            ...                    payload: whatever columns the recipe trains on
Scores      id, then one float64 column per grader, then the grader's further columns
Decisions   id            string
            keep          bool     may be trained on, now or in a later generation
            reason        string   the rule that decided
            weight        float64  > 0 where kept; what a recipe's datamodule may weigh rows by
            count         int32    how often it is drawn for the corpus; 0: kept for later, not this time
Outcomes    suite, item, cluster, subject, opponent   string (opponent null for a solo suite)
            score         float64  in [0, 1]
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch

    from flywheel.protocols import Metric

Json = Any
Weights = dict[str, "torch.Tensor"]
"""A state dict."""
Scalar = float | int | str | bool | None
Settings = dict[str, Any]
"""What the tuner may change: scalars by name."""
Carry = Mapping[str, Json]
"""What a component keeps from turn to turn: JSON values. Empty at first."""
RIGHT = 0.5
"""What a grader scores from here on is right, where nothing else is said."""
TRIAL = "trial"
"""The kind of start that is the weights of a trial."""
CHAMPION, LAST, FINAL = "champion", "last", "final"
"""Words for a generation, beside its number: the one in force, the newest, and the refit of the former."""


class Answer(msgspec.Struct, frozen=True):
    """Base of small values, recorded or answered by questions to a run: frozen, with a method ``json()``."""

    def json(self) -> dict[str, Json]:
        """Its fields by name, as plain JSON values: what ``--json`` prints."""
        fields: dict[str, Json] = as_json(self)
        return fields


def as_json(value: Any) -> Json:
    """A value as plain JSON values, an ``Answer`` by its fields. Raises TypeError if it has none."""
    return msgspec.json.decode(msgspec.json.encode(value, enc_hook=as_builtin))


def as_builtin(value: Any) -> Json:
    """A value that msgspec does not know, one level of it. Raises TypeError if it is no JSON value."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Path):
        return str(value)
    for kind in (str, int, float):
        if isinstance(value, kind):  # of a class of its own, as numpy's float64
            return kind(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")


class Start(Answer, frozen=True):
    """Weights that a fit may begin from, e.g. ``Start("parent", "3f…a1.safetensors", 4)``."""

    kind: str
    """``parent``, ``base``, ``fresh``; the core knows no list of them."""
    weights: str | None = None
    """The artifact; None: they are drawn anew."""
    origin: int | str | None = None
    """Whose they are: a generation's of this run, or ``RECIPE/NAME@GENERATION`` of another run."""


class Rung(Answer, frozen=True):
    """A point within the fit of a trial at which it is scored, and may end."""

    share: float
    """Of the trial's steps, above 0 and below 1, e.g. 0.25."""
    least: float | None = None
    """The dev score with which the trial goes on; None: it goes on in any case."""


class Trial(Answer, frozen=True):
    """What a tuner asks to have tried: a fit that is scored on the dev suites."""

    settings: Settings
    fidelity: float = 1.0
    """The share of the configured steps or epochs to do, above 0."""
    start: str = ""
    """The kind of start; empty: the configured one."""
    redo_from: str = "train"
    """The first stage to do anew with these settings: ``generate``, ``grade``, ``curate`` or ``train``."""
    data_share: float = 1.0
    """Of the corpus's rows that it trains on, and of the prompts where it generates; above 0, at most 1."""
    rungs: tuple[Rung, ...] = ()
    """Where it is scored on the way, in order."""
    keep_weights: bool = False
    """Whether its weights may become the candidate's start; not where it generates or grades anew, nor on a
    share of the corpus."""


class TrialResult(Answer, frozen=True):
    """What came of a trial."""

    number: int
    """0, 1, 2, ... in the order in which the trials of a generation were asked for."""
    trial: Trial
    score: float | None = None
    """The mean over all items of the dev suites, at the end or where it ended; None: the trial failed."""
    suites: Mapping[str, float] = msgspec.field(default_factory=dict)
    """The mean of each dev suite, by name."""
    failure: str | None = None
    """Why it failed, e.g. ``StageFailed: loss is not finite``."""
    error: float | None = None
    """The standard error of the score; None: there is one item, or it failed."""
    error_beside: float | None = None
    """That of its difference to the score of trial 0, as both are on the same items; None: it is trial 0, one
    of them failed or was pruned, or there is one item."""
    rungs: tuple[float, ...] = ()
    """The score at each rung that it came to."""
    pruned: bool = False
    """Whether it ended at the last of these."""
    share: float = 0.0
    """Of the steps of a whole fit that it did, e.g. 0.25; 0: it failed."""

    @property
    def is_whole(self) -> bool:
        """Whether it was scored at its end."""
        return self.score is not None and not self.pruned

    @classmethod
    def of(cls, values: Mapping[str, Json]) -> TrialResult:
        """The result whose ``json()`` this is."""
        return msgspec.convert(values, cls)


class Study(Answer, frozen=True):
    """The trials of one generation, as the tuner of a later one is shown them."""

    of: str
    """``generation 3``, or ``RECIPE/NAME@3`` of another run."""
    age: int
    """How many studies of this run have been made since, with this one: 1 is the last one."""
    results: tuple[TrialResult, ...]

    @property
    def is_own(self) -> bool:
        """Whether it is of an earlier generation of this run."""
        return "@" not in self.of


class Choice(Answer, frozen=True):
    """What a tuner chose."""

    settings: Settings
    start: str
    """The kind of start; ``trial``: the weights of the trial below."""
    carry: Carry = msgspec.field(default_factory=dict)
    trial: int | None = None
    """The trial whose settings these are; None: of none."""
    share: float = 1.0
    """Of the configured steps or epochs that the candidate's fit does; 0: its start is the candidate."""
    reason: str = ""
    """For people, e.g. ``trial 7 of 12: 96.4% on dev, 1.2% more than the settings in force``."""
    importance: Mapping[str, float] = msgspec.field(default_factory=dict)
    """Setting -> its share of what made scores differ, in [0, 1]; they sum to 1. Empty: not known."""


class Differences(msgspec.Struct, frozen=True):
    """Paired differences of items, candidate - champion, and which of them are not independent."""

    items: np.ndarray
    """Float, shape (items,), in [-1, 1]. Their mean is the difference of the suites' means."""
    clusters: np.ndarray
    """Int, shape (items,): the cluster of each item, numbered 0, 1, ... as they first appear."""


class Role(StrEnum):
    """What a suite's outcomes may decide."""

    DEV = "dev"  # tuning and pruning
    GATE = "gate"  # promotion
    GUARD = "guard"  # regressions
    SEALED = "sealed"  # nothing: looked at once a run has ended


class Suite(msgspec.Struct, frozen=True):
    """Items to evaluate on.

    ``items`` is a table with a unique string column ``item``, optionally ``cluster`` (items that
    are not independent share one), and whatever the recipe's ``evaluate`` needs.
    """

    name: str
    role: Role
    items: pa.Table
    metrics: tuple[Metric, ...] = ()
    """What its outcomes are summed up to, e.g. ``(flywheel.metrics.Mean("accuracy"),)``; without any it is
    the mean ``score``."""
    duel: bool = False
    """Scored against an opponent (the champion), as in self-play, instead of alone."""


class Exhaustible(Answer, frozen=True):
    """Problems of which there are so few that seed samples, items and prompts must have them in common.

    They are named by a column's values, e.g. ``Exhaustible("length", (1,), "there are only 100 sums of one
    digit")``. Their overlap is allowed, counted, and said in every report.
    """

    column: str
    values: tuple[str | int, ...]
    reason: str
    """Why they must recur: the end of a sentence, for people."""


class Decontaminate(Answer, frozen=True):
    """Columns with texts that no row to be trained on may have n-grams of words of in common with any suite.

    E.g. ``Decontaminate(("question",))``.
    """

    columns: tuple[str, ...]
    """Columns of samples and items, of texts."""
    ngram: int = 13
    """Words, without case and punctuation; of a shorter text the whole is compared."""


class Sketch(Answer, frozen=True):
    """By what a table is known again, see ``tables.digests.sketch``."""

    rows: int
    """How many, e.g. 3000."""
    columns: Mapping[str, str]
    """Name -> type, e.g. ``{"prompt": "string"}``."""
    rest: str
    """Digest of the rows without their floats, SHA-256 in hex."""
    floats: Mapping[str, tuple[float, float]]
    """Of each column with floats, their Euclidean norm, and the sum of their products with fixed numbers."""


class Interval(Answer, frozen=True, omit_defaults=True):
    """An estimate with its two-sided 95% confidence interval, e.g. ``Interval(0.97, 0.96, 0.98)``."""

    value: int | float
    low: int | float
    high: int | float
    unit: str | None = None
    """``level`` of how far up a ladder; None: a share, in [0, 1]."""


class GateResult(msgspec.Struct, frozen=True):
    """What a gate found: a p-value or an e-value against "the candidate is no better", and a sentence."""

    reason: str
    """For people, without the value, e.g. ``+2.13% on 750 items, 21 won, 5 lost, exact McNemar``."""
    p_value: float | None = None
    """In [0, 1]: where nothing is better, at most x with a chance of at most x."""
    e_value: float | None = None
    """0 or more: where nothing is better, its expectation is at most 1."""
    numbers: Mapping[str, Json] = msgspec.field(default_factory=dict)
    """What the sentence says, e.g. test, n (items), clusters, wins, losses, effect."""


class Verdict(Answer, frozen=True):
    """Promote or not, with the gate's value, the level that the accountant gave, and a sentence."""

    promote: bool
    reason: str
    """E.g. ``+2.13% on 750 items, 21 won, 5 lost, exact McNemar: p 0.0012 <= 0.05``."""
    level: float
    p_value: float | None = None
    e_value: float | None = None
    numbers: Mapping[str, Json] = msgspec.field(default_factory=dict)
    """Those of the gate's result."""


class Action(StrEnum):
    """What a guard asks for, the more serious the later."""

    PASS = "pass"  # nothing: what was looked at is recorded and shown
    WARN = "warn"  # recorded and shown
    ASK = "ask"  # a person's consent before a promotion
    REJECT = "reject"  # no promotion, and the run goes on
    HALT = "halt"  # no promotion, and the run stops


class Alarm(Answer, frozen=True):
    """What a guard found; wrong, unless its action is ``pass``."""

    action: Action
    reason: str
    """One sentence for people, e.g. ``guard fell from 91.0% to 84.5%``."""
    numbers: Mapping[str, float] = msgspec.field(default_factory=dict)
    """What it measured, e.g. ``{"entropy": 3.1}``; it is recorded, and shown to this guard in later turns."""


class Consent(Answer, frozen=True):
    """A person's answer to a review."""

    consent: bool
    by: str
    why: str


class Unit(Answer, frozen=True):
    """A piece of a stage's work: some rows of what it works on."""

    number: int
    start: int
    """The first row, e.g. 512."""
    stop: int
    """One beyond the last row."""
    task: Json = None
    """What is to be done where no rows say it, e.g. a trial's ``json()``."""


class UnitResult(msgspec.Struct, frozen=True):
    """What came of a unit."""

    number: int
    data: bytes | None
    """What the work returned; None: it failed."""
    error: Exception | None
    seconds: float
    """Wall time that it took."""


class Progress(Answer, frozen=True):
    """How far a stage is. ``total`` None: not known."""

    generation: int
    stage: str
    done: int
    total: int | None
    note: str = ""


class Step(Answer, frozen=True):
    """A step of a fit, e.g. ``Step(3, "train", 120, 1120)``."""

    generation: int
    stage: str
    """``train``, or ``tune`` for a trial."""
    step: int
    """Optimiser steps of this fit so far: each fit begins anew at 0."""
    total: int
    """``step`` and the steps of the fits of all earlier generations: it increases over the whole run."""
    trial: int | None = None
    """Number of the trial, in the stage ``tune``."""
