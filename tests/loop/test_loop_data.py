"""What a stage sees comes from the store in every session, and data that changed are noticed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

import flywheel
from flywheel.errors import ExitCode, IdentityError
from flywheel.storage.store import Store
from tests.support.harness import PROBE_CONF, artifacts, events
from tests.support.loop_runs import run_probe

TYPED = {"task._target_": "tests.support.typed_parts.Typed"}
KINDS = ("timestamp", "time", "date", "list", "category", "view", "records")


def typed(kind: str) -> dict[str, Any]:
    return {**TYPED, "+task.kind": kind}


def stage_of(run: flywheel.Run, stage: str, generation: int) -> dict[str, Any]:
    (event,) = [e for e in events(run.path) if (e.get("stage"), e.get("generation")) == (stage, generation)]
    return event


def unsealed(run: flywheel.Run) -> list[tuple[Any, ...]]:
    return [entry for entry in artifacts(run.path) if entry[1] != "sealed"]


@pytest.mark.parametrize("kind", KINDS)
def test_two_sessions_make_what_one_makes(folder: Path, kind: str) -> None:
    whole = run_probe(folder / "whole", **typed(kind), generations=1)
    assert whole.exit_code is ExitCode.FINISHED
    run_probe(folder / "parts", **typed(kind), generations=0)
    parts = run_probe(folder / "parts", **typed(kind), generations=1)
    assert unsealed(parts) == unsealed(whole)


def test_a_genesis_that_is_tried_again_has_each_human_row_once(folder, fault) -> None:
    whole = run_probe(folder / "whole", **typed("list"), generations=1)
    fault("train:nan")
    assert run_probe(folder / "again", **typed("list"), generations=1).exit_code is ExitCode.FAILED
    fault("")
    again = run_probe(folder / "again", **typed("list"), generations=1)
    assert [g["status"] for g in again.status().json()["generations"]][:2] == ["failed", "promoted"]
    for made, kept in ((whole, 0), (again, 0), (again, 1)):
        assert stage_of(made, "seed", kept)["outputs"] == stage_of(whole, "seed", 0)["outputs"]
    corpora = [stage_of(run, "curate", n)["outputs"]["corpus"] for run, n in ((whole, 0), (again, 1))]
    assert corpora[0] == corpora[1]
    store = Store(again.path)
    for generation in (1, 2):
        ids = store.table(stage_of(again, "curate", generation)["outputs"]["decisions"])["id"]
        assert pc.count_distinct(ids).as_py() == len(ids)
    rows = again.samples(1)
    human = set(rows.filter(pc.equal(rows["origin"], "human"))["id"].to_pylist())
    turn = store.table(stage_of(again, "curate", 2)["outputs"]["corpus"])["id"].to_pylist()
    assert len(human) == 6
    assert sorted(name for name in turn if name in human) == sorted(human)


def test_an_id_twice_among_the_sources_is_refused(folder, monkeypatch) -> None:
    run = run_probe(folder, **typed("list"), generations=0)
    human = stage_of(run, "seed", 0)["outputs"]["samples"]
    monkeypatch.setattr("flywheel.loop.sources_before", lambda *_: [[human, None], [human, None]])
    failed = run_probe(folder, **typed("list"), generations=1)
    assert failed.exit_code is ExitCode.FAILED
    assert "A corpus has each sample once; 6 ids occur again" in failed.status().json()["reason"]


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ("seed", "seed samples: column 'point' differs in 6 of 6 rows"),
        ("gate", "suite gate: column 'point' differs in 80 of 80 rows"),
        ("prompts", "prompts of generation 1: other floats in column 'point'"),
    ],
)
def test_floats_that_changed_are_refused(folder, monkeypatch, table: str, named: str) -> None:
    before = run_probe(folder, **typed("list"), generations=1)
    lines = len(events(before.path))
    monkeypatch.setenv("TYPED_SHIFT", f"{table}:0.01")
    with pytest.raises(IdentityError, match=named):
        run_probe(folder, **typed("list"), generations=2)
    assert len(events(before.path)) == lines


@pytest.mark.parametrize("table", ["seed", "gate", "prompts"])
def test_last_bits_of_floats_may_differ(folder, monkeypatch, table: str) -> None:
    """As they do between CPU types: the run goes on with what it has recorded."""
    run_probe(folder / "parts", **typed("list"), generations=1)
    monkeypatch.setenv("TYPED_SHIFT", f"{table}:3e-7")
    parts = run_probe(folder / "parts", **typed("list"), generations=2)
    assert parts.exit_code is ExitCode.FINISHED
    if table != "prompts":
        monkeypatch.delenv("TYPED_SHIFT")
        assert unsealed(parts) == unsealed(run_probe(folder / "whole", **typed("list"), generations=2))


def test_reproduce_notices_floats_that_changed(folder, monkeypatch) -> None:
    run = run_probe(folder, **typed("list"), generations=0)
    monkeypatch.setenv("TYPED_SHIFT", "seed:0.01")
    with pytest.raises(IdentityError, match="seed samples: column 'point' differs in 6 of 6 rows"):
        flywheel.open_run(run.path, PROBE_CONF, trusted={"tests.support.typed_parts.Typed"}).reproduce(0)
