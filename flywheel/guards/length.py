"""The guard of a reward that is gamed by length: rows score by how long they are, and nothing is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flywheel.guards.measures import (
    Estimate,
    check_tokens,
    column,
    first_turns,
    is_below,
    rank_correlation,
    sampled,
    tokens_of,
    turns_in_words,
)
from flywheel.guards.pairs import action_of, check_ranges, p_above, pairs_with, suites_of
from flywheel.protocols import GuardView
from flywheel.records import Action, Alarm, Role

if TYPE_CHECKING:
    import pyarrow as pa

_LEAST_AUDITED = 30


@dataclass(kw_only=True)
class Length:
    """Of the rows that this turn generated: does their score go by their length, and the truth does not?

    The rank correlation (Spearman) of score and length is shown to be beyond ``correlation``, and either

    * that of the column ``truth`` with length, where at least 30 rows have it, is shown to be less than
      ``correlation``; or, without those,
    * rows have become longer (or shorter, where short rows score higher) than in the first turns, by more
      than ``growth``, and the candidate is not shown to be better on dev than the first champion: without a
      dev suite nothing shows it.
    """

    text: str
    """Column of texts or lists."""
    score: str
    """The grader's column."""
    truth: str = "audited"
    """A column that is trusted more, null where it is not known, as an audit makes one."""
    tokens: str = "characters"
    """Of texts: what length counts, ``words`` or ``characters``."""
    correlation: float = 0.3
    """In [0, 1)."""
    growth: float = 0.2
    """Share by which rows may become longer, or shorter."""
    first: int = 2
    """How many of the first turns, 1 to 4, this one is compared with."""
    level: float = 0.01
    """Of each test."""
    rows: int = 5000
    """At most so many rows are looked at, drawn at random."""
    action: str = "warn"
    """What is asked for: ``warn``, ``ask``, ``reject`` or ``halt``."""

    def __post_init__(self) -> None:
        check_ranges(self, correlation=(0, 0.999), growth=(0, 100), first=(1, 4), level=(1e-9, 0.5))
        check_ranges(self, rows=(10, 10**7))
        check_tokens(self.tokens)
        action_of(self.action)

    def check(self, view: GuardView) -> Alarm | None:
        """What was measured, and whether the reward is gamed; None: nothing was generated."""
        if view.generation.number not in view.batches:
            return None
        batch = sampled(view.batches[view.generation.number], self.rows)
        lengths, scores = self._lengths(batch), _numbers(column(batch, self.score, "score"))
        known = np.isfinite(scores)
        value, low, high = rank_correlation(lengths[known], scores[known], self.level)
        now = Estimate.of(lengths)
        said = f"{self.score} goes with the length of {self.text} by {value:+.2f}, mean length {now.mean:.4g}"
        numbers = now.numbers("length") | {"correlation": value}
        sign = 1 if value > 0 else -1
        why = None
        if min(low * sign, high * sign) > self.correlation:
            why = self._why(view, batch, lengths, sign)
        if why is None:
            return Alarm(Action.PASS, said, numbers)
        return Alarm(action_of(self.action), f"the reward is gamed by length: {said}; {why}", numbers)

    def _why(self, view: GuardView, batch: pa.Table, lengths: np.ndarray, sign: int) -> str | None:
        """Why the score is not to be believed; None: it may be right."""
        truth = _numbers(batch[self.truth]) if self.truth in batch.column_names else np.array([])
        known = np.isfinite(truth)
        if known.sum() >= _LEAST_AUDITED:
            value, low, high = rank_correlation(lengths[known], truth[known], self.level)
            is_less = max(low * sign, high * sign) < self.correlation
            return f"{self.truth} by {value:+.2f} on {known.sum()} rows" if is_less else None
        before = first_turns(view, "length", self._length, self.first)
        if not before:
            return None
        now, reference = Estimate.of(lengths), Estimate.pooled(list(before.values()))
        if sign > 0:
            has_moved = is_below(reference, now, 1 / (1 + self.growth), self.level)
        else:
            has_moved = is_below(now, reference, 1 / (1 + self.growth), self.level)
        doubt = self._not_better(view) if has_moved else None
        return doubt and f"it was {reference.mean:.4g} in {turns_in_words(before)}, and {doubt}"

    def _not_better(self, view: GuardView) -> str | None:
        """That the candidate is not shown to be better than the first champion; None: it is."""
        first = view.first_champion
        if first is None or first.number not in view.outcomes:
            return "there is no first champion to show that dev is better"
        pairs = pairs_with(view, view.outcomes[first.number], suites_of(view, Role.DEV))
        if not len(pairs):
            return "there are no items of dev that could show it to be better"
        gains = pairs.candidate - pairs.other
        if p_above(gains, pairs.clusters, -1.0) <= self.level:
            return None
        return (
            f"dev is not shown to be better than in generation {first.number}: "
            f"{float(gains.mean()):+.2%} on {len(pairs)} items"
        )

    def _length(self, rows: pa.Table) -> Estimate:
        return Estimate.of(self._lengths(sampled(rows, self.rows)))

    def _lengths(self, rows: pa.Table) -> np.ndarray:
        return np.array([len(row) for row in tokens_of(column(rows, self.text, "text"), self.tokens)], float)


def _numbers(values: pa.ChunkedArray) -> np.ndarray:
    """As floats, NaN where null."""
    numbers: np.ndarray = values.cast("float64").to_numpy()
    return numbers
