"""Prompts that a suite asks are left out of a turn, and every report says what was compared."""

from __future__ import annotations

import pytest

from flywheel.errors import DataError, ExitCode
from flywheel.export.bundle import bundle
from flywheel.keys import Key
from flywheel.records import Exhaustible
from tests.support.probe_parts import Task

WHOLE = {"columns": ["point"], "exhaustible": [], "shared": []}


def test_a_prompt_that_the_gate_asks_is_left_out_and_counted(after_genesis, fault, capsys):
    fault("prompts:one")
    run = after_genesis(generations=1, log="plain")
    asked = Task().prompts(1, {}, Key.root(0))["prompt"].to_pylist()
    assert asked[-1] not in run.samples(1)["prompt"].to_pylist()
    assert len(set(run.samples(1)["prompt"].to_pylist())) == len(asked) - 1
    assert run.show(1).json()["batch"]["left_out"] == 1
    assert "samples, 1 prompts that a suite asks left out" in capsys.readouterr().out


def test_a_turn_whose_prompts_are_all_asked_fails_with_the_reason(after_genesis, fault):
    fault("prompts:all")
    run = after_genesis(generations=1)
    assert run.exit_code is ExitCode.FAILED
    reason = run.status().json()["generations"][1]["reason"]
    assert reason.endswith("prompts are items of suites: none is left to answer")


def test_every_report_says_what_was_compared(probe, folder, capsys):
    run = probe(generations=1, log="plain")
    said = "held out by point: no item is a seed sample, or in a suite of another role"
    assert run.status().json()["held_out"] == run.show(0).json()["held_out"] == WHOLE
    assert said in capsys.readouterr().out
    assert f"Items: {said}." in (bundle(run.path, 0, folder / "bundle") / "README.md").read_text()


def test_where_nothing_can_be_compared_every_report_says_so(probe, folder, capsys, monkeypatch):
    monkeypatch.setattr(Task, "identity_columns", ())
    run = probe(generations=1, log="plain")
    said = "not checked whether suites ask what was taught: the task names no identity_columns"
    assert run.status().json()["held_out"]["columns"] == []
    assert run.show(1).json()["batch"]["left_out"] is None
    assert said in capsys.readouterr().out
    assert f"Items: {said}." in (bundle(run.path, 0, folder / "bundle") / "README.md").read_text()


def test_what_is_exempt_is_named_and_counted(probe, capsys, monkeypatch):
    few = (Exhaustible("label", (0, 1), "[all] points of a class are one problem"),)
    monkeypatch.setattr(Task, "exhaustible", few, raising=False)
    monkeypatch.setattr(Task, "identity_columns", ("label",))
    probe(generations=0, log="plain")
    assert "held out by label, except all 80 items of dev, all 80 items of gate" in (
        out := capsys.readouterr().out
    )
    assert "in the seed samples; all 80 items of gate, all 80 items of sealed in dev; " in out
    assert "in gate (label 0, 1: [all] points of a class are one problem)" in out


def test_an_overlap_is_refused_before_anything_is_written(probe, folder, monkeypatch):
    monkeypatch.setattr(Task, "identity_columns", ("label",))
    with pytest.raises(DataError, match="80 of its 80 items are in the seed samples too, by label"):
        probe(generations=0)
    assert not (folder / "runs").exists()
