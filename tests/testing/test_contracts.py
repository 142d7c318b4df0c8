"""The contract suites pass what is shipped, and refuse parts that break one rule each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import broken_parts as broken
import numpy as np
import pyarrow.compute as pc
import pytest

from flywheel.curators.confident import Confident
from flywheel.errors import ConfigError, DataError, StageFailed
from flywheel.gates.paired import Paired
from flywheel.graders import AllOf, AnyOf, Cascade, Confidence, Verifier, Vote
from flywheel.guards import Collapse, Flips, NonInferior, Slices
from flywheel.protocols import GuardView
from flywheel.records import Action, Alarm
from flywheel.reviewers import NoReview
from flywheel.testing import (
    ContractBroken,
    check_curator,
    check_gate,
    check_grader,
    check_guard,
    check_recipe,
    check_reviewer,
    check_task,
    check_tuner,
)
from flywheel.testing.moons.model import Classifier
from flywheel.testing.moons.task import Moons
from flywheel.tuners.fixed import Fixed
from tests.support.verifiers import AtLeast

SETTINGS = {"batch_size": 32}
HUMAN = {"prompt": ["a", "b"], "label": [0, 1]}
GENERATED = {"prompt": list("cdef"), "label": [0, 1, 0, 1], "confidence": [0.9, 0.8, 0.4, 0.6]}
SAMPLES = {"prompt": list("cdef"), "group": list("ccdd"), "probability": [0.9, 0.8, 0.4, 0.6]}


LIKELY = Verifier(function=AtLeast(0.85), workers=1)


class HaltsOnAFall:
    def check(self, view: GuardView) -> Alarm | None:
        before, now = (pc.mean(table["score"]).as_py() for table in (view.champion, view.candidate))
        return Alarm(Action.HALT, f"{before:.1%} to {now:.1%}") if now < before else None


def check_part(part: Any) -> None:
    suites: dict[str, Callable[[Any], None]] = {
        "evaluate": lambda task: check_task(task, Classifier(), SETTINGS),
        "grade": lambda grader: check_grader(grader, SAMPLES),
        "curate": lambda curator: check_curator(curator, HUMAN, GENERATED),
        "ask": check_tuner,
        "test": check_gate,
        "check": check_guard,
        "review": check_reviewer,
    }
    next(suite for method, suite in suites.items() if hasattr(part, method))(part)


@pytest.mark.parametrize(
    "part",
    [
        Moons(),
        Confidence(),
        Vote(answer="prompt"),
        LIKELY,
        AllOf(graders={"sure": Confidence(), "likely": LIKELY}),
        AnyOf(graders={"sure": Confidence(), "likely": LIKELY}),
        Cascade(graders={"sure": Confidence(), "likely": LIKELY}),
        Confident(threshold=0.5),
        Confident(by="label", fractions=[0.5]),
        Fixed(),
        Paired(),
        NoReview(),
        HaltsOnAFall(),
        NonInferior(allow_low_power=True),
        Collapse(label="label"),
        Flips(),
        Slices(columns=["label"]),
    ],
    ids=lambda part: type(part).__name__,
)
def test_what_is_shipped_passes(part: Any) -> None:
    check_part(part)


BROKEN = [
    (
        broken.DrawsAnew(),
        ContractBroken,
        r"seed\(\) and suites\(\) must give the same .*; .*seed samples.* differ",
    ),
    (broken.NO_GATE_SUITE, DataError, "must have a suite with role gate"),
    (broken.FORGES_ORIGIN, DataError, r"must not have \['origin'\]"),
    (broken.UNSEEDED_LABELS, ContractBroken, "generate: run again with the same inputs"),
    (broken.CountsCalls(), ContractBroken, r"evaluate.*(run again|must not depend)"),
    (broken.OTHER_PROMPTS, DataError, "answer the prompts of its unit.*answered 'answer unlabelled-0"),
    (broken.OTHER_TYPES, DataError, "'label' is int64, and in unit 0 string"),
    (broken.SQUEEZES_ONE_ROW, ValueError, r"1 items, shape \(\)"),
    (broken.SCORES_IN_PERCENT, ValueError, r"scores must lie in \[0, 1\]"),
    (broken.TrainsWhileScoring(), ContractBroken, r"evaluate\(\) must leave the model .*head.bias"),
    (broken.LEAVES_TRAINING_MODE, ContractBroken, r"generate\(\) must leave the model .*its mode"),
    (broken.ShowsNothing(), ContractBroken, "show.. must show what .* KeyError: 'picture'"),
    (broken.ShowsAtRandom(), ContractBroken, "show.. must not draw from a global generator"),
    (broken.NO_BATCHES, StageFailed, "the fit ended without a step"),
    (broken.InfinitePoints(), StageFailed, "not finite"),
    (broken.SCORES_SOME, ValueError, "must score every sample"),
    (broken.NO_REASON, DataError, "must have a reason; [24] values of column 'confidence' are null"),
    (broken.NO_SCORE, ContractBroken, r"must be its score, as float64.*\['string'\]"),
    (broken.GUESSES, ContractBroken, "grade: run again with the same inputs"),
    (broken.TAKES_A_COLUMN, DataError, "names of their own"),
    (broken.KeepsNothing(), StageFailed, "the corpus is empty"),
    (broken.NO_CARRY, DataError, r"must return \(decisions, carry\)"),
    (broken.RemembersByItself(), ContractBroken, "curate: run again with the same inputs"),
    (broken.ChangesCarry(), ContractBroken, "a carry is changed by returning a new one"),
    (broken.KeepsSometimes(), ContractBroken, "carry_kept must be .*'sometimes'"),
    (broken.ReordersRows(), DataError, "must answer row for row"),
    (broken.FORGETS, ConfigError, "settings lacks steps, width"),
    (broken.INVENTS, ConfigError, "there is no setting 'lrr'"),
    (broken.STARTS_FROM_PARENT, StageFailed, "init must be one of fresh"),
    (broken.ALWAYS_PROMOTES, ContractBroken, "must never promote an identical candidate"),
    (broken.NEVER_PROMOTES, ContractBroken, "must promote a clear win"),
    (broken.ComparesMeans(), ContractBroken, "no more than 0.05 of the candidates .* it promoted 0.4"),
    (broken.IgnoresClusters(), ContractBroken, "with items in clusters; it promoted 0.[234]"),
    (broken.CountsClusters(), ContractBroken, "must never promote a loss of most items"),
    (broken.FlipsSigns(), ContractBroken, "with rare large losses; it promoted 0.[23]"),
    (broken.NO_VALUE, ValueError, "a gate gives a p-value or an e-value; it gave none"),
    (broken.NUMPY_NUMBERS, ContractBroken, r"must be JSON.*\.item\(\)"),
    (broken.UNKEYED, ContractBroken, "gate: run again with the same inputs"),
    (broken.AlarmsByText(), TypeError, "must answer an Alarm or None; guard answered 'it is worse'"),
    (broken.AlarmsAtRandom(), ContractBroken, "guard: run again with the same inputs"),
    (broken.SAYS_YES, ContractBroken, "answered 'no', which a run would take as True"),
]


@pytest.mark.parametrize(("part", "error", "message"), BROKEN, ids=[message for *_, message in BROKEN])
@pytest.mark.filterwarnings("ignore:Total length of .* across ranks is zero:UserWarning")
def test_a_broken_part_is_refused(part: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_part(part)


def test_a_gate_is_held_to_every_level() -> None:
    check_gate(Paired(), level=0.2)
    with pytest.raises(ContractBroken, match=r"no more than 0\.2"):
        check_gate(broken.ComparesMeans(), level=0.2)


@pytest.mark.parametrize("level", [0.0025, 0.2])
def test_a_gate_is_held_to_rare_large_losses_at_every_level(level: float) -> None:
    check_gate(Paired(), level=level)
    with pytest.raises(ContractBroken, match="with rare large losses"):
        check_gate(broken.FlipsSigns(), level=level)


def test_a_grader_may_borrow_the_model() -> None:
    class Asks(Confidence):
        def grade(self, samples: Any, load_parent: Any, keys: Any) -> Any:
            weight = load_parent().head.weight.sum().item()
            return {"sum": np.full(len(samples), weight)}

    check_grader(Asks(), SAMPLES, model=Classifier())


def test_the_suites_leave_no_file_behind(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    check_reviewer(NoReview())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("recipe", "smaller"),
    [("mnist", ["trainer.max_steps=2", "task.unlabelled=64"]), ("addition", [])],
)
def test_the_built_in_recipes_pass(recipe: str, smaller: list[str]) -> None:
    check_recipe(recipe, overrides=["debug=tiny", "threads=1", *smaller])
