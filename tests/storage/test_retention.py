"""What a policy drops, on ledgers that were never run."""

from __future__ import annotations

from itertools import chain
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from flywheel.storage.accountant import level_due
from flywheel.storage.policy import Policy
from flywheel.storage.retention import Retention, plan
from flywheel.storage.state import RunState, Status
from tests.support.events import event_of

OUTPUTS = {
    "generate": ["samples"],
    "grade": ["scores"],
    "curate": ["decisions", "corpus", "sources"],
    "train": ["weights"],
    "screen": ["screened"],
    "evaluate": ["outcomes"],
}


def batch(number: int) -> list[str]:
    return [f"samples{number}", f"scores{number}"]


class Writer:
    """Writes what a loop would, with made-up names of artifacts: ``weights3`` is generation 3's."""

    def __init__(self, **promotion: Any) -> None:
        self.state, self.seq = RunState(), 0
        self.sources: dict[str, list[list[str]]] = {}
        if promotion:
            self.add("run_created", config={"promotion": promotion})

    def json(self, name: str) -> list[list[str]]:
        return self.sources[name]

    def add(self, name: str, **content: Any) -> None:
        self.state.apply(event_of(name, seq=self.seq, **content))
        self.seq += 1

    def stage(self, number: int, stage: str, inputs: dict[str, str] | None = None, **facts: Any) -> None:
        outputs = {name: f"{name}{number}" for name in OUTPUTS.get(stage, ())}
        content = {"inputs": inputs or {}, "outputs": outputs, "facts": facts}
        self.add("stage", generation=number, stage=stage, **content)

    def drawn_on(self, champion: int) -> list[list[str]]:
        """What the next turn on it may draw on: its sources, and what turns brought but promoted ones."""
        return [*self.json(f"sources{champion}"), *map(batch, self.state.generations[champion].turns)]

    def turn(self, status: Status) -> None:
        """One generation, its corpus drawn from the parent's sources and its own batch."""
        number, parent, champion = len(self.state.generations), self.state.frontier, self.state.champion
        weights = str(parent.weights) if parent else "none"
        self.add(
            "generation_started",
            generation=number,
            parent=parent and parent.number,
            champion=champion and champion.number,
        )
        self.sources[f"sources{number}"] = []
        if parent:
            self.stage(number, "generate", {"parent": weights})
            self.stage(number, "grade")
            self.sources[f"sources{number}"] = [*self.drawn_on(parent.number)[-2:], batch(number)]
        self.stage(number, "curate")
        self.stage(number, "train", {"start": weights} if parent else {})
        if parent and self.state.promotion.rule == "frontier":
            compared = [g.number for g in (champion, self.state.best_ahead) if g]
            against = [{"generation": other, "effect": 0.1, "p_value": 1.0} for other in compared]
            inputs = {"opponent": str(champion and champion.weights)}
            self.stage(number, "screen", inputs, advance=True, against=against)
            self.add("generation_ended", generation=number, status=status, reason="")
        else:
            self.look(number, status)

    def look(self, number: int, status: Status) -> None:
        champion = self.state.champion
        if champion:
            level = level_due(self.state)
            self.add("look", generation=number, number=len(self.state.looks) + 1, level=level)
        self.stage(number, "evaluate", {"opponent": str(champion.weights)} if champion else {})
        if champion:
            self.stage(number, "gate", verdict={"promote": True, "level": level})
        self.stage(number, "review", consent=True)
        self.add("generation_ended", generation=number, status=status, reason="")

    def step(self, step: str) -> None:
        """A turn that ends so, or a look at the frontier (``look STATUS``), if it can be looked at."""
        status, frontier = Status(step.split()[-1]), self.state.frontier
        if self.state.must_fall_back:
            ahead = tuple(generation.number for generation in self.state.ahead)
            self.add(
                "fell_back", champion=self.state.champion and self.state.champion.number, generations=ahead
            )
        elif step.startswith("look") and frontier and self.state.is_look_due(is_over=True):
            return self.look(frontier.number, status)
        return self.turn(Status.ADVANCED if step.startswith("look") else status)

    def prune(self, policy: Policy) -> list[str]:
        names = [drop.name for drop in plan(self, self.state, policy)]
        if names:
            self.add("pruned", policy=policy.json(), objects=dict.fromkeys(names, 1), slim={})
        return names


def run_of(*steps: str, **promotion: Any) -> Writer:
    writer = Writer(**promotion)
    writer.turn(Status.PROMOTED)
    for step in steps:
        writer.step(step)
    return writer


verdicts = st.sampled_from(["promoted", "rejected", "failed"])
LOOKS = ["look promoted", "look advanced", "look failed"]
steps = st.sampled_from(["advanced", "advanced", "rejected", "failed", *LOOKS])
FRONTIER = {"rule": "frontier", "every": 1, "patience": 2, "harm": 0.05}
policies = st.builds(Policy, promoted=st.booleans(), last=st.integers(0, 3))


@given(st.lists(st.tuples(verdicts, st.none() | policies), max_size=12))
def test_a_run_goes_on_whatever_was_pruned_on_the_way(turns: list[tuple[str, Policy | None]]) -> None:
    check_a_run_goes_on(run_of(), turns)


@given(st.lists(st.tuples(steps, st.none() | policies), max_size=16))
def test_a_frontier_goes_on_whatever_was_pruned_on_the_way(turns: list[tuple[str, Policy | None]]) -> None:
    check_a_run_goes_on(run_of(**FRONTIER), turns)


def check_a_run_goes_on(writer: Writer, turns: list[tuple[str, Policy | None]]) -> None:
    """``Writer.turn`` reads what a loop reads; that a pruned object is read is against the state's rules."""
    state = writer.state
    for step, policy in turns:
        writer.step(step)
        if policy:
            writer.prune(policy)
            assert writer.prune(policy) == []
        for champion in filter(state.can_be_frontier, state.generations):
            assert not state.pruned.keys() & {*chain(*writer.drawn_on(champion.number))}
    assert state.champion is not None
    assert state.first_champion is not None
    assert state.frontier is not None
    used = (state.champion, state.first_champion, state.frontier)
    assert not {generation.weights for generation in used} & state.pruned.keys()
    assert not {name for name in state.pruned if name.startswith(("corpus", "outcomes"))}


@given(st.lists(verdicts, max_size=12), policies)
def test_what_is_kept_up_to_date_is_what_is_planned_anew(turns: list[str], policy: Policy) -> None:
    check_up_to_date(run_of(), turns, policy)


@given(st.lists(steps, max_size=16), policies)
def test_what_a_frontier_keeps_up_to_date_is_what_is_planned_anew(turns: list[str], policy: Policy) -> None:
    check_up_to_date(run_of(**FRONTIER), turns, policy)


def test_a_frontier_that_the_look_ahead_of_it_failed_is_kept_again() -> None:
    check_up_to_date(run_of(**FRONTIER), ["advanced", "advanced", "look failed", "failed"], Policy())


def check_up_to_date(writer: Writer, turns: list[str], policy: Policy) -> None:
    session = Retention(writer, writer.state, policy)
    for step in turns:
        writer.step(step)
        anew = plan(writer, writer.state, policy)
        assert session.drops() == anew
        if anew:
            writer.prune(policy)
        assert session.drops() == []


def test_a_generation_that_stays_whole_has_its_parents_weights_whatever_it_started_from() -> None:
    run = run_of("promoted")
    run.add("generation_started", generation=2, parent=1, champion=1)
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


def test_a_generation_under_way_keeps_all_it_may_read_until_it_has_ended() -> None:
    run = run_of("rejected", "promoted", "rejected")
    run.add("generation_started", generation=4, parent=2, champion=2)
    run.stage(4, "generate")
    session = Retention(run, run.state, Policy())
    assert {drop.name for drop in session.drops()} == {"weights1", "decisions1", "weights3", "decisions3"}
    run.add("generation_ended", generation=4, status=Status.FAILED, reason="")
    assert [drop.name for drop in session.drops()] == ["samples4"]
