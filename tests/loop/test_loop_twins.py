"""Retention and prune are operational: a run and its twin without them stay the same.

Histories are drawn: verdicts, failures, stops, recalls and rollbacks that both allow, and prunes of the one.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.errors import StageFailed
from flywheel.lineage.recall import recall, rollback
from flywheel.lineage.status import read_state
from flywheel.storage.pruning import prune
from flywheel.storage.store import Store
from flywheel.storage.verify import verify
from tests.support.fake_stages import KEEP_ALL, on_strings, play
from tests.support.loop_runs import quick_folder

POLICIES = [
    {"promoted": promoted, "last": last}
    for promoted, last in ((False, 0), (True, None), (False, 1), (False, 2), (True, 1), (True, 3))
]


@pytest.fixture(autouse=True, scope="module")
def fakes():
    with on_strings():
        yield


def history(directory: Path) -> dict[str, Any]:
    """All that a later turn, or a person, would go by; what may be pruned is in it by its name only."""
    state = read_state(directory)
    return {
        "champion": state.champion and state.champion.number,
        "frontier": state.frontier and state.frontier.number,
        "looks": (len(state.looks), state.looks_in_vain, state.turns_since_look),
        "carries": state.carries,
        "recalled": state.recalled,
        "counts": (state.ended_turns, state.turns_without_promotion),
        "generations": [
            (g.number, g.parent, str(g.status), g.reason, g.recalled, g.suspect, g.init, g.carry_before)
            for g in state.generations
        ],
        "made": [
            (g.number, stage, event.inputs, event.outputs, event.facts)
            for g in state.generations
            for stage, event in g.stages.items()
        ],
    }


def everything_is_answered(directory: Path) -> None:
    state, store = read_state(directory), Store(directory)
    for generation in state.generations:
        for stage, output in (("generate", "samples"), ("curate", "decisions")):
            if name := generation.output(stage, output):
                assert "id" in store.table(state.resolve_pruned(name)).column_names
    assert verify(directory).first_bad is None


class Twins:
    """Two runs: the first keeps everything, the second what its policy says."""

    def __init__(self, folder: Path, draw: random.Random, policy: dict[str, Any]) -> None:
        self.whole, self.slim, self.draw, self.policy = (
            folder / "a" / "run",
            folder / "b" / "run",
            draw,
            policy,
        )
        self.seed, self.turns, self.leaves = draw.randrange(10**6), 0, dict[tuple[int, str], Exception]()
        frontier = {
            "rule": "frontier",
            "every": draw.randint(1, 3),
            "patience": draw.randint(1, 2),
            "harm": 0.05,
        }
        self.promotion = draw.choice([{}, frontier, frontier])
        self.advances = {number: draw.random() < 0.8 for number in range(40)}

    def play(self) -> None:
        self.turns += self.draw.randint(1, 6)
        if self.draw.random() < 0.3:
            number, stage = self.draw.randrange(20), self.draw.choice(["train", "screen", "review"])
            self.leaves[number, stage] = StageFailed(stage, "drawn")
        stages = self.draw.choice([None, None, self.draw.randint(1, 30)])
        given = {"seed": self.seed, "on_failure": "go_on", "leaves": self.leaves, "stages": stages}
        given |= {"promotion": self.promotion, "advances": self.advances}
        play(self.whole, self.turns, **given)
        play(self.slim, self.turns, retention=self.policy, **given)

    def recall(self) -> None:
        count = len(read_state(self.whole).generations)
        flaw = {"generation": self.draw.randrange(count), "strict": self.draw.random() < 0.2}
        dry = [recall(run, why="drawn", **flaw).json() for run in (self.whole, self.slim)]
        dry = [(report["champion"], report["frontier"]) for report in dry]
        if dry[0] == dry[1]:
            for run in (self.whole, self.slim):
                recall(run, why="drawn", yes=True, **flaw)

    def roll_back(self) -> None:
        state = read_state(self.slim)
        fit = [g.number for g in state.generations if state.can_be_champion(g) and g is not state.champion]
        if fit:
            number = self.draw.choice(fit)
            for run in (self.whole, self.slim):
                rollback(run, number, "drawn")

    def prune(self) -> None:
        prune(self.slim, **self.draw.choice(POLICIES), yes=True)


@settings(max_examples=8)
@given(st.integers(0, 10**9))
def test_twins_stay_the_same(seed: int) -> None:
    check_twins(seed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(max_examples=100)
@given(st.integers(0, 10**9))
def test_many_twins_stay_the_same(seed: int) -> None:
    check_twins(seed)


def check_twins(seed: int) -> None:
    draw = random.Random(seed)
    with quick_folder() as folder:
        twins = Twins(folder, draw, draw.choice([KEEP_ALL, *POLICIES]))
        twins.play()
        for _ in range(6):
            step = draw.choice([twins.play, twins.play, twins.recall, twins.roll_back, twins.prune])
            step()
            assert history(twins.whole) == history(twins.slim), step.__name__
        everything_is_answered(twins.slim)
        everything_is_answered(twins.whole)


def test_a_rollback_draws_on_what_was_rejected_before_it(tmp_path: Path) -> None:
    """The case that was found: the batches of turns rejected on a champion that was followed by another."""
    verdicts = {0: True, 1: False, 2: False, 3: True, 4: True, 5: False}
    for name, policy in (("a", KEEP_ALL), ("b", {"promoted": True, "last": 1})):
        play(tmp_path / name, 5, verdicts=verdicts, retention=policy)
        rollback(tmp_path / name, 0, "a test")
        play(tmp_path / name, 7, verdicts=verdicts, retention=policy)
    curated = [read_state(tmp_path / name).generations[6].stages["curate"] for name in "ab"]
    assert curated[0].inputs == curated[1].inputs
    batches = [samples for samples, *_ in Store(tmp_path / "a").json(curated[0].inputs["sources"])]
    state = read_state(tmp_path / "a")
    assert {state.generations[n].output("generate", "samples") for n in (1, 2)} <= set(batches)
