"""Sums as digits, least significant first, and as text; everything on whole arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flywheel.errors import DataError

PLUS, EQUALS, BLANK, TOKENS = 10, 11, 12, 13
KINDS = ("uniform", "uneven", "carry")
BLOCK = 28
"""Characters of a written sum side by side: as many as a column of a report has room for."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Problems ``a + b``; digits ``[problems, width]``, least significant first, BLANK above the highest."""

    a: np.ndarray
    b: np.ndarray

    def __len__(self) -> int:
        return len(self.a)

    @property
    def width(self) -> int:
        """Digits that the arrays have room for."""
        return int(self.a.shape[1])

    @property
    def length(self) -> np.ndarray:
        """Digits of the longer operand, ``[problems]``."""
        longer: np.ndarray = np.maximum((self.a != BLANK).sum(1), (self.b != BLANK).sum(1))
        return longer

    @property
    def above(self) -> np.ndarray:
        """Places ``[problems, width + 1]`` that no answer can reach: a sum has at most one digit more."""
        places: np.ndarray = np.arange(self.width + 1) > self.length[:, None]
        return places

    def answers(self) -> np.ndarray:
        """The true sums, ``[problems, width + 1]``, zeros above the highest digit."""
        a, b = np.where(self.a == BLANK, 0, self.a), np.where(self.b == BLANK, 0, self.b)
        total = np.zeros((len(a), self.width + 1), np.uint8)
        carry = np.zeros(len(a), np.uint8)
        for place in range(self.width):
            carry, total[:, place] = np.divmod(a[:, place] + b[:, place] + carry, 10)
        total[:, -1] = carry
        return total

    def take(self, rows: np.ndarray, width: int) -> Sums:
        """Some of the problems, with room for ``width`` digits."""
        return Sums(self.a[rows, :width], self.b[rows, :width])

    def prompt(self, *, swapped: bool) -> np.ndarray:
        """Tokens ``a + b =``, ``[problems, 2 width + 2]``; swapped reads b first."""
        first, second = (self.b, self.a) if swapped else (self.a, self.b)
        mark = np.ones((len(self), 1), np.uint8)
        return np.concatenate([first, PLUS * mark, second, EQUALS * mark], axis=1)

    def text(self) -> pa.Array:
        """The problems as people write them, ``"12+7"``."""
        return pc.binary_join_element_wise(number_text(self.a), number_text(self.b), "+")


def draw(kind: str, count: int, length: int, rng: np.random.Generator) -> Sums:
    """Random problems whose longer operand has ``length`` digits.

    uniform: both have them. uneven: the other has 1 to ``length``. carry: a carry ripples through all.
    No leading zeros, but for the numbers of one digit.
    """
    a, b = _numbers(count, length, rng), _numbers(count, length, rng)
    if kind == "uneven":
        b = _numbers(count, length, rng, rng.integers(1, length + 1, count))
        flip = rng.random((count, 1)) < 0.5
        a, b = np.where(flip, b, a), np.where(flip, a, b)
    elif kind == "carry":
        a[:, 0] = rng.integers(1, 10, count)
        b[:, 0] = rng.integers(10 - a[:, 0], 10)
        if length > 1:
            a[:, -1] = rng.integers(1, 9, count)  # so that neither has a leading zero
        b[:, 1:] = 9 - a[:, 1:]
    return Sums(a, b)


def draw_mix(mix: Mapping[str, float], count: int, length: int, rng: np.random.Generator) -> Sums:
    """Random problems of several kinds, as many of each as its share says."""
    sizes = np.diff(np.round(np.cumsum([0.0, *mix.values()]) * count)).astype(int)
    drawn = [draw(kind, size, length, rng) for kind, size in zip(mix, sizes, strict=True)]
    return Sums(np.concatenate([sums.a for sums in drawn]), np.concatenate([sums.b for sums in drawn]))


def read(texts: pa.ChunkedArray) -> Sums:
    """Problems from text. Raises DataError naming the first that is none."""
    good = pc.match_substring_regex(texts, r"^\d+\+\d+$")
    if not pc.all(pc.fill_null(good, False), min_count=0).as_py():
        bad = texts.filter(pc.invert(pc.fill_null(good, False)))[0].as_py()
        raise DataError(f"A sum must be digits, a plus and digits, as 12+7; one is {bad!r}.")
    operands = pc.split_pattern(texts, "+")
    a, b = (pc.list_element(operands, index) for index in (0, 1))
    width = max(pc.max(pc.binary_length(side)).as_py() or 1 for side in (a, b))
    return Sums(digits(a, width, BLANK), digits(b, width, BLANK))


def digits(numbers: pa.ChunkedArray, width: int, above: int) -> np.ndarray:
    """Numbers as digits ``[numbers, width]``, least significant first, ``above`` where there are none."""
    array = pa.concat_arrays([*numbers.chunks, pa.array([], pa.string())])
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, np.int32)[array.offset : array.offset + len(array) + 1]
    where = ends[1:, None] - 1 - np.arange(width)
    characters = np.frombuffer(data, np.uint8) if data else np.zeros(1, np.uint8)
    read_out = characters[np.maximum(where, 0)] - ord("0")
    result: np.ndarray = np.where(where >= ends[:-1, None], read_out, above).astype(np.uint8)
    return result


def number_text(numbers: np.ndarray) -> pa.Array:
    """Digits as text, without BLANKs and without leading zeros."""
    written = numbers[:, ::-1]
    used = np.maximum.accumulate((written != BLANK) & (written != 0), axis=1)
    used[:, -1] = True
    offsets = np.append(0, np.cumsum(used.sum(1))).astype(np.int32)
    data = (written[used] + ord("0")).astype(np.uint8)
    return pa.StringArray.from_buffers(len(numbers), pa.py_buffer(offsets), pa.py_buffer(data))


def _numbers(count: int, length: int, rng: np.random.Generator, used: np.ndarray | None = None) -> np.ndarray:
    """Numbers of ``used`` (default: ``length``) digits."""
    numbers = rng.integers(0, 10, (count, length), dtype=np.uint8)
    used = np.full(count, length) if used is None else used
    rows = np.arange(count)
    numbers[rows, used - 1] = np.where(used > 1, rng.integers(1, 10, count), numbers[rows, used - 1])
    numbers[np.arange(length) >= used[:, None]] = BLANK
    return numbers


def written(problem: str, answer: str) -> str:
    """A sum as people write it, e.g. of ``12+9`` and ``11``; long ones in blocks, from the highest digits on.

      12
    +  9
    ----
      11
       ^ wrong: it is 21
    """
    a, b = problem.split("+")
    right = str(int(a) + int(b))
    width = max(map(len, (a, b, right, answer)))
    wrong = "".join(
        " " if x == y else "^" for x, y in zip(answer.rjust(width), right.rjust(width), strict=True)
    )
    rows = [f"  {a:>{width}}", f"+ {b:>{width}}", "-" * (width + 2), f"  {answer:>{width}}"]
    rows += [f"  {wrong}"] if answer != right else []
    starts = range(0, width + 2, BLOCK)
    blocks = ["\n".join(row[start : start + BLOCK].rstrip() for row in rows) for start in starts]
    return "\n\n".join(blocks) + ("\nright" if answer == right else f"\nwrong: it is {right}")
