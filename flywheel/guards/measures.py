"""What guards measure of generated rows, and how sure it is that a measure has fallen or risen.

Every measure is a mean over blocks of rows, or over groups, that are about independent. Blocks have one size,
since distinct n-grams and entropy depend on how many rows they are of; so batches of any sizes compare.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flywheel.errors import DataError
from flywheel.metrics.beta import student_quantile
from flywheel.protocols import GuardView


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its standard error."""

    mean: float
    error: float
    n: int
    """Blocks or groups that it is of; below 2 it says nothing."""

    @classmethod
    def of(cls, values: np.ndarray) -> Estimate:
        """Of independent values; of none it is 0 of n = 0."""
        n = len(values)
        error = float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else 0.0
        return cls(float(np.mean(values)) if n else 0.0, error, n)

    @classmethod
    def pooled(cls, estimates: Sequence[Estimate]) -> Estimate:
        """The mean of several estimates."""
        count = len(estimates)
        error = math.sqrt(sum(one.error**2 for one in estimates)) / count
        return cls(sum(one.mean for one in estimates) / count, error, sum(one.n for one in estimates))

    def numbers(self, name: str) -> dict[str, float]:
        """As plain numbers, for the record."""
        return {name: self.mean, f"{name}.error": self.error, f"{name}.n": self.n}

    @classmethod
    def recorded(cls, numbers: Mapping[str, float], name: str) -> Estimate | None:
        """From ``numbers``; None: it was not measured."""
        if name not in numbers:
            return None
        return cls(numbers[name], numbers[f"{name}.error"], int(numbers[f"{name}.n"]))


def is_below(now: Estimate, before: Estimate, factor: float, level: float) -> bool:
    """Whether ``now`` is shown to be below ``factor`` x ``before``: Welch's one-sided t test (1947)."""
    variances = (now.error**2, (factor * before.error) ** 2)
    if min(now.n, before.n) < 2:
        return False
    total = sum(variances)
    spread = variances[0] ** 2 / (now.n - 1) + variances[1] ** 2 / (before.n - 1)
    freedom = total**2 / spread if spread else 1.0
    apart = factor * before.mean - now.mean
    return apart > 1e-12 and apart >= student_quantile(level, freedom) * math.sqrt(total)


def is_below_floor(now: Estimate, floor: float, level: float) -> bool:
    """Whether ``now`` is shown to be below a number."""
    return now.n > 1 and floor - now.mean > student_quantile(level, now.n - 1) * now.error


def first_turns(
    view: GuardView, name: str, measure: Callable[[pa.Table], Estimate], turns: int
) -> dict[int, Estimate]:
    """A measure in the first turns before this one, by number, at most so many: recorded, else taken now."""
    estimates: dict[int, Estimate] = {}
    for number in sorted({*view.measured, *view.batches}):
        if number >= view.generation.number or len(estimates) == turns:
            break
        known = Estimate.recorded(view.measured.get(number, {}), name)
        if known is None and number in view.batches:
            known = measure(view.batches[number])
        if known is not None and known.n > 1:
            estimates[number] = known
    return estimates


def turns_in_words(numbers: Iterable[int]) -> str:
    """E.g. ``generations 1 and 2``."""
    texts = [str(number) for number in numbers]
    return f"generation{'s' * (len(texts) > 1)} {' and '.join(texts)}"


def sampled(rows: pa.Table, most: int) -> pa.Table:
    """At most so many rows in the order of their ids: these are hashes, so it is a random sample."""
    return rows.take(pc.sort_indices(rows["id"])).slice(0, most)


def column(rows: pa.Table, name: str, what: str) -> pa.ChunkedArray:
    """A column. Raises DataError if there is none."""
    if name not in rows.column_names:
        raise DataError(
            f"{what} must be a column of samples or of their grader; {name!r} is none. There are: "
            f"{', '.join(rows.column_names)}."
        )
    return rows[name]


def check_tokens(by: str) -> None:
    """Raise ValueError unless texts can be split so; see ``tokens_of``."""
    if by not in ("words", "characters"):
        raise ValueError(f"tokens must be words or characters; it is {by!r}.")


def tokens_of(values: pa.ChunkedArray, by: str) -> list[list[Any]]:
    """The tokens of texts, by ``words`` or ``characters``, or of lists, their elements; of null none."""
    split: Callable[[Any], list[Any]] = list
    if by == "words" and (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        split = str.split
    return [[] if value is None else split(value) for value in values.to_pylist()]


def distinct_ngrams(rows: Sequence[Sequence[Any]], n: int, block: int) -> Estimate:
    """Distinct n-grams over all n-grams (distinct-n, Li et al. 2016), the mean over blocks of rows.

    A block without n-grams has 0.
    """
    shares = []
    for start in range(0, len(rows) - block + 1, block):
        grams = [
            tuple(row[k : k + n]) for row in rows[start : start + block] for k in range(len(row) - n + 1)
        ]
        shares.append(len(set(grams)) / len(grams) if grams else 0.0)
    return Estimate.of(np.array(shares))


def label_entropy(labels: Sequence[Any], block: int) -> Estimate:
    """Entropy of labels in bits, the mean over blocks of rows."""
    entropies = []
    for start in range(0, len(labels) - block + 1, block):
        shares = np.array(list(Counter(map(repr, labels[start : start + block])).values())) / block
        entropies.append(float(-(shares * np.log2(shares)).sum()) + 0.0)
    return Estimate.of(np.array(entropies))


def pass_at(groups: Sequence[Any], right: np.ndarray, k: int) -> Estimate:
    """Chance that one of k answers of a group is right, the mean over groups of k rows and more.

    Of n answers with c right ones the unbiased 1 - C(n - c, k) / C(n, k) (Chen et al. 2021).
    """
    _, codes = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    sizes, rights = np.bincount(codes), np.bincount(codes, right)
    chances = [
        1 - math.comb(n - c, k) / math.comb(n, k)
        for n, c in zip(sizes.tolist(), rights.astype(int).tolist(), strict=True)
        if n >= k
    ]
    return Estimate.of(np.array(chances))


def rank_correlation(one: np.ndarray, other: np.ndarray, tail: float) -> tuple[float, float, float]:
    """Spearman's correlation of two columns, and its bounds, each missed with a chance of ``tail``.

    By Fisher's transformation with the variance of Bonett and Wright (2000). Without variation, or of fewer
    than 10 rows, it is 0, and nothing is known of it.
    """
    if len(one) < 10 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0, -1.0, 1.0
    value = float(np.corrcoef(_ranks(one), _ranks(other))[0, 1])
    value = min(max(value, -1 + 1e-12), 1 - 1e-12)
    error = math.sqrt((1 + value**2 / 2) / (len(one) - 3))
    half = student_quantile(tail, 1e6) * error
    return value, math.tanh(math.atanh(value) - half), math.tanh(math.atanh(value) + half)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks, of equal values their mean."""
    _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: np.ndarray = (ends - (counts - 1) / 2)[codes]
    return ranks
