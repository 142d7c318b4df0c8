"""Asking a run while its own writer prunes it.

A reader replays the ledger, and then reads objects. In between the writer may have dropped some, so that
the reader looks for what it should no longer look for. The ledger says so by then: an object is deleted
only after the line that names it, so that reading both again gives an answer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from flywheel.errors import PrunedError

P = ParamSpec("P")
T = TypeVar("T")
_ATTEMPTS = 20
_PRUNED = b'"event":"pruned"'


def reread_when_pruned(question: Callable[P, T]) -> Callable[P, T]:
    """Ask again what raised PrunedError, as often as the ledger got a new pruning meanwhile.

    ``question`` reads the state of the runs that it is about itself: their directories are its positional
    arguments that are paths.
    """

    @functools.wraps(question)
    def asked(*args: P.args, **kwargs: P.kwargs) -> T:
        ledgers = [word / "ledger.jsonl" for word in args if isinstance(word, Path)]
        for _ in range(_ATTEMPTS):
            before = [ledger.stat().st_size if ledger.exists() else 0 for ledger in ledgers]
            try:
                return question(*args, **kwargs)
            except PrunedError:
                if not any(map(_was_pruned_since, ledgers, before)):
                    raise
        return question(*args, **kwargs)

    return asked


def _was_pruned_since(ledger: Path, size: int) -> bool:
    if not ledger.exists():
        return False
    with open(ledger, "rb") as file:
        file.seek(size)
        return any(_PRUNED in line for line in file)
