"""A ladder of levels: keep what the model is sure of, one step above what it knew, and revisit the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flywheel.errors import DataError
from flywheel.records import RIGHT, Carry

if TYPE_CHECKING:
    import pyarrow as pa

    from flywheel.keys import Key


@dataclass(kw_only=True)
class Curriculum:
    """Levels of difficulty taken in order, each once enough of its lessons pass the grader.

    A lesson is the best-scored row of its group (the first among equals) if its score reaches the
    threshold. A level above the frontier is taken if the share of its groups with a lesson, the pass
    rate, is at least ``accept``; more than ``max_levels_below_sure_rate`` levels in one generation only at
    ``sure_pass_rate``. The first level that is not taken ends the climb, and the frontier is carried on.

    Lessons that an audit found wrong are dropped, and the first level whose new lessons it found right in
    less than ``least_precision`` of cases ends the climb, too. If it was taken before, and was asked once
    more, the frontier steps back below it. With ``renew`` the lessons of a level are those of the newest
    generation that made as many as a batch has rows: a model that is better by now takes back what it taught.

    The corpus is drawn in batches of one level: some from the newest levels, some from the last few,
    the rest from all, human ones included. Lessons that were not drawn stay available (count 0).
    As in self-improving transformers (Lee et al. 2025, arXiv 2502.01612), with a vote as the filter.
    """

    level: str
    """Payload column of integers: how difficult a row is."""
    batches: int
    """Batches to draw for one fit."""
    batch_size: int
    """Rows of a batch, all of one level, at most."""
    level_sum: int | None = None
    """Sum of the levels of a batch, about: batches of higher levels have fewer rows; null: they do not."""
    score: str = "vote"
    """The grader's column to go by."""
    threshold: float = 0.5
    """Lowest score of a lesson."""
    accept: float = 0.15
    """Lowest pass rate of a level that is taken."""
    max_levels_below_sure_rate: int = 2
    """Levels that may be taken in one generation without being ``sure_pass_rate``."""
    sure_pass_rate: float = 0.97
    """Lowest pass rate of the levels after those."""
    newest: float = 0.5
    """Share of batches from the newest levels."""
    recent: float = 0.3
    """Share of batches from the last ``window`` levels."""
    window: int = 6
    least_precision: float = 0.9
    """Lowest share of right ones among the new lessons of a level that were audited, if any were."""
    renew: bool = True
    """Whether newer lessons of a level replace older ones."""

    def __post_init__(self) -> None:
        if self.batches < 1 or self.batch_size < 1 or self.window < 1:
            raise ValueError("batches, batch_size and window must be 1 or more.")
        if not 0 <= self.least_precision <= 1:
            raise ValueError(f"least_precision must be between 0 and 1; it is {self.least_precision}.")
        if self.newest < 0 or self.recent < 0 or self.newest + self.recent > 1:
            raise ValueError(
                "newest and recent must be shares of at most 1 together; "
                f"they are {self.newest} and {self.recent}."
            )

    def curate(self, samples: pa.Table, carry: Carry, key: Key) -> tuple[dict[str, Any], Carry]:
        """Decisions row for row; the carry has the ``frontier`` and the ``oldest_new`` level below it."""
        human = np.equal(samples["origin"].to_numpy(), "human")
        levels, made_in = samples[self.level].to_numpy(), samples["made_in"].to_numpy()
        first, lesson = self._lessons(samples, human, made_in)
        fresh, audited = ~human & (made_in == made_in.max()), _audited(samples)
        taught = int(levels[human].max(initial=0))
        frontier = carry.get("frontier", taught)
        reached = self._climb(frontier, levels[fresh & first], levels[fresh & lesson])
        reached = self._backed(reached, levels[fresh & lesson], audited[fresh & lesson])
        reached = max(reached, taught)
        oldest_new = frontier + 1 if reached > frontier else min(carry.get("oldest_new", 1), reached)
        right = lesson & ~(audited < RIGHT) & (levels <= reached)
        kept = human | (right & ~self._replaced(right, levels, made_in))
        reason = np.select(
            [human, kept, right, lesson & (levels <= reached), lesson, first],
            [
                *("human", "lesson", "replaced by newer lessons", "wrong by the audit"),
                *(f"above level {reached}", f"{self.score} below {self.threshold:g}"),
            ],
            "not its group's best",
        )
        count = self._draw(levels, kept, oldest_new, reached, key.numpy())
        decisions = {"id": samples["id"], "keep": kept, "reason": reason, "count": count}
        carry = {"frontier": reached, "oldest_new": oldest_new}
        return decisions | {"weight": np.ones(len(kept))}, carry

    def _lessons(
        self, samples: pa.Table, human: np.ndarray, made_in: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Masks of the rows that speak for their groups, and of those among them that pass."""
        from flywheel.tables import best_of_groups  # heavy: a configuration is checked without

        if human.all():
            none = np.zeros(len(samples), bool)
            return none, none
        if self.score not in samples.column_names:
            raise DataError(f"score must be a column of the grader; {self.score!r} is none.")
        scores = np.where(human, -np.inf, samples[self.score].to_numpy())
        groups = samples["group"].combine_chunks().dictionary_encode().indices.to_numpy()
        first = best_of_groups(scores, groups, made_in) & ~human
        return first, first & (scores >= self.threshold)

    def _climb(self, frontier: int, asked: np.ndarray, passed: np.ndarray) -> int:
        """The highest level taken, given the levels of the fresh groups and of their lessons."""
        reached = frontier
        while (total := int((asked == reached + 1).sum())) > 0:
            rate = int((passed == reached + 1).sum()) / total
            if rate < (
                self.accept if reached - frontier < self.max_levels_below_sure_rate else self.sure_pass_rate
            ):
                break
            reached += 1
        return reached

    def _backed(self, reached: int, levels: np.ndarray, audited: np.ndarray) -> int:
        """Below the first level of the new lessons that the audit finds too often wrong."""
        for level in np.unique(levels[~np.isnan(audited)]):
            own = audited[(levels == level) & ~np.isnan(audited)]
            if level <= reached and (own >= RIGHT).mean() < self.least_precision:
                return int(level) - 1
        return reached

    def _replaced(self, lesson: np.ndarray, levels: np.ndarray, made_in: np.ndarray) -> np.ndarray:
        """Lessons of levels that a later generation has made enough of."""
        replaced = np.zeros(len(lesson), bool)
        if not self.renew:
            return replaced
        for level in np.unique(levels[lesson]):
            own = np.flatnonzero(lesson & (levels == level))
            generations, counts = np.unique(made_in[own], return_counts=True)
            enough = generations[counts >= rows_of(int(level), self.batch_size, self.level_sum)]
            replaced[own] = made_in[own] < enough.max(initial=0)
        return replaced

    def _draw(
        self, levels: np.ndarray, kept: np.ndarray, oldest_new: int, reached: int, rng: np.random.Generator
    ) -> np.ndarray:
        by_level = {int(level): np.flatnonzero(kept & (levels == level)) for level in np.unique(levels[kept])}
        bands = [
            [level for level in by_level if level >= start]
            for start in (oldest_new, reached - self.window + 1, 0)
        ]
        newest, recent = round(self.newest * self.batches), round(self.recent * self.batches)
        sizes = (newest, recent, self.batches - newest - recent)
        count = np.zeros(len(levels), int)
        for band, batches in zip(bands, sizes, strict=True):
            for level in rng.choice(band, batches):
                rows, size = by_level[int(level)], rows_of(int(level), self.batch_size, self.level_sum)
                np.add.at(count, rng.choice(rows, size, len(rows) < size), 1)
        return count


def _audited(samples: pa.Table) -> np.ndarray:
    """Of each row what an audit found, in [0, 1]; NaN: it was not audited."""
    if "audited" not in samples.column_names:
        return np.full(len(samples), np.nan)
    found: np.ndarray = samples["audited"].to_numpy().astype(float)
    return found


def rows_of(level: int, batch_size: int, level_sum: int | None) -> int:
    """Rows of a batch of a level; at least a quarter of the batch size."""
    if level_sum is None:
        return batch_size
    return max(-(-batch_size // 4), min(batch_size, level_sum // max(1, level)))
