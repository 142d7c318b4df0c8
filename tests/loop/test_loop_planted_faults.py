"""Faults that are planted in real runs of moons: each is caught by the name of a guard, the run unharmed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from flywheel.errors import ExitCode
from flywheel.protocols import GuardView
from flywheel.records import Alarm, Role, Suite
from flywheel.testing.moons.task import Moons
from tests.support.harness import events
from tests.support.loop_runs import run_moons
from tests.support.one_class import few_of_class_1

VIEWS: list[GuardView] = []


@dataclass(kw_only=True)
class Writes(Moons):
    """Moons whose rows have a text, which is another one for each prompt."""

    collapses_at: int = 0
    """From this turn on they all have one text and one label; 0: never."""
    longer: int = 0
    """Words that a text gets more with each turn; 0: none."""
    answers: int = 1
    """Rows of a prompt."""

    def prompts(self, generation: int, carry: Any, key: Any) -> pa.Table:
        table = super().prompts(generation, carry, key)
        return table.append_column("turn", pa.array([generation] * len(table)))

    def generate(self, model: Any, prompts: pa.Table, settings: Any, keys: Any) -> dict[str, Any]:
        columns = super().generate(model, prompts, settings, keys)
        turn = prompts["turn"][0].as_py()
        words = (keys.uniform(1)[:, 0] * (1 + self.longer * turn)).astype(int)
        texts = [
            f"{name} is {name} " + "so " * more for name, more in zip(prompts["prompt"], words, strict=True)
        ]
        columns["text"] = pa.array(texts)
        if self.collapses_at and turn >= self.collapses_at:
            columns |= {"text": pa.array(["I am here"] * len(prompts)), "label": np.zeros(len(prompts), int)}
        table = pa.table(columns).take(np.repeat(np.arange(len(prompts)), self.answers))
        return {**dict(zip(table.column_names, table.columns, strict=True))}


class ByLength:
    """The planted fault: what is longer is taken for better."""

    def grade(self, samples: pa.Table, load_parent: Any, keys: Any) -> dict[str, Any]:
        lengths = pc.cast(pc.utf8_length(samples["text"]), pa.float64())
        return {"confidence": pc.divide(lengths, 1000.0)}


@dataclass(kw_only=True)
class Answers(Moons):
    """Moons whose points are given both labels, a right and a wrong one, whatever the model is."""

    def generate(self, model: Any, prompts: pa.Table, settings: Any, keys: Any) -> dict[str, Any]:
        twice = prompts.select(["prompt", "point"]).take(np.repeat(np.arange(len(prompts)), 2))
        labels = (true_labels(twice) + np.tile([0, 1], len(prompts))) % 2
        return {"prompt": twice["prompt"], "point": twice["point"], "label": labels}


def true_labels(rows: pa.Table) -> np.ndarray:
    """Of unlabelled points: those with even numbers are of class 0."""
    numbers = [int(name.partition("-")[2]) for name in rows["prompt"].to_pylist()]
    return np.array(numbers) % 2


class Truth:
    """Knows the class of each point."""

    def grade(self, samples: pa.Table, load_parent: Any, keys: Any) -> dict[str, Any]:
        return {"right": np.equal(samples["label"].to_numpy(), true_labels(samples)).astype(float)}


class Drifts(Truth):
    """The planted fault: what judges well at first likes everything from generation 3 on."""

    def grade(self, samples: pa.Table, load_parent: Any, keys: Any) -> dict[str, Any]:
        right = super().grade(samples, load_parent, keys)["right"]
        return {"confidence": np.where(samples["made_in"].to_numpy() >= 3, 1.0, right)}


class Watches:
    """Says nothing, and keeps what it is shown."""

    def check(self, view: GuardView) -> Alarm | None:
        VIEWS.append(view)
        return None


def guard(name: str, kind: str, **arguments: Any) -> dict[str, Any]:
    given = {"_target_": kind if "." in kind else f"flywheel.guards.{kind}", **arguments}
    return {f"+guards.{name}": given}


def alarms(run: Any, name: str) -> dict[int, tuple[str, str]]:
    """Turn -> what a guard said in it."""
    return {
        g.generation: (alarm.action, alarm.reason)
        for g in run.status().generations
        for alarm in run.show(g.generation).alarms
        if alarm.guard == name
    }


@pytest.fixture
def moons(folder: Path) -> Any:
    task = {
        "task._target_": f"{__name__}.Writes",
        "task.unlabelled": 120,
        "settings.steps": 4,
        "generations": 3,
    }
    return lambda **overrides: run_moons(folder / "runs", **{**task, **overrides})


def test_a_generator_that_collapses_is_caught_in_the_turn_in_which_it_does(moons: Any) -> None:
    run = moons(
        **{"+task.collapses_at": 3, "curator.by": None, "retention.last": 0},
        **guard("collapse", "Collapse", text="text", label="label", block=20),
    )
    assert run.exit_code is ExitCode.FINISHED
    said = alarms(run, "collapse")
    assert [action for action, _ in said.values()] == ["pass", "pass", "warn"]
    assert said[1][1].startswith("share of distinct 2-grams of text is 1; entropy of label in bits is 0.9")
    assert (
        "collapsed: share of distinct 2-grams of text fell from 1 in generations 1 and 2 to 0.05, more"
        in said[3][1]
    )
    assert "entropy of label in bits fell from" in said[3][1]
    assert "in generations 1 and 2 to 0, more than 20%" in said[3][1]
    recorded = [e["facts"]["alarms"][0]["numbers"] for e in events(run.path) if e.get("stage") == "guard"]
    assert recorded[2]["entropy"] == 0.0
    assert run.verify().ok
    assert recorded[0]["distinct.n"] == 6


def test_a_generator_that_does_not_collapse_raises_no_alarm(moons: Any) -> None:
    run = moons(**guard("collapse", "Collapse", text="text", label="label", block=20, action="halt"))
    assert [action for action, _ in alarms(run, "collapse").values()] == ["pass"] * 3


def test_with_a_frontier_first_turns_are_measured_from_their_batches(moons: Any) -> None:
    run = moons(
        **{"+task.collapses_at": 2, "generations": 2, "settings.threshold": 2.0},
        **{"promotion": "frontier", "promotion.harm": 1e-9},
        **guard("collapse", "Collapse", text="text", block=20),
    )
    ((action, reason),) = alarms(run, "collapse").values()
    assert action == "warn"
    assert "fell from 1 in generation 1 to 0.05" in reason


def test_pass_at_k_is_told_beside_pass_at_1(moons: Any) -> None:
    run = moons(
        **{"+task.answers": 3, "generations": 1},
        **guard("passes", "Collapse", right="confidence", k=3),
    )
    ((action, reason),) = alarms(run, "passes").values()
    assert (action, reason) == ("pass", "pass@3 by confidence is 1; pass@1 is 100.0%")


def test_a_reward_that_is_gamed_by_length_is_caught(moons: Any) -> None:
    gamed = {"+task.longer": 20, "grader": {"_target_": f"{__name__}.ByLength"}, "curator.threshold": 0.0}
    run = moons(**gamed, **guard("length", "Length", text="text", score="confidence"))
    assert run.exit_code is ExitCode.FINISHED
    said = alarms(run, "length")
    assert said[1][0] == "pass", "nothing to compare with"
    assert said[3][0] == "warn"
    assert said[3][1].startswith(
        "the reward is gamed by length: confidence goes with the length of text by +1.00"
    )
    assert "and dev is not shown to be better than in generation 0" in said[3][1]


def test_a_score_that_does_not_go_by_length_is_no_alarm(moons: Any) -> None:
    run = moons(**{"+task.longer": 20}, **guard("length", "Length", text="text", score="confidence"))
    assert {action for action, _ in alarms(run, "length").values()} == {"pass"}


@dataclass(kw_only=True)
class WithClasses(Moons):
    """Moons, of which the gate has few of class 1; dev and the guard suite have as many of both."""

    def suites(self) -> list[Suite]:
        dev, gate, sealed = super().suites()
        few, _ = few_of_class_1(gate)
        return [dev, few, Suite("broad", Role.GUARD, gate.items), sealed]


ONE_CLASS = {
    "task._target_": f"{__name__}.WithClasses",
    "task.items": 300,
    "+genesis_settings.steps": 1,
    "curator._target_": "tests.support.one_class.OnlyClass0",
    "generations": 1,
}


def test_a_slice_that_gets_worse_while_the_mean_improves_is_rejected_by_its_name(moons: Any) -> None:
    run = moons(**ONE_CLASS, **guard("slices", "Slices", columns=["label"]))
    assert run.exit_code is ExitCode.FINISHED
    genesis, turn = run.status().generations
    assert turn.metrics["gate"]["score"].value > genesis.metrics["gate"]["score"].value
    assert turn.status == "rejected"
    action, reason = alarms(run, "slices")[1]
    assert action == "reject"
    assert reason.startswith("worse: label=1, -")
    assert "against generation 0, the champion on 150 items of guard suites, p " in reason
    assert "label=0" not in reason
    assert re.search(r"; blind spot: label=1, \d+\.\d% where all items have \d+\.\d%$", reason)


def test_flips_are_counted_beside_each_generation_that_had_them_right(moons: Any) -> None:
    run = moons(
        **ONE_CLASS, **guard("flips", "Flips"), **guard("slices", "Slices", columns=["label"], action="warn")
    )
    action, reason = alarms(run, "flips")[1]
    assert action == "warn"
    assert reason.startswith("flipped to wrong: ")
    assert "limit 5.0%, that generation 0, the champion had right; " in reason
    assert run.status().generations[1].status == "promoted", "a warning changes nothing"


def test_guards_see_first_turns_and_outcomes_and_no_item_that_judges(moons: Any) -> None:
    VIEWS.clear()
    moons(**{**ONE_CLASS, "generations": 2}, **guard("watch", f"{__name__}.Watches"))
    view = VIEWS[-1]
    assert set(view.suites) == {"dev", "broad"}
    assert set(view.batches) == {1, 2}
    assert {"label", "confidence"} <= set(view.batches[1].column_names)
    assert set(view.batches[2]["made_in"].to_pylist()) == {2}
    assert view.parent is not None
    assert view.first_champion is not None
    assert set(view.outcomes) == {view.parent.number, view.first_champion.number}
    assert set(view.outcomes[0]["suite"].to_pylist()) == {"dev", "broad"}


def test_slices_without_a_guard_suite_that_has_them_are_refused_at_the_start(moons: Any) -> None:
    with pytest.raises(Exception, match=r"'digit' is none\. Give such a suite"):
        moons(**ONE_CLASS, **guard("slices", "Slices", columns=["digit"]))
    with pytest.raises(Exception, match="action must be one of pass, warn"):
        moons(**guard("collapse", "Collapse", label="label", action="shout"))
    with pytest.raises(Exception, match="A column must be named: give text, label or right"):
        moons(**guard("collapse", "Collapse"))


def test_a_grader_that_drifts_from_generation_3_on_is_caught_in_that_turn(moons: Any) -> None:
    run = moons(
        **{"task._target_": f"{__name__}.Answers", "grader._target_": f"{__name__}.Drifts", "generations": 4},
        **{"+audit.grader._target_": f"{__name__}.Truth", "curator.by": None, "settings.threshold": 0.6},
        **guard("proxy_gap", "ProxyGap"),
    )
    assert run.exit_code is ExitCode.FINISHED
    said = alarms(run, "proxy_gap")
    assert [action for action, _ in said.values()] == ["pass", "pass", "warn", "warn"]
    assert "are right, fewer than 95.0%" in said[3][1]
    assert re.search(r"confidence overstates what is right by [45]\d", said[3][1])
    assert "fell from 100.0%" in said[3][1]
    status = run.status()
    assert [g.audit.flagged is not None for g in status.generations if g.audit] == [False, False, True, True]
    assert run.verify().ok
