from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from flywheel.config.components import Components, check_components
from flywheel.config.compose import compose
from flywheel.curators import Dedupe, Pipeline, Threshold
from flywheel.errors import DataError
from flywheel.keys import Key
from flywheel.testing import CONFIG_DIR, ContractBroken, check_curator

SAMPLES = pa.table(
    {
        "id": list("abcdef"),
        "origin": ["human", "human", *["generated"] * 4],
        "prompt": ["p", "p", "p", "q", "q", "r"],
        "length": [1, 1, 1, 2, 2, 9],
        "confidence": [None, None, 0.9, 0.4, 0.9, float("nan")],
    }
)


class Short:
    columns = ("length",)

    def dropped(self, rows: pa.Table) -> dict[str, np.ndarray]:
        return {"too long": rows["length"].to_numpy() > 5}


def test_the_first_step_that_a_row_does_not_pass_gives_the_reason() -> None:
    sure, one = Threshold(score="confidence", least=0.5), Dedupe(unique=["prompt"])
    curator = Pipeline(steps={"one": one, "short": Short(), "sure": sure})
    decisions, carry = curator.curate(SAMPLES, {}, Key.root(0))
    reasons = ["kept", "duplicate", "duplicate", "confidence below 0.5", "kept", "too long"]
    assert decisions["reason"].to_pylist() == reasons  # 'd' is dropped, so 'e' is the first of its prompt
    assert decisions["keep"].tolist() == [reason == "kept" for reason in reasons]
    assert decisions["count"].tolist() == [int(reason == "kept") for reason in reasons]
    assert (carry, curator.score, list(curator.columns)) == ({}, "confidence", ["length", "confidence"])
    other = Pipeline(steps={"sure": sure, "short": Short()})
    assert other.curate(SAMPLES, {}, Key.root(0))[0]["reason"].to_pylist()[-1] == "no score"


def test_a_pipeline_keeps_the_contract_of_curators() -> None:
    def rows(turn: int) -> dict[str, Any]:
        return {"prompt": [f"{turn} {k}" for k in range(6)], "x": [float(k % 3) for k in range(6)]}

    steps = {"sure": Threshold(score="confidence", least=0.5), "one": Dedupe(unique=["x"])}
    made = {**rows(1), "confidence": np.linspace(0, 1, 6)}
    check_curator(Pipeline(steps=steps), rows(0), made)


class AboveMean:
    columns = ("confidence",)

    def dropped(self, rows: pa.Table) -> dict[str, np.ndarray]:
        if "confidence" not in rows.column_names:
            return {}
        scores = rows["confidence"].to_numpy()
        return {"below the mean": scores < scores.mean()}


def test_a_step_that_looks_at_other_rows_breaks_the_contract() -> None:
    human = {"prompt": ["h"], "x": [1.0]}
    made = {"prompt": list("abcd"), "x": [1.0] * 4, "confidence": [0.1, 0.2, 0.8, 0.9]}
    with pytest.raises(ContractBroken, match=r"decide\(\) must look at each row by itself"):
        check_curator(Pipeline(steps={"mean": AboveMean()}), human, made)


def test_steps_are_configured_by_name() -> None:
    given = "{sure: {_target_: flywheel.curators.Threshold, score: confidence, least: 0.7}}"
    overrides = ["recipe=moons", "curator._target_=flywheel.curators.Pipeline", f"+curator.steps={given}"]
    config = compose([*overrides, *(f"~curator.{n}" for n in ("threshold", "by", "fractions"))], CONFIG_DIR)
    check_components(config)
    curator = Components(config).build("curator", {})
    assert curator == Pipeline(steps={"sure": Threshold(score="confidence", least=0.7)})


@pytest.mark.parametrize(
    ("steps", "rule"),
    [
        ({}, "steps must be one or more"),
        ({"a": Dedupe(unique=["x"]), "b": Dedupe(unique=["y"])}, "steps may have one Dedupe; a, b are 2"),
        ({"a": object()}, "'a' is a object"),
    ],
)
def test_steps_that_are_none_are_refused(steps: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        Pipeline(steps=steps)
    with pytest.raises(ValueError, match="unique must name columns"):
        Dedupe(unique=[])


def test_a_score_must_be_there_and_a_number() -> None:
    curator = Pipeline(steps={"sure": Threshold(score="vote", least=0.5)})
    with pytest.raises(DataError, match="'vote' is none"):
        curator.decide(SAMPLES)
    assert curator.decide(SAMPLES.slice(0, 2))["keep"].all()  # people's rows need none
    with pytest.raises(DataError, match="'vote' is string"):
        curator.decide(SAMPLES.append_column("vote", SAMPLES["prompt"]))
