"""A generation that cannot be made fails with its reason; the champion stays; the run stops or goes on."""

from __future__ import annotations

import pytest

from flywheel.errors import DataError, ExitCode
from flywheel.storage.store import Store
from tests.support.harness import champion_hash, events, kinds

FAULTS = {
    "train:nan": "train: the loss is not finite",
    "train:inf": "train: the loss is not finite",
    "train:raise": "train: RuntimeError: the train stage broke on purpose",
    "data:empty": "train: the fit ended without a step",
    "generate:raise": "generate: RuntimeError: the generate stage broke on purpose",
    "generate:exit": "generate: SystemExit: 0",
    "generate:empty": "generate: the champion made no samples",
    "generate:nan": "generate: Samples of unit 0 must have finite numbers",
    "grade:raise": "grade: RuntimeError: the grade stage broke on purpose",
    "curate:none": "curate: the corpus is empty",
    "tune:raise": "tune: RuntimeError: the tune stage broke on purpose",
    "evaluate:raise": "evaluate: RuntimeError: the evaluate stage broke on purpose",
    "evaluate:range": "evaluate: ValueError: scores must lie in [0, 1]",
    "evaluate:nan": "evaluate: ValueError: scores must lie in [0, 1]; 80 of 80 do not, the first is nan",
    "evaluate:short": "evaluate: ValueError: evaluate() must score every item",
    "gate:raise": "gate: RuntimeError: the gate stage broke on purpose",
}


@pytest.mark.filterwarnings("ignore:Total length of:UserWarning")
@pytest.mark.parametrize("what", FAULTS)
def test_the_generation_fails_with_its_reason(after_genesis, fault, what):
    champion = champion_hash(after_genesis(generations=0).path)
    fault(what)
    run = after_genesis(generations=1)
    report = run.status().json()
    assert run.exit_code is ExitCode.FAILED
    assert report["state"] == "failed"
    assert report["generations"][1]["status"] == "failed"
    assert report["generations"][1]["reason"].startswith(FAULTS[what])
    assert report["champion"] == {"generation": 0, "weights": champion}
    assert run.verify().first_bad is None


def test_the_users_traceback_is_in_the_ledger_whole(after_genesis, fault):
    fault("train:raise")
    run = after_genesis(generations=1)
    trace = events(run.path)[-2]["traceback"]
    assert "Traceback (most recent call last)" in trace
    assert "probe_parts.py" in trace
    assert "in training_step" in trace
    assert trace.rstrip().endswith("RuntimeError: the train stage broke on purpose")


def test_the_same_command_tries_another_generation(after_genesis, fault):
    fault("train:nan")
    assert after_genesis(generations=1).exit_code is ExitCode.FAILED
    fault("")
    run = after_genesis(generations=1)
    assert run.exit_code is ExitCode.FINISHED
    assert [g["status"] for g in run.status().json()["generations"]] == ["promoted", "failed", "promoted"]
    assert run.status().json()["generations"][2]["parent"] == 0


def test_more_turns_after_one_that_failed(after_genesis, fault):
    """A failed turn was made up for, so one more than before is really one more."""
    fault("train:nan")
    after_genesis(generations=1)
    fault("")
    after_genesis(generations=1)
    run = after_genesis(generations=2)
    assert [g["status"] for g in run.status().json()["generations"]] == [
        "promoted",
        "failed",
        "promoted",
        "promoted",
    ]


def test_go_on_counts_failed_turns(after_genesis, fault):
    fault("grade:raise")
    run = after_genesis(generations=2, on_failure="go_on")
    assert run.exit_code is ExitCode.FINISHED
    assert [g["status"] for g in run.status().json()["generations"]] == ["promoted", "failed", "failed"]
    assert run.status().json()["champion"]["generation"] == 0
    before = len(events(run.path))
    assert after_genesis(generations=2, on_failure="go_on").exit_code is ExitCode.FINISHED
    assert len(events(run.path)) == before


def test_go_on_leaves_the_failed_turns_data_behind(after_genesis, fault):
    fault("train:raise")
    after_genesis(generations=1, on_failure="go_on")
    fault("")
    run = after_genesis(generations=2, on_failure="go_on")
    curated = next(e for e in events(run.path) if e.get("generation") == 2 and e.get("stage") == "curate")
    made = {
        e["generation"]: e["outputs"]["samples"] for e in events(run.path) if e.get("stage") == "generate"
    }
    offered = [samples for samples, _ in Store(run.path).json(curated["inputs"]["sources"])]
    assert made[2] in offered
    assert made[1] not in offered


def test_genesis_that_fails_is_tried_again(probe, fault):
    fault("train:nan")
    run = probe(generations=1)
    assert run.exit_code is ExitCode.FAILED
    assert run.status().json()["champion"] is None
    fault("")
    run = probe(generations=1)
    assert run.exit_code is ExitCode.FINISHED
    assert [g["status"] for g in run.status().json()["generations"]] == ["failed", "promoted", "promoted"]
    assert [g["parent"] for g in run.status().json()["generations"]] == [None, None, 1]


def test_no_champion_at_all_is_a_failure(probe, fault):
    fault("train:nan")
    run = probe(generations=1, on_failure="go_on")
    assert run.exit_code is ExitCode.FAILED
    assert events(run.path)[-1]["event"] == "run_failed"
    assert events(run.path)[-1]["reason"].startswith("train: the loss is not finite")


def test_a_failed_turns_carry_is_not_kept(after_genesis, fault):
    fault("gate:raise")
    run = after_genesis(generations=1)
    assert events(run.path)[-2]["event"] == "generation_ended"
    assert events(run.path)[-2]["carry"] == {}


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("seed:empty", "Seed samples must have at least one row"),
        ("seed:nan", "Seed samples must have finite numbers; 1 values of column 'point'"),
        ("seed:inf", "Seed samples must have finite numbers; 1 values of column 'point'"),
        ("suites:empty", "Suite dev must have at least one row"),
        ("suites:nan", "Suite dev must have finite numbers; 1 values of column 'point'"),
    ],
)
def test_unusable_data_is_refused_before_a_run_is_made(probe, fault, folder, what, message):
    fault(what)
    with pytest.raises(DataError, match=message):
        probe()
    assert not (folder / "runs").exists()


def test_a_task_without_a_gate_suite_is_refused(probe):
    with pytest.raises(DataError, match="suite with role gate"):
        probe(**{"task._target_": "tests.support.probe_parts.NoGate"})


def test_a_fit_that_failed_is_made_again_from_its_start(after_genesis, fault):
    """What failed left nothing behind that the next turn could see."""
    fault("train:raise")
    after_genesis(generations=1)
    fault("")
    run = after_genesis(generations=1)
    assert kinds(run.path).count("run_created") == 1
    first, again = run.generations()[1].record, run.generations()[2].record
    assert set(first.stages) == {"generate", "grade", "curate", "tune"}
    assert again.curate.facts.by_origin["human"] == 6
