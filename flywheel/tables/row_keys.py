"""Keys of rows, 128 bits each, and sets of them: how rows that were seen before are found among millions.

Rows with equal values have equal keys. Others do not: by chance two of a billion different rows have with a
probability below 1e-20. Bytes are mixed as in MurmurHash3 (Appleby 2011), eight of all rows at a time, since
a cryptographic hash row by row would cost more than all other work on a row. So rows can be constructed that
clash; then one of them is taken for a copy of the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from flywheel.tables.digests import column_texts

DUPLICATE = "duplicate"
"""The reason of the decision on a row that is like one kept before."""
_C1, _C2 = np.uint64(0x87C37B91114253D5), np.uint64(0x4CF5AD432745937F)
_MIX1, _MIX2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_NO_VALUE = np.uint64(2**64 - 1)
"""In place of a length, where a value is null."""


def row_keys(table: pa.Table) -> np.ndarray:
    """The key of each row, over all columns in their order; uint64, shape (2, rows). Null is a value."""
    one, two = (np.full(len(table), seed, np.uint64) for seed in (1, 2))
    for column in table.columns:
        one, two = _mixed(_texts(column), one, two)
    return np.stack([_final(one), _final(two)])


def repeated(rows: pa.Table, columns: Sequence[str], among: np.ndarray, known: KeySet) -> np.ndarray:
    """Which rows of ``among``, a mask, have in these columns the values of one before or one that is known.

    The others of them are known from now on, but for those without a value in any of the columns.
    """
    own = [rows[name] for name in columns if name in rows.column_names]
    has_value = np.zeros(len(rows), bool)
    for column in own:
        has_value |= column.is_valid().to_numpy()
    compared = np.flatnonzero(among & has_value)
    absent = pa.nulls(len(compared), pa.string())
    values = {name: rows[name].take(compared) if name in rows.column_names else absent for name in columns}
    is_new = known.add_new(row_keys(pa.table(values)))
    again = np.zeros(len(rows), bool)
    again[compared[~is_new]] = True
    return again


def _texts(column: pa.ChunkedArray) -> pa.Array:
    """Values as texts or bytes; null stays null."""
    if not (types.is_string(column.type) or types.is_binary(column.type)):
        texts = column_texts(column)
        column = pc.if_else(column.is_valid(), texts, pa.scalar(None, pa.string()))
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], pa.string())


def _mixed(texts: pa.Array, one: np.ndarray, two: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both halves of the keys, with a column's bytes mixed in."""
    starts, lengths, words = _words(texts)
    marks = lengths.astype(np.uint64)
    if texts.null_count:
        is_null = texts.is_null().to_numpy(zero_copy_only=False)
        lengths, marks = np.where(is_null, 0, lengths), np.where(is_null, _NO_VALUE, marks)
    one, two = _step(one, two, marks)
    rows: np.ndarray | slice = slice(None)
    for offset in range(0, int(lengths.max(initial=0)), 8):
        if offset and offset % 64 == 0:  # few rows may be long: leave the others
            rows = np.flatnonzero(lengths > offset)
        left = lengths[rows] - offset
        here = words[np.minimum(starts[rows] + offset, len(words) - 1)]
        spare = (8 - np.clip(left, 1, 8)).astype(np.uint64) * np.uint64(8)
        here = (here << spare) >> spare  # bytes of the next row are cut off
        mixed = _step(one[rows], two[rows], here)
        is_inside = left > 0
        one[rows] = np.where(is_inside, mixed[0], one[rows])
        two[rows] = np.where(is_inside, mixed[1], two[rows])
    return one, two


def _words(texts: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each text begins, its length, and the eight bytes from each place on."""
    _, offsets, data = texts.buffers()
    if not len(texts):
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(1, np.uint64)
    ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    own = np.frombuffer(data or b"", np.uint8)[ends[0] : ends[-1]]
    padded = np.concatenate([own, np.zeros(8, np.uint8)])
    words = np.ndarray(len(padded) - 7, np.dtype("<u8"), padded.data, 0, (1,))
    return ends[:-1] - ends[0], np.diff(ends), words


def _step(one: np.ndarray, two: np.ndarray, word: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    one = (_rotated(one ^ (_rotated(word * _C1, 31) * _C2), 27) + two) * np.uint64(5) + np.uint64(0x52DCE729)
    two = (_rotated(two ^ (_rotated(word * _C2, 33) * _C1), 31) + one) * np.uint64(5) + np.uint64(0x38495AB5)
    return one, two


def _rotated(values: np.ndarray, bits: int) -> np.ndarray:
    rotated: np.ndarray = (values << np.uint64(bits)) | (values >> np.uint64(64 - bits))
    return rotated


def _final(values: np.ndarray) -> np.ndarray:
    for factor in (_MIX1, _MIX2):
        values = (values ^ (values >> np.uint64(33))) * factor
    mixed: np.ndarray = values ^ (values >> np.uint64(33))
    return mixed


class KeySet:
    """Keys in sorted runs, each longer than the next: there are few, and a key is merged few times.

    Runs that are given may be memory-mapped files; they are read where a key may lie, and not changed.
    """

    def __init__(self, given: Sequence[np.ndarray] = ()) -> None:
        """``given``: arrays of shape (2, keys), sorted by the first half, no key twice in all of them."""
        self._given, self._added = list(given), list[np.ndarray]()

    def add_new(self, keys: np.ndarray) -> np.ndarray:
        """Add those that are not in the set; a mask of them: of equal ones the first."""
        rows, ordered = _first_of_equal(keys)
        is_new = np.ones(len(rows), bool)
        for run in (*self._given, *self._added):
            is_new &= ~_is_in(run, ordered)
        if is_new.any():
            self._added.append(np.compress(is_new, ordered, axis=1))
        while len(self._added) > 1 and _is_merged(*self._added[-2:]):
            self._added[-2:] = [_merged(*self._added[-2:])]
        mask = np.zeros(keys.shape[1], bool)
        mask[rows[is_new]] = True
        return mask

    def settled(self) -> tuple[int, np.ndarray]:
        """How many of the given runs stay, and one run with all other keys in place of the rest."""
        stay, own = len(self._given), np.zeros((2, 0), np.uint64)
        for run in reversed(self._added):
            own = _merged(run, own)
        while stay and own.size and _is_merged(self._given[stay - 1], own):
            stay -= 1
            own = _merged(self._given[stay], own)
        return stay, own


def _is_merged(run: np.ndarray, newer: np.ndarray) -> bool:
    """Whether a run is no longer than the next one: so a key is merged log2(keys) times at most."""
    return bool(run.shape[1] <= newer.shape[1])


def _merged(run: np.ndarray, newer: np.ndarray) -> np.ndarray:
    """Two sorted runs as one. It costs little more than to copy them; each half stays contiguous."""
    keys = np.empty((2, run.shape[1] + newer.shape[1]), np.uint64)
    places = np.searchsorted(run[0], newer[0]) + np.arange(newer.shape[1])
    is_older = np.ones(keys.shape[1], bool)
    is_older[places] = False
    for half in (0, 1):
        keys[half, places] = newer[half]
        keys[half, is_older] = run[half]
    return keys


def _first_of_equal(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows whose keys come for the first time, and these keys, in the order of their first halves."""
    order = np.argsort(keys[0])
    ordered = np.take(keys, order, axis=1)
    alike, equal = (ordered[:count, 1:] == ordered[:count, :-1] for count in (1, 2))
    if (alike[0] & ~equal.all(0)).any():  # halves alike by chance
        order = np.lexsort((keys[1], keys[0]))
        ordered = np.take(keys, order, axis=1)
        equal = ordered[:, 1:] == ordered[:, :-1]
    starts = np.flatnonzero(np.concatenate([[True], ~equal.all(0)])) if len(order) else order
    rows = np.minimum.reduceat(order, starts) if len(order) else order
    return rows, np.take(ordered, starts, axis=1)


def _is_in(run: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """Which keys, in the order of their first halves, are in a sorted run."""
    where = np.searchsorted(run[0], ordered[0])
    inside = np.minimum(where, max(0, run.shape[1] - 1))
    if not run.size:
        return np.zeros(len(where), bool)
    is_like = run[0][inside] == ordered[0]
    is_in: np.ndarray = is_like & (run[1][inside] == ordered[1])
    for row in np.flatnonzero(is_like & ~is_in):  # halves alike by chance
        stop = np.searchsorted(run[0], ordered[0, row], "right")
        is_in[row] = ordered[1, row] in run[1, where[row] : stop]
    return is_in
