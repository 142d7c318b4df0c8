"""A generation that cannot be made fails with its reason; the champion stays; the run stops or goes on."""

from __future__ import annotations

import pytest

from flywheel.errors import DataError, ExitCode
from flywheel.lineage.status import read_state, summary_line
from tests.support.harness import champion_hash, events, kinds
from tests.support.loop_runs import statuses

BROKEN = "RuntimeError: the {} stage broke on purpose"
FAULTS = {
    "train:nan": "train: the loss is not finite",
    "train:inf": "train: the loss is not finite",
    "data:empty": "train: the fit ended without a step",
    "generate:exit": "generate: SystemExit: 0",
    "generate:empty": "generate: the champion made no samples",
    "generate:nan": "generate: Samples of unit 0 must have finite numbers",
    "curate:none": "curate: the corpus is empty",
    "evaluate:range": "evaluate: ValueError: scores must lie in [0, 1]",
    "evaluate:nan": "evaluate: ValueError: scores must lie in [0, 1]; 80 of 80 do not, the first is nan",
    "evaluate:short": "evaluate: ValueError: evaluate() must score every item",
}
FAULTS |= {
    f"{stage}:raise": f"{stage}: {BROKEN.format(stage)}"
    for stage in ("train", "generate", "grade", "tune", "evaluate", "gate")
}


def check_traceback(text, stage):
    assert text.startswith("Traceback (most recent call last)")
    assert "probe_parts.py" in text
    assert text.rstrip().endswith(BROKEN.format(stage))


@pytest.mark.filterwarnings("ignore:Total length of:UserWarning")
@pytest.mark.parametrize("what", FAULTS)
def test_the_generation_fails_with_its_reason(after_genesis, genesis_only, fault, what):
    fault(what)
    run = after_genesis(generations=1)
    report = run.status()
    assert run.exit_code is ExitCode.FAILED
    assert (report.state, statuses(run)) == ("failed", ["promoted", "failed"])
    assert report.generations[1].reason.startswith(FAULTS[what])
    assert report.champion.generation == 0
    assert report.champion.weights == champion_hash(genesis_only / "probe" / "run")
    ended, failed = events(run.path)[-2:]
    assert (ended["event"], ended["carry"], failed["event"]) == ("generation_ended", {}, "run_failed")
    if what.endswith(":raise"):
        check_traceback(ended["traceback"], what.removesuffix(":raise"))
    assert run.verify().first_bad is None


def test_a_turn_that_fails_leaves_no_carry(probe, fault):
    fault("gate:raise")
    (failed,) = events(probe(generations=1, **{"+curator.kept": "always"}).path, status="failed")
    assert failed["carry"] == {}


def test_the_same_command_makes_up_for_a_turn_that_failed(after_genesis, fault):
    """From the start; one turn more than before is really one more."""
    fault("train:raise")
    after_genesis(generations=1)
    fault("")
    run = after_genesis(generations=1)
    assert run.exit_code is ExitCode.FINISHED
    assert statuses(run) == ["promoted", "failed", "promoted"]
    assert kinds(run.path).count("run_created") == 1
    first, again = run.generations()[1].record, run.generations()[2].record
    assert set(first.stages) == {"generate", "grade", "curate", "tune"}
    assert (again.parent, again.curate.facts.by_origin["human"]) == (0, 6)
    assert statuses(after_genesis(generations=2)) == ["promoted", "failed", "promoted", "promoted"]


def test_go_on_counts_failed_turns(after_genesis, fault):
    fault("grade:raise")
    run = after_genesis(generations=2, on_failure="go_on")
    assert run.exit_code is ExitCode.FINISHED
    assert statuses(run) == ["promoted", "failed", "failed"]
    assert run.status().champion.generation == 0
    before = len(events(run.path))
    assert after_genesis(generations=2, on_failure="go_on").exit_code is ExitCode.FINISHED
    assert len(events(run.path)) == before


def test_a_sealed_evaluation_that_raises_leaves_its_traceback(probe, fault):
    fault("sealed:raise")
    run = probe(generations=0)
    assert run.exit_code is ExitCode.FAILED
    last = events(run.path)[-1]
    assert (last["event"], last["reason"]) == ("run_failed", f"sealed: {BROKEN.format('sealed')}")
    check_traceback(last["traceback"], "sealed")


@pytest.mark.parametrize("on_failure", ["stop", "go_on"])
def test_genesis_that_fails_is_tried_again(probe, fault, on_failure):
    fault("train:nan")
    run = probe(generations=1, on_failure=on_failure)
    assert run.exit_code is ExitCode.FAILED
    assert run.status().champion is None
    assert events(run.path)[-1]["event"] == "run_failed"
    assert "all generations are made" not in summary_line(run.path, read_state(run.path))
    fault("")
    run = probe(generations=1)
    assert run.exit_code is ExitCode.FINISHED
    assert "all generations are made" in summary_line(run.path, read_state(run.path))
    assert [(g.status, g.parent) for g in run.status().generations] == [
        ("failed", None),
        ("promoted", None),
        ("promoted", 1),
    ]


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
