"""Random histories of runs: every answer of the code is that of a reference written from docs/format.md."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from tests.histories import reference
from tests.histories.history import SHARES, play_history

QUICK, BLOCK, MANY = 32, 8, 2000


@pytest.mark.parametrize("first", range(0, QUICK, BLOCK))
def test_the_code_answers_as_the_reference(first: int) -> None:
    happened = sum((play_history(seed) for seed in range(first, first + BLOCK)), Counter())
    assert happened["promoted"] > BLOCK, "or most histories ended before anything was to be answered"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_code_answers_as_the_reference_in_many_histories() -> None:
    histories: Counter[str] = Counter()
    for seed in range(MANY):
        histories.update({kind for kind, times in play_history(seed).items() if times})
    assert {kind: histories[kind] for kind, share in SHARES.items() if histories[kind] < share * MANY} == {}


def test_the_reference_imports_nothing_of_what_it_checks() -> None:
    tree = ast.parse(Path(reference.__file__).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {alias.name for node in imports for alias in node.names}
    names |= {node.module for node in imports if isinstance(node, ast.ImportFrom) and node.module}
    assert not [name for name in names if name.partition(".")[0] in ("flywheel", "answers", "world")]
