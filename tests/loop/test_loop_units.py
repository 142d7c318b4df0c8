"""Units in a run: what is drawn by keys does not depend on them, and what one of them that raises costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import flywheel
from flywheel.graders import Confidence, Vote
from flywheel.storage.store import Store
from flywheel.tables import as_table
from flywheel.testing.moons.task import Moons
from tests.support.harness import events
from tests.support.loop_runs import Probe

HERE = "tests.loop.test_loop_units"


class Draws(Moons):
    """Two answers a prompt, of points that are moved as their prompt's key says; items likewise."""

    def generate(self, model: Any, prompts: pa.Table, settings: Any, keys: Any) -> Any:
        made = []
        for k, purpose in enumerate(("first", "second")):
            answers = as_table(super().generate(model, moved(prompts, keys, purpose), settings, keys))
            generators = [rng.normal() for rng in keys.numpy()] if k else keys.uniform(1, "more")[:, 0]
            made.append(answers.append_column("drawn", pa.array(generators)))
        return pa.concat_tables(made)  # the rows of a group are not side by side

    def evaluate(self, model: Any, opponent: Any, items: pa.Table, keys: Any) -> np.ndarray:
        return super().evaluate(model, opponent, moved(items, keys, "items"), keys)


def moved(rows: pa.Table, keys: Any, purpose: str) -> pa.Table:
    points = np.array(rows["point"].to_pylist()) + 0.5 * keys.uniform(2, purpose)
    flat = pa.array(points.astype(np.float32).ravel())
    column = pa.FixedSizeListArray.from_arrays(flat, 2)
    return rows.set_column(rows.column_names.index("point"), "point", column)


class DrawnGrades(Confidence):
    """Beside the confidence, a draw by each group's key, and how many of it are there."""

    def grade(self, samples: pa.Table, load_parent: Any, keys: Any) -> Any:
        votes = Vote(answer="prompt").grade(samples, load_parent, keys)["vote"]
        drawn = {"drawn grade": keys.uniform(1)[:, 0], "whole": votes}
        return super().grade(samples, load_parent, keys) | drawn


def tables(run: flywheel.Run, turn: int = 1) -> dict[str, pa.Table]:
    """What was made in units: samples and scores, and the outcomes of this turn."""
    store, made = Store(run.path), [e for e in events(run.path) if e["event"] == "stage"]
    outputs = {
        name: e["outputs"][name] for e in made for name in ("samples", "scores") if name in e["outputs"]
    }
    (evaluated,) = [e for e in made if (e["stage"], e["generation"]) == ("evaluate", turn)]
    return {name: store.table(artifact) for name, artifact in (outputs | evaluated["outputs"]).items()}


def test_another_chunk_size_draws_the_same(probe: Probe, folder: Path) -> None:
    parts = {"task___target_": f"{HERE}.Draws", "grader___target_": f"{HERE}.DrawnGrades", "genesis": "fresh"}
    parts |= {"init": "parent", "settings__steps": 1, "generations": 1}
    made = []
    for size in (7, 512):
        run = probe(name=f"by{size}", chunk_size=size, **parts)
        made.append(tables(run, 0))  # later weights are of rows in another order
    few, many = made
    assert (len(few["samples"]), len(set(few["samples"]["key"].to_pylist()))) == (240, 120)
    few["samples"], many["samples"] = (in_order(t["samples"]) for t in (few, many))
    few["scores"], many["scores"] = (in_order(t["scores"]) for t in (few, many))
    for name in ("id", "prompt", "key", "drawn", "label"):
        assert few["samples"][name].equals(many["samples"][name]), name
    np.testing.assert_allclose(few["samples"]["probability"], many["samples"]["probability"], atol=1e-5)
    for name in ("id", "drawn grade", "whole"):
        assert few["scores"][name].equals(many["scores"][name]), name
    assert set(few["scores"]["whole"].to_pylist()) == {1.0}, "groups are whole"
    same = np.equal(few["outcomes"]["score"].to_numpy(), many["outcomes"]["score"].to_numpy())
    assert same.mean() >= 0.999


def in_order(rows: pa.Table) -> pa.Table:
    return rows.sort_by("id")


class Raises(Moons):
    """Cannot answer the prompt 21, nor the items 33 of the gate."""

    def generate(self, model: Any, prompts: pa.Table, settings: Any, keys: Any) -> Any:
        refuse(prompts["prompt"], "unlabelled-21")
        return super().generate(model, prompts, settings, keys)

    def evaluate(self, model: Any, opponent: Any, items: pa.Table, keys: Any) -> np.ndarray:
        refuse(items["item"], "gate-33")
        return super().evaluate(model, opponent, items, keys)


class RaisesInGrade(Confidence):
    def grade(self, samples: pa.Table, load_parent: Any, keys: Any) -> Any:
        refuse(samples["prompt"], "unlabelled-50")
        return super().grade(samples, load_parent, keys)


def refuse(column: pa.ChunkedArray, name: str) -> None:
    if name in column.to_pylist():
        raise RuntimeError(f"cannot do {name}")


def test_a_unit_that_raises_is_skipped_counted_and_told(probe: Probe) -> None:
    parts = {"task___target_": "Raises", "grader___target_": "RaisesInGrade"}
    targets = {key: f"{HERE}.{name}" for key, name in parts.items()}
    run = probe(generations=1, chunk_size=10, on_unit_failure="skip", **targets)
    assert run.exit_code == 0
    facts = {e["stage"]: e["facts"]["units"] for e in events(run.path) if "units" in e.get("facts", {})}
    for stage, name in {"generate": "unlabelled-21", "grade": "unlabelled-50", "evaluate": "gate-33"}.items():
        assert facts[stage]["reasons"] == {f"RuntimeError: cannot do {name}": 1}, stage
        assert facts[stage]["failed"] == 1
    made = tables(run)
    asked = set(made["samples"]["prompt"].to_pylist())
    assert {f"unlabelled-{k}" for k in range(120)} - asked == {f"unlabelled-{k}" for k in range(20, 30)}
    null = made["scores"].filter(made["scores"]["confidence"].is_null())
    assert len(null) == 10
    assert set(null["failure"].to_pylist()) == {"RuntimeError: cannot do unlabelled-50"}
    outcomes = made["outcomes"].filter(np.equal(made["outcomes"]["suite"].to_numpy(), "gate"))
    assert outcomes["item"].to_pylist() == [f"gate-{k}" for k in range(80)], "none is missing"
    assert set(outcomes["score"].to_pylist()[30:40]) == {0.0}
    assert run.verify().first_bad is None


@pytest.mark.parametrize(("part", "stage"), [("Raises", "evaluate"), ("RaisesInGrade", "grade")])
def test_without_that_it_fails_the_generation(probe: Probe, part: str, stage: str) -> None:
    section = "grader" if stage == "grade" else "task"
    run = probe(generations=1, **{f"{section}___target_": f"{HERE}.{part}"})
    (failed,) = [event for event in events(run.path) if event.get("status") == "failed"]
    assert f"{stage}: RuntimeError: cannot do" in failed["reason"]
    assert not (run.path / "work").exists()


class NothingWorks(Confidence):
    def grade(self, samples: pa.Table, load_parent: Any, keys: Any) -> Any:
        raise RuntimeError("out of luck")


def test_a_stage_of_which_every_unit_fails_fails(probe: Probe) -> None:
    run = probe(generations=1, on_unit_failure="skip", grader___target_=f"{HERE}.NothingWorks")
    (failed,) = [event for event in events(run.path) if event.get("status") == "failed"]
    assert failed["reason"].endswith("no sample has a score; most often: RuntimeError: out of luck")


class Billed(Moons):
    """Its scores are an outside service's, which is down at item 33 of the sealed suite."""

    outside_service = True

    def evaluate(self, model: Any, opponent: Any, items: pa.Table, keys: Any) -> np.ndarray:
        with Path("asked").open("a") as file:
            print(items["item"][0], file=file)
        if not Path("repaired").exists():
            refuse(items["item"], "sealed-33")
        return super().evaluate(model, opponent, items, keys)


def test_what_a_service_answered_outlives_a_failure(probe: Probe, folder: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(folder)
    words = {"generations": 0, "chunk_size": 10, "task___target_": f"{HERE}.Billed"}
    assert probe(**words).exit_code == 1
    Path("repaired").touch()
    Path("asked").unlink()
    run = probe(**words)
    assert run.exit_code == 0
    assert Path("asked").read_text().split() == [f"sealed-{row}" for row in range(30, 80, 10)]
    assert not (run.path / "work").exists()
    assert run.verify().first_bad is None
