"""The guard of what a model generates: fewer different rows than in the first turns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from flywheel.errors import DataError
from flywheel.guards.measures import (
    Estimate,
    check_tokens,
    column,
    distinct_ngrams,
    first_turns,
    is_below,
    is_below_floor,
    label_entropy,
    pass_at,
    sampled,
    tokens_of,
    turns_in_words,
)
from flywheel.guards.pairs import action_of, check_ranges
from flywheel.protocols import GuardView
from flywheel.records import RIGHT, Action, Alarm

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(kw_only=True)
class Collapse:
    """Of the rows that this turn generated: how different they are, beside those of the first turns.

    Name at least one column. A measure has collapsed if it is shown to have fallen by more than ``fall``
    against the mean of the first turns, or to be below its floor. With k > 1 answers a prompt pass@k tells
    what pass@1 hides: a model that answers always the same gains the one and loses the other.

    A turn is measured when a guard looks; the first ones from their batches, while these are there. With a
    frontier it looks at what is looked at, not at the turns between.
    """

    text: str | None = None
    """Column of texts or lists: distinct n-grams over all n-grams (Li et al. 2016), measure ``distinct``."""
    label: str | None = None
    """Column of labels: their entropy in bits, measure ``entropy``."""
    right: str | None = None
    """The grader's column, of which .5 and more is right: ``pass_at_k`` and ``pass_at_1`` (Chen et al. 2021)
    of groups of at least ``k`` graded rows."""
    n: int = 2
    """Tokens of an n-gram."""
    tokens: str = "words"
    """Of texts: ``words`` or ``characters``; of lists tokens are the elements."""
    k: int = 4
    """Of pass@k."""
    fall: float = 0.2
    """Share, in (0, 1), by which a measure may fall."""
    floors: dict[str, float] = field(default_factory=dict)
    """Measure -> what it may not be below."""
    first: int = 2
    """How many of the first turns, 1 to 4, this one is compared with."""
    level: float = 0.01
    """Chance, each turn, of an alarm where nothing has fallen so far; all measures together."""
    block: int = 50
    """Rows whose n-grams or labels are counted together."""
    rows: int = 5000
    """At most so many rows are looked at, drawn at random."""
    action: str = "warn"
    """What is asked for: ``warn``, ``ask``, ``reject`` or ``halt``."""

    def __post_init__(self) -> None:
        check_ranges(self, fall=(1e-6, 0.999), level=(1e-9, 0.5), first=(1, 4), n=(1, 100), k=(1, 10**6))
        check_ranges(self, block=(2, 10**6), rows=(2 * self.block, 10**7))
        action_of(self.action)
        check_tokens(self.tokens)
        if not self._measures:
            raise ValueError("A column must be named: give text, label or right.")
        if unknown := [name for name in self.floors if name not in self._measures]:
            raise ValueError(
                f"floors must name measures that are taken, {', '.join(self._measures)}; {unknown[0]!r} is "
                "none."
            )

    def check(self, view: GuardView) -> Alarm | None:
        """What was measured, and what has collapsed; None: nothing was generated."""
        if view.generation.number not in view.batches:
            return None
        batch = view.batches[view.generation.number]
        numbers: dict[str, float] = {}
        fallen: list[str] = []
        texts: list[str] = []
        for name, measure in self._measures.items():
            now = measure(batch)
            numbers |= now.numbers(name)
            has_fallen, text = self._finding(name, now, first_turns(view, name, measure, self.first))
            (fallen if has_fallen else texts).append(text)
        if self.right:
            texts.append(f"pass@1 is {self._pass_at(1, batch).mean:.1%}")
        reason = "; ".join([*(f"collapsed: {text}" for text in fallen), *texts])
        return Alarm(action_of(self.action) if fallen else Action.PASS, reason, numbers)

    @property
    def _measures(self) -> dict[str, Callable[[pa.Table], Estimate]]:
        measures: dict[str, Callable[[pa.Table], Estimate]] = {}
        if self.text:
            measures["distinct"] = self._distinct
        if self.label:
            measures["entropy"] = self._entropy
        if self.right:
            measures["pass_at_k"] = partial(self._pass_at, self.k)
        return measures

    def _finding(self, name: str, now: Estimate, before: dict[int, Estimate]) -> tuple[bool, str]:
        """Whether a measure has collapsed, and a sentence on it."""
        level, title = self.level / len(self._measures), self._title(name)
        if now.n < 2:
            return False, f"{title} is not known: too few rows"
        if name in self.floors and is_below_floor(now, self.floors[name], level):
            return True, f"{title} is {now.mean:.3g}, below {self.floors[name]:g}"
        if not before:
            return False, f"{title} is {now.mean:.3g}"
        reference = Estimate.pooled(list(before.values()))
        turns = turns_in_words(before)
        if is_below(now, reference, 1 - self.fall, level):
            text = f"{title} fell from {reference.mean:.3g} in {turns} to {now.mean:.3g}"
            return True, f"{text}, more than {self.fall:.0%} (level {level:g})"
        return False, f"{title} is {now.mean:.3g}, {reference.mean:.3g} in {turns}"

    def _title(self, name: str) -> str:
        titles = {
            "distinct": f"share of distinct {self.n}-grams of {self.text}",
            "entropy": f"entropy of {self.label} in bits",
            "pass_at_k": f"pass@{self.k} by {self.right}",
        }
        return titles[name]

    def _distinct(self, batch: pa.Table) -> Estimate:
        values = column(sampled(batch, self.rows), str(self.text), "text")
        return distinct_ngrams(tokens_of(values, self.tokens), self.n, self.block)

    def _entropy(self, batch: pa.Table) -> Estimate:
        return label_entropy(
            column(sampled(batch, self.rows), str(self.label), "label").to_pylist(), self.block
        )

    def _pass_at(self, k: int, batch: pa.Table) -> Estimate:
        scores = column(batch, str(self.right), "right")
        known = batch.filter(np.isfinite(scores.to_numpy().astype(float)))
        right = known[str(self.right)].to_numpy() >= RIGHT
        estimate = pass_at(known["group"].to_pylist(), right, k)
        if not estimate.n and len(batch):
            raise DataError(
                f"pass@{k} must have groups of {k} graded rows at least; no group has them. Give a smaller k."
            )
        return estimate
