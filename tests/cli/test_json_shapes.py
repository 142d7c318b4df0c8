"""What each subcommand prints with ``--json``: the paths of keys, and types, as in ``json_shapes.txt``.

A shape that is changed on purpose is written anew, to be read in the diff:
``WRITE_JSON_SHAPES=1 scripts/test tests/cli/test_json_shapes.py``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flywheel.cli.commands import NAMES
from tests.support.harness import MOONS, MOONS_CONF

SHAPES = Path(__file__).with_name("json_shapes.txt")
ITEMS = '{"point": [0.1, 0.2], "label": 1}\n' * 2
OPEN = {"by_kind", "checkouts", "code", "commit", "config", "distributions", "modules", "versions"}
"""Keys of values whose shape the recipe or the machine decides."""
TYPES = {
    dict: "{}",
    list: "[]",
    str: "text",
    int: "number",
    float: "number",
    bool: "bool",
    type(None): "null",
}
HAVE_CONF = ("--config-dir", MOONS_CONF)
WORDS = {
    "status": ("run",),
    "lineage": ("run",),
    "samples": ("run", "1"),
    "evaluate": ("run", "--items", "items.jsonl", *HAVE_CONF),
    "show": ("run", "1"),
    "diff": ("run", "0", "1"),
    "query": ("run", "SELECT generation, status FROM generations"),
    "audit": ("run",),
    "trace": ("run", "--item", "gate/gate-1"),
    "recall": ("run", "--generation", "1", "--why", "a test"),
    "fork": ("run@1", "name=fork", "generations=0", "seal=reopen", *HAVE_CONF),
    "review": ("asked",),
    "reproduce": ("run", "1", *HAVE_CONF),
    "bundle": ("run", "1", "--out", "out"),
    "verify-bundle": ("out",),
    "power": ("run",),
    "controls": (
        *(*HAVE_CONF, "recipe=moons", "settings.steps=2", "generations=1", "threads=1"),
        *("--seeds", "1", "--arms", "no-grading"),
    ),
    "tune-space": ("mnist", "tune.space.lr.when={width: 32}"),
    "du": ("run",),
    "tournament": ("run", "--generations", "0,1", *HAVE_CONF),
    "prune": ("run", "--last", "0"),
    "sync": ("run", "--offline"),
    "verify": ("run",),
    "rollback": ("run", "0", "--why", "a test"),
    "recipes": HAVE_CONF,
    "doctor": (),
}
"""In this order: ``fork`` and ``rollback`` add to what is there."""


def test_what_is_printed_as_json_has_the_recorded_shape(cli, finished, folder):
    (folder / "items.jsonl").write_text(ITEMS)
    assert cli(*MOONS, "log=quiet", "generations=1", "name=asked", "review=person").code == 4
    lines = [line for name, words in WORDS.items() for line in shape(name, cli(name, *words, "--json"))]
    if "WRITE_JSON_SHAPES" in os.environ:
        SHAPES.write_text("\n".join(lines) + "\n")
    assert lines == SHAPES.read_text().splitlines()


def test_each_subcommand_with_json_has_a_shape(cli):
    assert sorted(name for name in NAMES if "--json" in cli(name, "--help").out) == sorted(WORDS)


def shape(name: str, done: Any) -> list[str]:
    """Lines such as ``status champion.generation: number``; of JSON lines all have the paths of one list."""
    try:
        value = json.loads(done.out)
    except ValueError:
        value = [json.loads(line) for line in done.out.splitlines()]
    types: dict[str, set[str]] = {}
    for path, kind in leaves(value, ""):
        types.setdefault(path, set()).add(kind)
    assert types, done.err
    return [f"{name} {path}: {' or '.join(sorted(kinds))}" for path, kinds in sorted(types.items())]


def leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            below = f"{path}.{re.sub('[0-9a-f]{64}', 'HASH', key)}".lstrip(".")
            yield from [(below, "any")] if key in OPEN else leaves(inner, below)
    elif isinstance(value, list) and value:
        for inner in value:
            yield from leaves(inner, f"{path}[]")
    else:
        yield path, TYPES[type(value)]
