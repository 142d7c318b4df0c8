"""Of the gate's scores, what people and parts see is limited by the Ladder; the outcomes have all."""

from __future__ import annotations

import numpy as np
import pytest

import flywheel
from flywheel.keys import Key
from flywheel.metrics.ladder import is_step
from flywheel.protocols import GuardView
from flywheel.records import Differences
from flywheel.stages.generate import draw_prompts
from flywheel.storage.store import Store
from flywheel.testing.moons.task import Moons
from tests.support.harness import events
from tests.support.loop_runs import Probe

LOSES = {"+gate.promote": False}
PAIRED = {"gate._target_": "flywheel.gates.Paired"}


class SeesNoGate:
    """A guard that fails if it is given outcomes on the gate's items."""

    def check(self, view: GuardView) -> None:
        suites = [set(table["suite"].to_pylist()) for table in (view.candidate, view.champion)]
        assert suites == [{"dev"}, {"dev"}], suites


def raw_scores(run: flywheel.Run, number: int) -> np.ndarray:
    """The scores of a generation on the gate's items."""
    table = Store(run.path).table(run.generation(number).record.output("evaluate", "outcomes"))
    return table["score"].to_numpy()[np.equal(table["suite"].to_numpy(), "gate")]


def test_a_gate_figure_changes_only_with_a_clear_step(probe: Probe) -> None:
    run = probe(generations=4, genesis="fresh", **LOSES)
    levels = [event["level"] for event in events(run.path, event="look") if "level" in event]
    facts = [event["facts"] for event in events(run.path, stage="evaluate")]
    last, rose = 0, []
    for number in range(1, 5):
        scores, best = raw_scores(run, number), raw_scores(run, last)
        if is_step(Differences(scores - best, np.arange(len(scores))), levels[number - 1]):
            last = number
            rose.append(number)
        assert facts[number]["metrics"]["gate"] == facts[last]["metrics"]["gate"]
        assert facts[number].get("repeated", []) == ([] if last == number else ["gate"])
        assert facts[last]["metrics"]["gate"]["accuracy"]["value"] == pytest.approx(
            raw_scores(run, last).mean()
        )
    hidden = [
        n for n in range(1, 5) if n not in rose and raw_scores(run, n).mean() != raw_scores(run, last).mean()
    ]
    assert rose, "a trained model is a step up from one that is not"
    assert hidden, "a score that is not a step up is not shown"
    shown = {g.generation: g.metrics["gate"]["accuracy"].value for g in run.status().generations}
    assert shown[hidden[0]] == facts[hidden[0]]["metrics"]["gate"]["accuracy"]["value"]


def test_what_was_shown_last_is_so_in_the_next_session_too(probe: Probe) -> None:
    probe(generations=1, **LOSES)
    run = probe(generations=2, **LOSES)
    whole = [e["facts"] for e in events(run.path, stage="evaluate")]
    assert whole[2]["metrics"]["gate"] in [facts["metrics"]["gate"] for facts in whole[:2]] or (
        "repeated" not in whole[2]
    )
    assert run.status().state == "finished"


def test_a_rejection_does_not_tell_by_how_much(probe: Probe) -> None:
    run = probe(generations=1, init="parent", **PAIRED, **{"settings.steps": 1})
    generation = run.status().generations[1]
    verdict = run.generation(1).record.gate.facts.verdict
    assert not verdict.promote
    assert generation.reason.startswith("not shown to be better on ")
    assert set(verdict.numbers) == {"test", "n"}


def test_guards_are_given_no_outcomes_on_the_gates_items(probe: Probe) -> None:
    run = probe(generations=1, **{"+guards.blind._target_": f"{__name__}.SeesNoGate"})
    assert run.status().state == "finished"


def test_prompts_are_drawn_without_the_gates_carry() -> None:
    class Watches(Moons):
        def prompts(self, generation, carry, key):
            assert carry == {"curator": {"level": 3}}
            return super().prompts(generation, carry, key)

    carry = {"curator": {"level": 3}, "gate": {"ratings": [1]}}
    assert len(draw_prompts(Watches(), 1, carry, Key.root(0), None))
