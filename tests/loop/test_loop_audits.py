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
from flywheel.cli.commands import run as subcommand
from flywheel.errors import ConfigError, ExitCode
from flywheel.lineage.graph import GradedBy
from flywheel.lineage.status import NO_AUDIT, audit_text, read_state
from flywheel.metrics.proportions import proportion, recall
from flywheel.storage.store import Store
from tests.support.harness import artifacts, events, kinds
from tests.support.loop_runs import run_moons, signal_at, table_of

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
SMALL = {"settings__steps": 8, "task__unlabelled": 120, "task__items": 60, "chunk_size": 16}


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
    run = run_moons(tmp_path, name="run", generations=2, refit=True, **SMALL, **AUDIT, **own)
    assert kinds(run.path).count("audit") == 2, "a refit makes none"
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


def test_an_audit_that_is_interrupted_goes_on_and_is_the_same(audited: flywheel.Run, tmp_path: Path) -> None:
    own: dict[str, Any] = {**SMALL, **AUDIT, "audit__by": ["label"], "name": "again", "generations": 2}
    cut = run_moons(tmp_path, **own, **signal_at(stage="audit", generation=1, within=True))
    assert cut.exit_code is ExitCode.STOPPED
    assert kinds(cut.path).count("audit") == 0
    assert list((cut.path / "work" / "audit").glob("*.arrow")), "finished units are kept"
    again = run_moons(tmp_path, **own)
    assert artifacts(again.path) == artifacts(audited.path)
    assert again.verify().first_bad is None


def test_rows_without_an_answer_are_null_with_the_reason_and_the_weights_of_the_grader_an_edge(
    tmp_path: Path,
) -> None:
    own = {"+audit__grader__unknown": 3, "+audit__grader__loads": True}
    run = run_moons(tmp_path, name="run", generations=1, **SMALL, **AUDIT, **own)
    facts = audit_facts(run)[1]
    audits = table_of(run, 1, "audit", "audits").to_pylist()
    failed = [row for row in audits if row["trusted"] is None]
    assert failed
    assert {row["failure"] for row in failed} == {"not in the book"}
    assert facts["failures"] == {"not in the book": len(failed)}
    unknown = sum(row["kept"] for row in failed)
    assert facts["kept"]["graded"] == facts["kept"]["drawn"] - unknown
    assert facts["loaded_parent"] == run.generation(0).record.weights
    edges = [edge for edge in run.lineage().generations[1].edges if isinstance(edge, GradedBy)]
    assert [(edge.stage, edge.grader) for edge in edges] == [("grade", "Confidence"), ("audit", "Truth")]
    assert f"{edges[1].weights}.safetensors" == facts["loaded_parent"]


def test_what_audits_found_is_shown_and_that_there_was_none(audited: flywheel.Run, tmp_path: Path) -> None:
    answer = audited.status().generations[1].audit
    assert answer is not None
    facts = audit_facts(audited)[1]
    assert (answer.graded, answer.precision.json()) == (40, facts["precision"])
    text = " ".join(audit_text(read_state(audited.path)))
    assert "audits of 2 turns found fault with" in text
    plain = run_moons(tmp_path, name="run", generations=1, **SMALL)
    assert list(audit_text(read_state(plain.path))) == [NO_AUDIT]
    assert plain.status().generations[1].audit is None


def test_the_rows_of_an_audit_are_written_for_a_person_and_labels_are_read(
    audited: flywheel.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.jsonl"
    assert subcommand("audit", [str(audited.path), "1", "--out", str(path)]) == 0
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    drawn = table_of(audited, 1, "audit", "audits").to_pylist()
    assert sorted(row["id"] for row in rows) == sorted(row["id"] for row in drawn if row["kept"])
    assert not {"trusted", "confidence", "keep"} & set(rows[0])
    assert {row["label"] for row in rows} <= {0, 1}, "the answer, which is to be judged"
    assert {row["right"] for row in rows} == {None}
    labelled = [row | {"right": number % 4 > 0} for number, row in enumerate(rows)]
    path.write_text("".join(json.dumps(row) + "\n" for row in labelled))
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"--out must be a file that is not there yet.*--labels"):
        subcommand("audit", [str(audited.path), "1", "--out", str(path)])
    assert path.read_bytes() == before, "with a person's labels"
    capsys.readouterr()
    assert subcommand("audit", [str(audited.path), "1", "--labels", str(path)]) == 0
    assert "75.0% [" in capsys.readouterr().out
