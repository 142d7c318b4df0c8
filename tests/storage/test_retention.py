"""What a policy drops, on ledgers that were never run."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.errors import DamagedError
from flywheel.storage.policy import Policy
from flywheel.storage.retention import Retention, plan
from flywheel.storage.state import RunState, Status
from tests.support.events import event_of

OUTPUTS = {
    "generate": ["samples"],
    "grade": ["scores"],
    "curate": ["decisions", "corpus", "sources"],
    "train": ["weights"],
    "evaluate": ["outcomes"],
}


def batch(number: int) -> list[str]:
    return [f"samples{number}", f"scores{number}"]


class Writer:
    """Writes what a loop would, with made-up names of artifacts: ``weights3`` is generation 3's."""

    def __init__(self) -> None:
        self.state, self.seq = RunState(), 0
        self.sources: dict[str, list[list[str]]] = {}

    def json(self, name: str) -> list[list[str]]:
        """As a store: the sources of a corpus."""
        return self.sources[name]

    def add(self, name: str, **content: Any) -> None:
        self.state.apply(event_of(name, seq=self.seq, **content))
        self.seq += 1

    def stage(self, number: int, stage: str, inputs: dict[str, str] | None = None, **facts: Any) -> None:
        outputs = {name: f"{name}{number}" for name in OUTPUTS.get(stage, ())}
        content = {"inputs": inputs or {}, "outputs": outputs, "facts": facts}
        self.add("stage", generation=number, stage=stage, **content)

    def drawn_on(self, champion: int) -> list[list[str]]:
        """What the next turn on a champion may draw on: its sources, and what its rejected turns brought."""
        turns = [g for g in self.state.generations if g.parent == champion and g.status is Status.REJECTED]
        return [*self.json(f"sources{champion}"), *(batch(turn.number) for turn in turns)]

    def turn(self, status: Status) -> None:
        """One generation, its corpus drawn from the champion's sources and its own batch."""
        number, parent = len(self.state.generations), self.state.champion
        weights = str(parent.weights) if parent else "none"
        self.add("generation_started", generation=number, parent=parent and parent.number)
        self.sources[f"sources{number}"] = []
        if parent:
            self.stage(number, "generate", {"parent": weights})
            self.stage(number, "grade")
            self.sources[f"sources{number}"] = [*self.drawn_on(parent.number)[-2:], batch(number)]
        self.stage(number, "curate")
        self.stage(number, "train", {"start": weights} if parent else {})
        self.stage(number, "evaluate", {"opponent": weights} if parent else {})
        if parent:
            self.add("look", generation=number, number=len(self.state.looks) + 1)
            self.stage(number, "gate", verdict={"promote": True})
        self.stage(number, "review", consent=True)
        self.add("generation_ended", generation=number, status=status, reason="")

    def prune(self, policy: Policy) -> list[str]:
        names = [drop.name for drop in plan(self, self.state, policy)]
        if names:
            self.add("pruned", policy=policy.json(), objects=dict.fromkeys(names, 1), slim={})
        return names


def run_of(*statuses: str) -> Writer:
    writer = Writer()
    for status in ("promoted", *statuses):
        writer.turn(Status(status))
    return writer


verdicts = st.sampled_from(["promoted", "rejected", "failed"])
policies = st.builds(Policy, promoted=st.booleans(), last=st.integers(0, 3))


@given(st.lists(st.tuples(verdicts, st.none() | policies), max_size=12))
def test_a_run_goes_on_whatever_was_pruned_on_the_way(turns: list[tuple[str, Policy | None]]) -> None:
    """``Writer.turn`` reads what a loop reads; that a pruned object is read is against the state's rules."""
    writer = run_of()
    state = writer.state
    for status, policy in turns:
        writer.turn(Status(status))
        if policy:
            writer.prune(policy)
            assert writer.prune(policy) == []
        for champion in filter(state.can_be_champion, state.generations):
            assert not state.pruned.keys() & {*chain(*writer.drawn_on(champion.number))}
    assert state.champion is not None
    assert state.first_champion is not None
    assert not {state.champion.weights, state.first_champion.weights} & state.pruned.keys()
    assert not {name for name in state.pruned if name.startswith(("corpus", "outcomes"))}


@given(st.lists(verdicts, max_size=12), policies)
def test_what_is_kept_up_to_date_is_what_is_planned_anew(turns: list[str], policy: Policy) -> None:
    writer = run_of()
    session = Retention(writer, writer.state, policy)
    for status in turns:
        writer.turn(Status(status))
        anew = plan(writer, writer.state, policy)
        assert session.drops() == anew
        if anew:
            writer.prune(policy)
        assert session.drops() == []


def test_a_generation_that_stays_whole_has_its_parents_weights_whatever_it_started_from() -> None:
    run = run_of("promoted")
    run.add("generation_started", generation=2, parent=1)
    run.stage(2, "train", start={"kind": "fresh"})
    run.add("generation_ended", generation=2, status=Status.FAILED, reason="")
    run.add("rolled_back", champion=0, why="")
    assert [drop.name for drop in plan(run, run.state, Policy(last=1))] == ["decisions1"]
    assert "weights1" in [drop.name for drop in plan(run, run.state, Policy())]


@given(st.lists(verdicts, max_size=9), policies)
def test_a_policy_that_keeps_more_drops_less(turns: list[str], policy: Policy) -> None:
    run = run_of(*turns)
    dropped = {drop.name for drop in plan(run, run.state, policy)}
    more = Policy(promoted=True, last=policy.last + 1)
    assert {drop.name for drop in plan(run, run.state, more)} <= dropped
    assert dropped <= {drop.name for drop in plan(run, run.state, Policy())}


def test_a_rejected_generation_goes_once_nothing_draws_on_its_batch() -> None:
    waiting = run_of("rejected", "rejected")
    assert waiting.prune(Policy()) == ["weights1", "decisions1", "weights2", "decisions2"]
    later = run_of("promoted", "rejected", *["promoted"] * 5)
    assert "samples2" in later.prune(Policy())


def test_no_turn_draws_on_the_batch_of_one_that_is_recalled() -> None:
    run = run_of("rejected", "failed")
    assert not {"samples1", "scores1"} & {drop.name for drop in plan(run, run.state, Policy())}
    run.add("recalled", generations=[1], suspect=[], samples="recalled", champion=0, carry={})
    assert {"samples1", "scores1"} <= {drop.name for drop in plan(run, run.state, Policy())}


def test_what_was_rejected_on_the_first_champion_stays_as_long_as_one_may_go_back_to_it() -> None:
    assert "samples1" not in run_of("rejected", *["promoted"] * 5).prune(Policy())


def test_what_a_kept_generation_was_made_from_stays() -> None:
    writer = run_of(*["promoted"] * 6)
    gone = writer.prune(Policy(last=2))
    assert {"weights5", "weights4", "samples4", "scores4"}.isdisjoint(gone)
    assert {"weights3", "samples1", "scores1", "decisions1"} <= set(gone)


def test_a_generation_under_way_keeps_all_it_may_read() -> None:
    writer = run_of("rejected", "promoted", "rejected")
    writer.add("generation_started", generation=4, parent=2)
    assert set(writer.prune(Policy())) == {"weights1", "decisions1", "weights3", "decisions3"}


@pytest.mark.parametrize(
    ("name", "rule"), [("weights0", "champions' weights stay"), ("weights1", "what is pruned is there")]
)
def test_champions_are_never_pruned_and_nothing_twice(name: str, rule: str) -> None:
    writer = run_of("rejected")
    assert "weights1" in writer.prune(Policy())
    with pytest.raises(DamagedError, match=rule):
        writer.add("pruned", objects={name: 1}, slim={})


def test_a_stage_cannot_have_read_what_was_pruned() -> None:
    writer = run_of("rejected")
    writer.prune(Policy())
    writer.add("generation_started", generation=2, parent=0)
    with pytest.raises(DamagedError, match="what was pruned cannot be used, as weights1 was"):
        writer.stage(2, "generate", {"parent": "weights1"})


@pytest.mark.parametrize("objects", [{"weights1": 1, "slim2": 1}, {"weights1": 1, "decisions1": 1}])
def test_what_stands_in_for_something_is_never_pruned(objects: dict[str, int]) -> None:
    writer = run_of("rejected", "rejected")
    writer.add("pruned", objects={"decisions2": 1}, slim={"decisions2": "slim2"})
    with pytest.raises(DamagedError, match="what stands in for something stays"):
        writer.add("pruned", objects=objects, slim={"samples1": "decisions1"})


def test_what_comes_to_stand_in_for_something_is_no_longer_pruned() -> None:
    writer = run_of("rejected", "rejected")
    writer.add("pruned", objects={"decisions1": 1}, slim={})
    writer.add("pruned", objects={"decisions2": 1}, slim={"decisions2": "decisions1"})
    assert writer.state.pruned.keys() == {"decisions2"}
    assert {writer.state.resolve_pruned(f"decisions{n}") for n in (1, 2)} == {"decisions1"}


def test_what_is_made_again_is_no_longer_pruned() -> None:
    writer = run_of("rejected")
    writer.prune(Policy())
    writer.add("generation_started", generation=2, parent=0)
    writer.add("stage", generation=2, stage="train", outputs={"weights": "weights1"})
    assert "weights1" not in writer.state.pruned
