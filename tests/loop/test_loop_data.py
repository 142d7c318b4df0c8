"""What a stage sees comes from the store in every session, and data that changed are noticed."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

import flywheel
from flywheel.errors import ExitCode, IdentityError
from flywheel.storage.store import Store
from tests.support.harness import PROBE_CONF, events
from tests.support.loop_runs import Probe, run_probe, statuses, unsealed

PART = "tests.support.typed_parts.Typed"
run_typed = functools.partial(run_probe, task___target_=PART)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> flywheel.Run:
    """A run of two turns, made in one session. To be read only."""
    return run_typed(tmp_path_factory.mktemp("whole"), generations=2)


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> flywheel.Run:
    """The same run after its first turn. To be read only."""
    return run_typed(tmp_path_factory.mktemp("turned"), generations=1)


@pytest.fixture
def typed(turned: flywheel.Run, folder: Path) -> Probe:
    """Goes on with a copy of that run."""
    shutil.copytree(turned.path.parents[1], folder / "runs")
    return functools.partial(run_typed, folder / "runs")


def outputs_of(run: flywheel.Run, stage: str, generation: int) -> dict[str, Any]:
    (event,) = [e for e in events(run.path) if (e.get("stage"), e.get("generation")) == (stage, generation)]
    return event["outputs"]


def test_two_sessions_make_what_one_makes(typed, whole) -> None:
    assert unsealed(typed(generations=2).path) == unsealed(whole.path)


def test_a_genesis_that_is_tried_again_has_each_human_row_once(folder, fault, whole) -> None:
    fault("train:nan")
    assert run_typed(folder, generations=1).exit_code is ExitCode.FAILED
    fault("")
    again = run_typed(folder, generations=1)
    assert statuses(again)[:2] == ["failed", "promoted"]
    for kept in (0, 1):
        assert outputs_of(again, "seed", kept) == outputs_of(whole, "seed", 0)
    corpora = [outputs_of(run, "curate", n)["corpus"] for run, n in ((whole, 0), (again, 1))]
    assert corpora[0] == corpora[1]
    store = Store(again.path)
    for generation in (1, 2):
        ids = store.table(outputs_of(again, "curate", generation)["decisions"])["id"]
        assert pc.count_distinct(ids).as_py() == len(ids)
    rows = again.samples(1)
    human = set(rows.filter(pc.equal(rows["origin"], "human"))["id"].to_pylist())
    turn = store.table(outputs_of(again, "curate", 2)["corpus"])["id"].to_pylist()
    assert len(human) == 6
    assert sorted(name for name in turn if name in human) == sorted(human)


def test_an_id_twice_among_the_sources_is_refused(typed, whole, monkeypatch) -> None:
    human = outputs_of(whole, "seed", 0)["samples"]
    monkeypatch.setattr(
        "flywheel.runtime.inputs.sources_before", lambda *_: [[human, None, None], [human, None, None]]
    )
    failed = typed(generations=2)
    assert failed.exit_code is ExitCode.FAILED
    assert "A corpus has each sample once; 6 ids occur again" in failed.status().reason


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ("seed", "seed samples: column 'point' differs in 6 of 6 rows"),
        ("gate", "suite gate: column 'point' differs in 80 of 80 rows"),
        ("prompts", "prompts of generation 1: other floats in column 'point'"),
    ],
)
def test_floats_that_changed_are_refused(turned, monkeypatch, table: str, named: str) -> None:
    before = events(turned.path)
    monkeypatch.setenv("TYPED_SHIFT", f"{table}:0.01")
    with pytest.raises(IdentityError, match=named):
        run_typed(turned.path.parents[1], generations=2)
    assert events(turned.path) == before
    if table == "seed":
        with pytest.raises(IdentityError, match=named):
            flywheel.open_run(turned.path, PROBE_CONF, trusted={PART}).reproduce(0)


@pytest.mark.parametrize("table", ["seed", "gate", "prompts"])
def test_last_bits_of_floats_may_differ(typed, whole, monkeypatch, table: str) -> None:
    """As they do between CPU types: the run goes on with what it has recorded."""
    monkeypatch.setenv("TYPED_SHIFT", f"{table}:3e-7")
    run = typed(generations=2)
    assert run.exit_code is ExitCode.FINISHED
    if table != "prompts":
        assert unsealed(run.path) == unsealed(whole.path)
