"""Audits in a run: what is drawn and graded, what curators see of it, and what is recorded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import flywheel
from flywheel.metrics.proportions import proportion, recall
from flywheel.storage.store import Store
from tests.support.harness import artifacts, events, kinds
from tests.support.loop_runs import run_moons, table_of

HERE = "tests.loop.test_loop_audits"


@dataclass
class Truth:
    """Knows the class of each unlabelled point: those with even numbers are of class 0."""

    unknown: int = 0
    """Of every so many rows one has no answer; 0: all have."""
    loads: bool = False

    def grade(self, samples: pa.Table, load_parent: Any, keys: Any) -> dict[str, Any]:
        if self.loads:
            load_parent()
        numbers = np.array([int(name.partition("-")[2]) for name in samples["prompt"].to_pylist()])
        right = np.equal(numbers % 2, samples["label"].to_numpy()).astype(float)
        is_unknown = numbers % self.unknown == 0 if self.unknown else np.zeros(len(right), bool)
        reasons = np.where(is_unknown, "not in the book", None)
        return {"right": pa.array(right, mask=is_unknown), "failure": pa.array(reasons, pa.string())}


@dataclass
class KeepsAll:
    """All rows but those that an audit found wrong; beside the carry what it saw."""

    carry_kept = "always"
    threshold: float = 0.6
    by: str = "label"
    fractions: tuple[float, ...] = (1.0,)

    def curate(self, samples: pa.Table, carry: Any, key: Any) -> Any:
        audited = samples["audited"].to_numpy() if "audited" in samples.column_names else None
        wrong = np.zeros(len(samples), bool) if audited is None else audited < 0.5
        turns = samples["made_in"].to_numpy()
        known = np.zeros(len(samples), bool) if audited is None else ~np.isnan(audited)
        seen = {str(turn): int(known[turns == turn].sum()) for turn in np.unique(turns).tolist()}
        reason = np.where(wrong, "wrong", "kept")
        ones = np.ones(len(samples))
        decisions = {"id": samples["id"], "keep": ~wrong, "reason": reason, "weight": ones}
        return decisions | {"count": ones.astype(int)}, {"seen": [*carry.get("seen", []), seen]}


AUDIT = {"+audit__grader___target_": f"{HERE}.Truth", "audit__size": 40}
SMALL = {"settings__steps": 8, "task__unlabelled": 120, "task__items": 60}


def audit_facts(run: flywheel.Run) -> dict[int, dict[str, Any]]:
    return {e["generation"]: e["facts"] for e in events(run.path) if e.get("stage") == "audit"}


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> flywheel.Run:
    runs = tmp_path_factory.mktemp("audits")
    by = {"audit__by": ["label"]}
    return run_moons(runs, name="audited", generations=2, **SMALL, **AUDIT, **by)


def test_some_of_what_would_be_kept_is_graded_by_the_trusted_grader(audited: flywheel.Run) -> None:
    stages = kinds(audited.path)
    assert [stages[stages.index("audit") + k] for k in (-1, 0, 1)] == ["tune", "audit", "curate"]
    batch, audits = (table_of(audited, 1, *place) for place in (("generate", "samples"), ("audit", "audits")))
    decisions = table_of(audited, 1, "curate", "decisions").to_pylist()
    kept = {row["id"] for row in decisions if row["keep"]} & set(batch["id"].to_pylist())
    rows = {row["id"]: row for row in batch.to_pylist()}
    said = audits.to_pylist()
    for row in said:
        sample = rows[row["id"]]
        assert row["trusted"] == float(int(sample["prompt"].partition("-")[2]) % 2 == sample["label"])
        assert row["kept"] == (row["id"] in kept)
    facts = audit_facts(audited)[1]
    assert sum(row["kept"] for row in said) == facts["kept"]["drawn"] == 40
    assert facts["kept"]["rows"] == len(kept)
    assert sum(not row["kept"] for row in said) == facts["dropped"]["drawn"] == 10
    right = sum(row["kept"] and row["trusted"] == 1 for row in said)
    expected = proportion(right, 40)
    assert facts["precision"] == {"value": expected.value, "low": expected.low, "high": expected.high}
    counts = [
        (facts[name]["rows"], facts[name]["graded"], facts[name]["right"]) for name in ("kept", "dropped")
    ]
    assert facts["recall"] == json.loads(json.dumps(recall(*counts).json()))
    assert set(facts["by"]["label"]) <= {"0", "1"}
    assert (facts["grader"], facts["column"], facts["score"]) == ("Truth", "right", "confidence")
    assert list(facts["gaps"]) == ["confidence"]


def test_a_curator_sees_what_was_audited_in_this_turn_and_in_earlier_ones(tmp_path: Path) -> None:
    own = {"curator___target_": f"{HERE}.KeepsAll"}
    run = run_moons(tmp_path, name="run", generations=2, **SMALL, **AUDIT, **own)
    carry = Store(run.path).json(run.generation(2).record.output("curate", "carry"))
    assert carry["seen"] == [{"0": 0}, {"0": 0, "1": 40}, {"0": 0, "1": 40, "2": 40}]
    reasons = table_of(run, 1, "curate", "decisions")["reason"].to_pylist()
    facts = audit_facts(run)[1]
    assert reasons.count("wrong") == 40 - facts["kept"]["right"], "the preview kept them"
    assert "audited" in run.generation(2).corpus().column_names


def test_without_a_trusted_grader_there_is_no_audit(tmp_path: Path) -> None:
    run = run_moons(tmp_path, name="run", generations=1, **SMALL)
    assert "audit" not in kinds(run.path)
    assert "audited" not in run.generation(1).corpus().column_names


def test_a_resumed_audit_is_the_same(audited: flywheel.Run, tmp_path: Path) -> None:
    again = run_moons(tmp_path, name="again", generations=2, **SMALL, **AUDIT, audit__by=["label"])
    assert artifacts(again.path) == artifacts(audited.path)
