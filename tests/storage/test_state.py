from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from flywheel.errors import DamagedError
from flywheel.storage import ledger
from flywheel.storage.events import Event
from flywheel.storage.state import ENDINGS, RunState, RunStateName, Status
from tests.support.events import event_of

VERDICTS = (Status.PROMOTED, Status.REJECTED, Status.FAILED)
SCRIPTS = st.lists(st.sampled_from(VERDICTS), max_size=6)


def started(number: int, parent: int | None = None) -> Event:
    return event_of("generation_started", generation=number, parent=parent)


def stage(number: int, name: str, **facts: Any) -> Event:
    outputs = {"weights": f"w{number}"} if name == "train" else {}
    content = {"outputs": outputs, "facts": facts, "cost": {"seconds": 1.5}}
    return event_of("stage", generation=number, stage=name, **content)


def ended(number: int, status: str, carry: dict[str, str] | None = None, **more: Any) -> Event:
    content = {"status": status, "reason": f"because {number}", "carry": carry or {}, **more}
    return event_of("generation_ended", generation=number, **content)


def evidence(number: int, look: int | None = None) -> list[Event]:
    """What a promotion needs: weights, of a turn the look, the gate's verdict, consent.

    ``look``: its number, by default the generation's, as if all turns before it were looked at; 0: none.
    """
    trained, number_of_look = (
        stage(number, "train", start={"kind": "fresh"}),
        number if look is None else look,
    )
    looks = [event_of("look", generation=number, number=number_of_look)] if number_of_look else []
    verdicts = [*looks, stage(number, "gate", verdict={"promote": True})] if number_of_look else []
    return [trained, *verdicts, stage(number, "review", consent=True)]


def earned(number: int, look: int | None = None) -> list[Event]:
    """A promotion as the loop records it."""
    return [*evidence(number, look), ended(number, "promoted")]


def chained(*events: Event) -> list[Event]:
    return [replace(event, seq=seq) for seq, event in enumerate(events)]


def carry_of(number: int) -> dict[str, str]:
    """What a generation leaves; one that names no tuner leaves that one's carry as it is."""
    return {"gate": f"gate{number}"} | ({"tuner": f"tuner{number}"} if number % 2 else {})


def script(verdicts: list[Status]) -> list[Event]:
    """A run whose generations end like this."""
    events: list[Event] = [event_of("run_created"), event_of("session_started")]
    champion, looks = None, 0
    for number, verdict in enumerate(verdicts):
        looks += champion is not None
        judged = evidence(number, looks if champion is not None else 0)
        events += [started(number, champion), *judged, ended(number, verdict, carry_of(number))]
        champion = number if verdict is Status.PROMOTED else champion
    return chained(*events)


class Transitions(RuleBasedStateMachine):
    """Whatever is tried, a verdict is given once and stays."""

    @initialize()
    def begin(self) -> None:
        self.state = RunState.replay(chained(event_of("run_created")))
        self.expected: list[Status] = []
        self.seq = 1

    def apply(self, event: Event) -> None:
        self.state.apply(replace(event, seq=self.seq))
        self.seq += 1

    @precondition(lambda self: not self.expected or self.expected[-1] is not Status.UNFINISHED)
    @rule()
    def start(self) -> None:
        promoted = [n for n, status in enumerate(self.expected) if status is Status.PROMOTED]
        self.apply(started(len(self.expected), promoted[-1] if promoted else None))
        for event in evidence(len(self.expected), len(self.state.looks) + 1 if promoted else 0):
            self.apply(event)
        self.expected.append(Status.UNFINISHED)

    @precondition(lambda self: self.expected)
    @rule(data=st.data(), status=st.sampled_from(Status))
    def end(self, data: st.DataObject, status: Status) -> None:
        number = data.draw(st.integers(0, len(self.expected) - 1))
        if self.expected[number] is Status.UNFINISHED and status in VERDICTS:
            self.apply(ended(number, status))
            self.expected[number] = status
            return
        before = repr(self.state)
        with pytest.raises(DamagedError, match=f"says generation_ended {status} of generation {number}"):
            self.apply(ended(number, status))
        assert repr(self.state) == before

    @invariant()
    def statuses_are_as_expected(self) -> None:
        assert [g.status for g in self.state.generations] == self.expected
        running = self.expected[-1:] == [Status.UNFINISHED]
        assert (self.state.current is not None) == running


TestTransitions = Transitions.TestCase
TestTransitions.settings = settings(max_examples=25, stateful_step_count=20)


@given(SCRIPTS, st.data())
def test_a_replay_may_be_interrupted_anywhere(verdicts: list[Status], data: st.DataObject) -> None:
    events = script(verdicts)
    cut = data.draw(st.integers(0, len(events)))
    state = RunState.replay(events[:cut])
    for event in events[cut:]:
        state.apply(event)
    assert state == RunState.replay(events)


@given(SCRIPTS, st.integers(0, 3), st.sampled_from(["stop", "go_on"]))
def test_what_a_run_is_follows_from_its_verdicts(
    verdicts: list[Status], generations: int, on_failure: str
) -> None:
    """Turns have a champion before them; it is the last that was promoted, and carries are the last left."""
    state = RunState.replay(script(verdicts))
    promoted = [number for number, verdict in enumerate(verdicts) if verdict is Status.PROMOTED]
    assert (state.champion and state.champion.number) == (promoted[-1] if promoted else None)
    assert (state.first_champion and state.first_champion.number) == (promoted[0] if promoted else None)
    assert state.turns_without_promotion == (len(verdicts) - 1 - promoted[-1] if promoted else 0)
    counted = VERDICTS if on_failure == "go_on" else VERDICTS[:2]
    turns = [verdict for verdict in verdicts[promoted[0] + 1 :] if verdict in counted] if promoted else []
    over = "generations" if promoted and len(turns) >= generations else None
    assert state.is_over(generations, None, on_failure) == over
    carries: dict[str, str] = {}
    for number in range(len(verdicts)):
        carries |= carry_of(number)
    assert state.carries.artifacts == carries


def recalled(champion: int | None, *generations: int, suspect: tuple[int, ...] = ()) -> Event:
    content = {"generations": list(generations), "suspect": list(suspect), "samples": "ids"}
    return event_of("recalled", champion=champion, **content)


def went_back(champion: int) -> Event:
    return event_of("rolled_back", champion=champion)


TURNS = [started(0), *earned(0), *(e for n in (1, 2) for e in (started(n, n - 1), *earned(n)))]
REJECTED = [started(3, 2), *evidence(3), ended(3, "rejected")]
PATIENCE = {
    "it counts since the promotion": ([*TURNS, *REJECTED], 1),
    "a turn under way is none yet": ([*TURNS, started(3, 2)], 0),
    "a champion that came back is as one just promoted": ([*TURNS, *REJECTED, went_back(1)], 0),
    "turns of its first time do not count again": ([*TURNS, *REJECTED, went_back(1), went_back(2)], 0),
    "naming the champion again restarts nothing": ([*TURNS, *REJECTED, went_back(2)], 1),
    "nor does a recall that leaves it": ([*TURNS, *REJECTED, recalled(2, suspect=(3,))], 1),
    "what is recalled does not count": ([*TURNS, *REJECTED, recalled(2, 3)], 0),
    "a recall that takes the champion restarts it": ([*TURNS, *REJECTED, recalled(1, 2, suspect=(3,))], 0),
    "turns after that count": (
        [*TURNS, *REJECTED, went_back(1), started(4, 1), ended(4, "failed")],
        1,
    ),
}


@pytest.mark.parametrize(("events", "turns"), PATIENCE.values(), ids=PATIENCE)
def test_patience_counts_turns_since_the_champion_came_into_force(events: list[Event], turns: int) -> None:
    assert RunState.replay(chained(*events)).turns_without_promotion == turns


def test_a_recalled_turn_is_made_up_for() -> None:
    state = RunState.replay(chained(*TURNS, *REJECTED))
    assert state.is_over(3, None, "stop") == "generations"
    assert RunState.replay(chained(*TURNS, *REJECTED, recalled(2, 3))).is_over(3, None, "stop") is None
    without = RunState.replay(chained(*TURNS, recalled(None, 0, 1, 2)))
    assert without.is_over(0, 1, "go_on") is None


def test_seconds_are_those_of_every_line_with_a_cost() -> None:
    cost = {"cost": {"seconds": 4.0, "cpu_seconds": 1.0}}
    cut = {"generation": 1, **cost}
    events = chained(
        started(0),
        *earned(0),
        stage(0, "sealed"),
        event_of("run_stopped", generation=0, **cost),
        started(1, 0),
        stage(1, "generate"),
        *(event_of(kind, **cut) for kind in sorted(ENDINGS)),
        ended(1, "failed", **cost),
        recalled(0, 1),
        started(2, 0),
        stage(2, "generate"),
    )
    costs = [line.cost for line in events if getattr(line, "cost", None)]
    state = RunState.replay(events)
    assert state.seconds == sum(cost.seconds for cost in costs)
    assert state.generations[1].seconds == 1.5 + 4.0 * (len(ENDINGS) + 1)


@pytest.mark.parametrize(("ending", "name"), ENDINGS.items())
def test_a_run_is_called_after_its_last_ending(ending: str, name: RunStateName) -> None:
    state = RunState.replay(chained(event_of("session_started"), started(0), event_of(ending)))
    assert state.name(is_running=False) is name
    assert state.name(is_running=True) is RunStateName.RUNNING


def test_every_name_but_running_is_an_ending_or_the_lack_of_one() -> None:
    assert {*ENDINGS.values(), RunStateName.RUNNING} == set(RunStateName)


@pytest.mark.parametrize(
    "events",
    [
        [],
        [event_of("run_created")],
        [event_of("run_finished"), event_of("session_started")],
        [event_of("run_stopped"), event_of("session_started"), started(0), stage(0, "train")],
    ],
)
def test_a_session_that_left_no_ending_was_interrupted(events: list[Event]) -> None:
    assert RunState.replay(chained(*events)).name(is_running=False) is RunStateName.INTERRUPTED


def test_a_failed_genesis_is_tried_again_as_another_genesis() -> None:
    state = RunState.replay(chained(started(0), ended(0, "failed"), started(1), *earned(1, look=0)))
    assert [g.is_genesis for g in state.generations] == [True, True]
    assert state.first_champion is state.champion is state.generations[1]


def test_what_a_generation_recorded_can_be_asked() -> None:
    events = [
        started(0),
        stage(0, "tune", settings={"lr": 0.1}),
        stage(0, "train", start={"kind": "fresh"}, steps=4, settings={"lr": 0.1}),
    ]
    generation = RunState.replay(chained(*events)).generations[0]
    assert (generation.weights, generation.init) == ("w0", "fresh")
    assert generation.settings == {"lr": 0.1}
    assert generation.train is not None
    assert generation.train.facts.steps == 4
    assert generation.gate is None
    assert generation.output("train", "optimizer") is None
    assert generation.seconds == 3.0


def test_sealed_looks_are_kept_apart() -> None:
    state = RunState.replay(chained(started(0), *earned(0), stage(0, "sealed", metrics={})))
    assert set(state.sealed) == {0}
    assert "sealed" not in state.generations[0].stages


RUNNING = [started(0), *earned(0), started(1, 0)]
REFUSED = stage(1, "gate", verdict={"promote": False})
ILLEGAL = {
    "the end of a generation that never started": [*RUNNING, ended(7, "rejected")],
    "the end of a generation counted from the back": [*RUNNING, ended(-1, "rejected")],
    "a stage of a generation that has its verdict": [*RUNNING, stage(0, "train")],
    "a stage of a generation that never started": [*RUNNING, stage(7, "train")],
    "a generation begun while another one runs": [*RUNNING, started(2, 0)],
    "a number that does not follow": [started(0), *earned(0), started(2, 0)],
    "a champion without weights": [started(0), ended(0, "promoted")],
    "a promotion that no gate looked at": [*RUNNING, *evidence(1)[:1], ended(1, "promoted")],
    "a promotion against the gate": [*RUNNING, *evidence(1)[:2], REFUSED, ended(1, "promoted")],
    "a promotion without consent": [*RUNNING, *evidence(1)[:3], ended(1, "promoted")],
    "a verdict without a look": [*RUNNING, stage(1, "gate", verdict={"promote": True})],
    "a verdict at another level than the look's": [
        *RUNNING,
        *evidence(1)[:2],
        stage(1, "gate", verdict={"promote": True, "level": 0.05}),
    ],
    "a look at a level that the accountant did not give": [
        *RUNNING,
        event_of("look", generation=1, number=1, level=0.05),
    ],
    "a look that does not follow": [*RUNNING, event_of("look", generation=1, number=2)],
    "a second look": [*RUNNING, *evidence(1)[:2], event_of("look", generation=1, number=2)],
    "a look at a genesis": [started(0), event_of("look", generation=0, number=1)],
    "outcomes on gate items before their look": [
        event_of("run_created", data={"suite g": {"role": "gate"}}),
        *RUNNING,
        stage(1, "evaluate", metrics={"g": {}}),
    ],
    "a stage done twice": [*RUNNING, stage(1, "train"), stage(1, "train")],
    "a second look at the sealed suites": [started(0), *earned(0), stage(0, "sealed"), stage(0, "sealed")],
    "the cost of a generation that there is none": [
        *RUNNING,
        event_of("run_stopped", generation=2, cost={"seconds": 1.0}),
    ],
    "a parent that was rejected": [*RUNNING, ended(1, "rejected"), started(2, 1)],
}


@pytest.mark.parametrize("events", ILLEGAL.values(), ids=ILLEGAL)
def test_what_no_loop_writes_cannot_be_replayed(events: list[Event]) -> None:
    RunState.replay(chained(*events[:-1]))
    with pytest.raises(DamagedError, match=f"line {len(events)}"):
        RunState.replay(chained(*events))


def test_an_illegal_promotion_is_not_written(run_copy: Path) -> None:
    from flywheel.config.components import Components
    from flywheel.config.compose import compose
    from flywheel.launch.plan import Plan
    from flywheel.launch.preflight import preflight
    from flywheel.launch.session import open_runner
    from flywheel.testing import CONFIG_DIR

    components = Components(compose(["recipe=moons", "log=quiet"], CONFIG_DIR))
    with open_runner(preflight(Plan.of(run_copy, components, None))) as runner:
        rejected = next(g for g in runner.state.generations if g.status is not Status.UNFINISHED)
        with pytest.raises(DamagedError):
            runner.end_generation(rejected, Status.PROMOTED, "because I say so", {})
    RunState.replay(ledger.read(run_copy))
