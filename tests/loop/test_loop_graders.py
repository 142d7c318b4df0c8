"""Graders in whole runs: samples that cannot be graded, parts with versions of their own."""

from __future__ import annotations

from typing import Any

import pytest

import flywheel
from flywheel.curators import Confident
from flywheel.errors import ExitCode
from flywheel.graders import AllOf, Cascade, Confidence, Verifier
from flywheel.lineage.samples import read_samples
from flywheel.testing.moons.model import Classifier
from flywheel.testing.moons.task import Moons
from tests.support import verifiers
from tests.support.harness import events
from tests.support.loop_runs import Probe, statuses

HERE = "tests.support.verifiers"
VERIFIER = "flywheel.graders.Verifier"


def make_model(settings: dict[str, Any]) -> Classifier:
    return Classifier(settings["width"], settings["lr"])


def run_of(probe: Probe, grader: dict[str, Any], score: str, **more: Any) -> flywheel.Run:
    target, *arguments = grader
    own = {f"grader.{target}": grader[target]} | {f"+grader.{name}": grader[name] for name in arguments}
    return probe(**{"generations": 1, **own, "+curator.score": score, **more})


def verifier(function: str = "of_moons", **arguments: Any) -> dict[str, Any]:
    named = {"_target_": f"{HERE}.{function}", "_partial_": True}
    return {
        "_target_": "flywheel.graders.Verifier",
        "function": named,
        "negative_controls": False,
        **arguments,
    }


PLANTED = {
    "unlabelled-3": "timed out after 0.5 s",
    "unlabelled-4": "its process left with exit code 7",
    "unlabelled-5": "ValueError: no sum: unlabelled-5",
}


def test_a_sample_that_hangs_or_crashes_costs_one_sample(probe: Probe) -> None:
    run = run_of(probe, verifier(seconds=0.5, workers=2), "verified", chunk_size=50)
    assert run.exit_code is ExitCode.FINISHED
    rows = read_samples(run.path, 1).to_pylist()
    failed = {row["prompt"]: row for row in rows if row["failure"] is not None}
    assert {prompt: row["failure"] for prompt, row in failed.items()} == PLANTED
    for row in failed.values():
        assert (row["verified"], row["keep"], row["reason"]) == (None, False, "no score")
    assert all(row["verified"] == row["probability"] for row in rows if row["prompt"] not in PLANTED)
    (graded,) = [event["facts"] for event in events(run.path) if event.get("stage") == "grade"]
    assert (graded["failed"], graded["rows"]) == (3, 120)
    assert graded["reasons"] == dict.fromkeys(PLANTED.values(), 1)
    batch = run.show(1).batch
    assert batch is not None
    assert (batch.ungraded, dict(batch.reasons)) == (3, graded["reasons"])


def test_too_many_that_cannot_be_graded_fail_the_generation_with_the_reason(probe: Probe) -> None:
    run = run_of(probe, verifier(seconds=0.5, workers=1), "verified", max_failures=0.02)
    (failed,) = [event for event in events(run.path) if event.get("status") == "failed"]
    rule = "3 of 120 samples have no score, more than max_failures=0.02 allows; most often: "
    assert rule in failed["reason"]
    assert failed["reason"].partition(rule)[2] in PLANTED.values()
    more = run_of(probe, verifier(seconds=0.5, workers=1), "verified", max_failures=0.03)
    assert more.exit_code is ExitCode.FINISHED, "the limit may be raised on resume"


def composed(least: float) -> dict[str, Any]:
    enough = {"_target_": f"{HERE}.AtLeast", "least": least}
    faulty = verifier(seconds=0.5, column="dear")
    cheap = {**verifier(column="cheap"), "function": enough}
    graders = {"enough": cheap, "dear": faulty}
    return {"_target_": "flywheel.graders.Cascade", "graders": graders}


def test_parts_of_a_composition_have_versions_and_failures_of_their_own(probe: Probe) -> None:
    facts = []
    for name, least in (("one", 0.1), ("two", 0.2)):
        run = run_of(probe, composed(least), "cascade", name=name)
        (grade,) = [event["facts"] for event in events(run.path) if event.get("stage") == "grade"]
        facts.append(grade)
    one, two = facts
    assert {name: part["grader"] for name, part in one["parts"].items()} == dict.fromkeys(
        ("enough", "dear"), "Verifier"
    )
    versions = [{name: part["version"] for name, part in each["parts"].items()} for each in facts]
    assert versions[0]["dear"] == versions[1]["dear"]
    assert versions[0]["enough"] != versions[1]["enough"]
    assert one["version"] != two["version"]
    assert one["parts"]["dear"]["failed"] == one["failed"] == 3
    assert "failed" not in one["parts"]["enough"]
    shown = run.show(1).batch
    assert shown is not None
    assert shown.parts["dear"].reasons == two["parts"]["dear"]["reasons"]


def test_a_grader_given_in_python_is_recorded_by_its_parts(folder: Any) -> None:
    checked = Verifier(function=verifiers.of_moons, seconds=0.5, negative_controls=False)
    cascade = Cascade(
        graders={
            "sure": Confidence(),
            "both": AllOf(graders={"checked": checked}),
        },
        pass_at={"sure": 0.6},
        asks="groups",
    )
    settings = {"width": 8, "lr": 0.02, "batch_size": 16, "steps": 5}
    own = {"recipe": "mine", "settings": settings, "generations": 1, "threads": 1, "log": "quiet"}
    trainer = {"max_steps": "${settings.steps}", "accelerator": "cpu"}
    parts = {"task": Moons(), "model": make_model, "curator": Confident(score="cascade")}
    run = flywheel.run({**own, "trainer": trainer, "runs_dir": folder / "runs"}, grader=cascade, **parts)
    assert run.exit_code is ExitCode.FINISHED
    assert set(statuses(run)) <= {"promoted", "rejected"}
    node = run.show(1).config["grader"]
    assert node["graders"]["both"]["graders"]["checked"]["function"] == {
        "_target_": f"{HERE}.of_moons",
        "_partial_": True,
    }
    (grade,) = [event["facts"] for event in events(run.path) if event.get("stage") == "grade"]
    assert set(grade["parts"]) == {"sure", "both", "checked"}
    assert all(part["version"] for part in grade["parts"].values())
    again = flywheel.open_run(run.path).resume({"generations": 2, "seal": "reopen"})
    assert again.exit_code is ExitCode.FINISHED, "it is built from what was recorded"
    for number in (1, 2):
        rows = read_samples(run.path, number).to_pylist()
        asked = [row["all_of"] is not None or row["failure_both"] is not None for row in rows]
        assert asked == [row["confidence"] >= 0.6 for row in rows], "the order is that in which it was given"
        assert len(set(asked)) == 2


class Silent(Confidence):
    def grade(self, samples: Any, load_parent: Any, keys: Any) -> Any:
        import pyarrow as pa

        return {"confidence": pa.array([None] * len(samples), pa.float64())}


@pytest.mark.parametrize("on_unit_failure", ["fail", "skip"])
def test_a_score_that_is_null_without_a_reason_is_refused(probe: Probe, on_unit_failure: str) -> None:
    grader = {"grader___target_": f"{__name__}.Silent", "on_unit_failure": on_unit_failure}
    run = probe(generations=1, **grader)
    (failed,) = [event for event in events(run.path) if event.get("status") == "failed"]
    assert (
        "A sample without a score must have a reason; 120 values of column 'confidence'" in failed["reason"]
    )
