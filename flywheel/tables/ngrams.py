"""N-grams of words that two tables of texts have in common: how copies in other words around them are found.

Overlap of 13-grams is how training data were cleaned of test items for GPT-3 (Brown et al. 2020, appendix C).
Of what is compared only hashes are kept.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

_WORD = re.compile(r"\w+")


def ngrams(text: str | None, n: int) -> set[int]:
    """Hashes of the n-grams of a text's words, without case and punctuation; of a shorter text the whole."""
    words = _WORD.findall(text.lower()) if text else []
    grams = (words[start : start + n] for start in range(max(1, len(words) - n + 1))) if words else ()
    return {_hash(" ".join(gram)) for gram in grams}


def ngrams_of(tables: Iterable[pa.Table], columns: Sequence[str], n: int) -> np.ndarray:
    """The different n-grams of the columns of some tables that they have; uint64, sorted."""
    found: set[int] = set()
    for table in tables:
        for name in columns:
            if name in table.column_names:
                for text in table[name].to_pylist():
                    found |= ngrams(text, n)
    return np.array(sorted(found), np.uint64)


def overlaps(
    rows: pa.Table, columns: Sequence[str], n: int, known: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Of each named set of n-grams which rows have one of it in one of their columns; bool, shape (rows,).

    The n-grams of a row are taken once, whatever the number of sets.
    """
    shared = {name: np.zeros(len(rows), bool) for name in known}
    sets = {name: set(grams.tolist()) for name, grams in known.items()}
    for column in columns:
        if column in rows.column_names and any(sets.values()):
            for row, text in enumerate(rows[column].to_pylist()):
                grams = ngrams(text, n)
                for name, among in sets.items():
                    shared[name][row] |= not among.isdisjoint(grams)
    return shared


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
