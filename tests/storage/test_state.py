from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from flywheel.errors import DamagedError
from flywheel.storage import ledger
from flywheel.storage.events import ENDINGS, Event
from flywheel.storage.state import RunState, RunStateName, Status
from tests.support.events import event_of

VERDICTS = (Status.PROMOTED, Status.REJECTED, Status.FAILED)
SCRIPTS = st.lists(st.sampled_from(VERDICTS), max_size=6)


def started(number: int, parent: int | None = None) -> Event:
    return event_of("generation_started", generation=number, parent=parent, champion=parent)


def refitted(number: int, parent: int | None, champion: int | None) -> Event:
    content = {"parent": parent, "champion": champion, "refit": True}
    return event_of("generation_started", generation=number, **content)


def stage(number: int, name: str, **facts: Any) -> Event:
    outputs = {"weights": f"w{number}"} if name == "train" else {}
    content = {"outputs": outputs, "facts": facts, "cost": {"seconds": 1.5}}
    return event_of("stage", generation=number, stage=name, **content)


def ended(number: int, status: str, carry: dict[str, str] | None = None, **more: Any) -> Event:
    content = {"status": status, "reason": f"because {number}", "carry": carry or {}, **more}
    return event_of("generation_ended", generation=number, **content)


def charged(generation: int, number: int, **more: Any) -> Event:
    """A look; the accountant has nothing to give where no run was created."""
    return event_of("look", generation=generation, number=number, **{"level": 0.0, **more})


def opening(generation: int, number: int, **more: Any) -> Event:
    return event_of("look", generation=generation, role="sealed", number=number, **more)


def evidence(number: int, look: int | None = None) -> list[Event]:
    """What a promotion needs: weights, of a turn the look, the gate's verdict, consent.

    ``look``: its number, by default the generation's, as if all turns before it were looked at; 0: none.
    """
    trained, number_of_look = (
        stage(number, "train", start={"kind": "fresh"}),
        number if look is None else look,
    )
    looks = [charged(number, number_of_look)] if number_of_look else []
    verdicts = [*looks, stage(number, "gate", verdict={"promote": True})] if number_of_look else []
    return [trained, *verdicts, stage(number, "review", consent=True)]


def earned(number: int, look: int | None = None) -> list[Event]:
    """A promotion as the loop records it."""
    return [*evidence(number, look), ended(number, "promoted")]


def alarm(number: int, action: str) -> Event:
    """A guard's word on a turn."""
    return stage(number, "guard", alarms=[{"guard": "g", "action": action, "reason": "it fell"}])


OPENED = [started(0), *earned(0), opening(0, 1)]


def chained(*events: Event) -> list[Event]:
    return [replace(event, seq=seq) for seq, event in enumerate(events)]


def script(verdicts: list[Status]) -> list[Event]:
    """A run whose generations end like this."""
    events: list[Event] = [event_of("run_created"), event_of("session_started")]
    champion, looks = None, 0
    for number, verdict in enumerate(verdicts):
        looks += champion is not None
        judged = evidence(number, looks if champion is not None else 0)
        events += [started(number, champion), *judged, ended(number, verdict, {"gate": f"gate{number}"})]
        champion = number if verdict is Status.PROMOTED else champion
    return chained(*events)


@given(SCRIPTS, st.data())
def test_a_replay_may_be_interrupted_anywhere(verdicts: list[Status], data: st.DataObject) -> None:
    events = script(verdicts)
    cut = data.draw(st.integers(0, len(events)))
    state = RunState.replay(events[:cut])
    for event in events[cut:]:
        state.apply(event)
    assert state == RunState.replay(events)


def recalled(champion: int | None, *generations: int, suspect: tuple[int, ...] = ()) -> Event:
    content = {"generations": list(generations), "suspect": list(suspect), "samples": "ids"}
    return event_of("recalled", champion=champion, **content)


def went_back(champion: int) -> Event:
    return event_of("rolled_back", champion=champion)


def pruned(*names: str, slim: dict[str, str] | None = None) -> Event:
    return event_of("pruned", objects=dict.fromkeys(names, 1), slim=slim or {})


TURNS = [started(0), *earned(0), *(e for n in (1, 2) for e in (started(n, n - 1), *earned(n)))]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_run_is_called_after_its_last_ending(ending: str) -> None:
    state = RunState.replay(chained(event_of("session_started"), started(0), event_of(ending)))
    assert f"run_{state.name(is_running=False)}" == ending
    assert state.name(is_running=True) is RunStateName.RUNNING
    assert {f"run_{name}" for name in RunStateName} == {*ENDINGS, "run_running"}


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


def test_what_comes_to_stand_in_for_something_or_is_made_again_is_no_longer_pruned() -> None:
    again = event_of("stage", generation=3, stage="train", outputs={"weights": "w1"})
    events = [*TURNS, pruned("a"), pruned("b", slim={"b": "a"}), pruned("w1"), started(3, 2)]
    state = RunState.replay(chained(*events))
    assert state.pruned.keys() == {"b", "w1"}
    assert [state.resolve_pruned(name) for name in ("a", "b", "w1")] == ["a", "a", "w1"]
    state.apply(again)
    assert state.pruned.keys() == {"b"}


def test_an_opening_is_for_the_champions_that_were_not_looked_at() -> None:
    first = [*OPENED[:-1], started(1, 0), *earned(1), opening(1, 1), stage(1, "sealed")]
    state = RunState.replay(chained(*first))
    assert (state.unsealed, state.times_opened, state.is_opened) == ({0}, 1, True)
    state = RunState.replay(chained(*first, stage(0, "sealed"), started(2, 1), *earned(2), opening(2, 2)))
    assert (state.unsealed, state.times_opened) == ({2}, 2)


def test_whoever_begins_after_an_opening_has_reopened() -> None:
    assert RunState.replay(chained(*LOOKED_AT)).is_opened
    assert not RunState.replay(chained(*LOOKED_AT, started(1, 0))).is_opened
    created = event_of("run_created", forked_from={"openings": 2})
    state = RunState.replay(chained(created))
    assert (state.times_opened, state.is_opened) == (2, True)
    assert not RunState.replay(chained(created, started(0))).is_opened


def test_a_refit_is_no_turn_and_its_final_is_the_champions() -> None:
    state = RunState.replay(chained(*REFITTED))
    champion, final = state.generations[2:]
    assert (state.champion, state.final) == (champion, final)
    assert (state.counted_turns("go_on"), state.turns_without_promotion) == (2, 0)
    assert [final.is_genesis, final.is_turn] == [False, False]
    assert [g.number for g in state.champions_to_look_at] == [0, 2, 3]
    state.apply(replace(went_back(1), seq=len(REFITTED)))
    assert state.final is None
    again = replace(went_back(2), seq=len(REFITTED) + 1)
    state.apply(again)
    assert state.final is final


def test_a_failed_refit_is_due_again_unless_failures_are_passed_over() -> None:
    curated = [*TURNS[:-2], stage(2, "curate"), *TURNS[-2:]]
    state = RunState.replay(chained(*curated))
    assert state.is_refit_due("go_on")
    state = RunState.replay(chained(*curated, refitted(3, 1, 2), ended(3, "failed")))
    assert (state.is_refit_due("stop"), state.is_refit_due("go_on")) == (True, False)
    assert (state.counted_turns("go_on"), state.turns_without_promotion) == (2, 0)


def test_it_travels_to_another_rank(finished_run: Path) -> None:
    state = RunState.replay(ledger.read(finished_run))
    sent = pickle.loads(pickle.dumps(state))
    assert (sent.generations, sent.carries) == (state.generations, state.carries)


def test_sealed_looks_are_kept_apart() -> None:
    state = RunState.replay(chained(*OPENED, stage(0, "sealed", metrics={})))
    assert set(state.sealed) == {0}
    assert "sealed" not in state.generations[0].stages


def screened(
    number: int, *against: int, advance: bool = True, effect: float = 0.1, p_value: float = 1.0, **more: Any
) -> list[Event]:
    """The stages of a turn that is screened."""
    fit = stage(number, "train", start={"kind": "fresh"})
    found = {"effect": effect, "p_value": p_value}
    compared = [{"generation": other, **found} for other in against or (0,)]
    return [fit, stage(number, "screen", **{"advance": advance, "score": 0.5, "against": compared, **more})]


def advanced(number: int, parent: int, champion: int = 0, **more: Any) -> list[Event]:
    """A turn that builds on the frontier and advances."""
    began = event_of("generation_started", generation=number, parent=parent, champion=champion)
    against = (champion,) if parent == champion else (champion, 1)
    return [began, *screened(number, *against, **more), ended(number, "advanced", {"curator": f"c{number}"})]


def looked_at(number: int, look: int, status: str) -> list[Event]:
    """A look at a frontier."""
    verdict = stage(number, "gate", verdict={"promote": True})
    review = stage(number, "review", consent=True)
    return [charged(number, look), verdict, review, ended(number, status)]


def fell_back(champion: int, *generations: int) -> Event:
    return event_of("fell_back", champion=champion, generations=list(generations))


def created(rule: str, **promotion: Any) -> Event:
    budget = {"alpha": 0.0, "looks": 1}
    return event_of("run_created", config={"promotion": {"rule": rule, **promotion}}, error_budget=budget)


FRONTIER = [created("frontier", every=2, patience=1, harm=0.05), started(0), *earned(0)]
AHEAD = [*FRONTIER, *advanced(1, 0), *advanced(2, 1)]
IN_VAIN = [*AHEAD, *looked_at(2, 1, "advanced")]
SCREENING = [*FRONTIER, started(1, 0)]
GREEDY = [created("greedy"), started(0), *earned(0), started(1, 0)]


def test_a_look_at_a_frontier_makes_it_champion() -> None:
    state = RunState.replay(chained(*AHEAD, *looked_at(2, 1, "promoted")))
    assert state.champion is state.frontier is state.generations[2]
    assert (state.turns_in_force, state.counted_turns("stop"), state.turns_without_promotion) == (1, 2, 0)
    assert state.carries.artifacts == {"curator": "c2"}


def test_what_a_guard_rejects_at_its_look_is_given_up() -> None:
    alarm = {"guard": "collapse", "action": "reject", "reason": "worse"}
    look = [charged(2, 1), stage(2, "guard", alarms=[alarm]), ended(2, "rejected")]
    state = RunState.replay(chained(*AHEAD, *look))
    assert state.frontier is state.generations[1]
    assert (state.looks_in_vain, state.carries.artifacts) == (1, {"curator": "c1"})


def test_a_look_that_failed_gives_the_frontier_to_its_newest_fit_ancestor() -> None:
    state = RunState.replay(chained(*AHEAD, *looked_at(2, 1, "failed")))
    assert state.frontier is state.generations[1]
    assert (state.counted_turns("stop"), state.counted_turns("go_on")) == (1, 2)
    assert state.carries.artifacts == {"curator": "c1"}


def test_no_look_is_due_at_a_frontier_that_is_to_be_given_up() -> None:
    state = RunState.replay(chained(*AHEAD, *looked_at(2, 1, "failed")))
    assert state.frontier is not None
    assert state.frontier.look is None
    assert state.must_fall_back
    assert not state.is_look_due(is_over=True)


def test_what_is_given_up_is_abandoned_and_its_turns_are_drawn_on() -> None:
    state = RunState.replay(chained(*IN_VAIN, fell_back(0, 1, 2)))
    assert state.champion is state.frontier is state.generations[0]
    assert [g.number for g in state.generations if g.abandoned] == [1, 2]
    assert not any(state.can_be_frontier(g) for g in state.generations[1:])
    assert state.generations[0].turns == [1]
    assert (state.carries.artifacts, state.looks_in_vain, state.turns_since_look) == ({}, 0, 0)


def test_a_look_says_nothing_of_the_turn_before() -> None:
    """What that meant for its session, e.g. that it failed, this one has gone on from."""
    began = event_of("generation_started", generation=3, parent=2, champion=0)
    state = RunState.replay(chained(*AHEAD, began, ended(3, "failed")))
    assert state.unreported is state.generations[3]
    state.apply(charged(2, 1))
    assert state.unreported is None


def test_whoever_looks_at_a_frontier_after_an_opening_has_reopened() -> None:
    state = RunState.replay(chained(*AHEAD, opening(0, 1)))
    assert state.is_opened
    state.apply(charged(2, 1))
    assert not state.is_opened


def test_a_recall_goes_back_to_what_the_recalled_frontier_descends_from() -> None:
    gone = replace(recalled(0, 2), frontier=1, carry={"curator": "c1"})
    state = RunState.replay(chained(*AHEAD, gone))
    assert state.frontier is state.generations[1]
    state = RunState.replay(chained(*AHEAD, recalled(0, 1, 2)))
    assert state.frontier is state.champion is state.generations[0]


def test_the_best_frontier_is_not_recalled() -> None:
    scores = [*FRONTIER, *advanced(1, 0, score=0.9), *advanced(2, 1, score=0.6), *advanced(3, 2)]
    state = RunState.replay(chained(*scores))
    assert state.best_ahead is state.generations[1]
    state.apply(replace(recalled(0, 1), frontier=3, carry={"curator": "c3"}))
    assert state.best_ahead is state.generations[2]


def test_with_greedy_the_higher_mean_on_dev_is_promoted_with_consent() -> None:
    consent = stage(1, "review", consent=True)
    state = RunState.replay(chained(*GREEDY, *screened(1), consent, ended(1, "promoted")))
    assert state.champion is state.frontier is state.generations[1]


REFITTING = [*TURNS, refitted(3, 1, 2), stage(3, "train", start={"kind": "fresh"})]
REFITTED = [*REFITTING, ended(3, "final")]
LOOKED_AT = [*OPENED, stage(0, "sealed")]
SHOWN = {"value": 0.5, "low": 0.4, "high": 0.7}
RUNNING = [started(0), *earned(0), started(1, 0)]
REFUSED = stage(1, "gate", verdict={"promote": False})
LOST = event_of("run_stopped", generation=2, cost={"seconds": 1.0})
READS_W1 = event_of("stage", generation=3, stage="generate", inputs={"parent": "w1"})
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
    **{
        f"a promotion though a guard says {action}": [
            *RUNNING,
            *evidence(1),
            alarm(1, action),
            ended(1, "promoted"),
        ]
        for action in ("reject", "halt")
    },
    "a verdict without a look": [*RUNNING, stage(1, "gate", verdict={"promote": True})],
    "a verdict at another level than the look's": [
        *RUNNING,
        *evidence(1)[:2],
        stage(1, "gate", verdict={"promote": True, "level": 0.05}),
    ],
    "a look at a level that the accountant did not give": [
        *RUNNING,
        charged(1, 1, level=0.05),
    ],
    "a look that does not follow": [*RUNNING, charged(1, 2)],
    "a second look": [*RUNNING, *evidence(1)[:2], charged(1, 2)],
    "a look at a genesis": [started(0), charged(0, 1)],
    "outcomes on gate items before their look": [
        event_of("run_created", data={"suite g": {"role": "gate"}}),
        *RUNNING,
        stage(1, "evaluate", metrics={"g": {}}),
    ],
    "a gate figure repeated that nobody was shown": [
        event_of("run_created", data={"suite g": {"role": "gate"}}),
        *[started(0), stage(0, "evaluate", metrics={"g": {"score": SHOWN}}), *earned(0), started(1, 0)],
        charged(1, 1),
        stage(1, "evaluate", metrics={"g": {"score": {**SHOWN, "value": 0.6}}}, repeated=["g"]),
    ],
    "a stage done twice": [*RUNNING, stage(1, "train"), stage(1, "train")],
    "a look at sealed suites that are not open": [started(0), *earned(0), stage(0, "sealed")],
    "a second look at the sealed suites": [*LOOKED_AT, stage(0, "sealed")],
    "an opening in a turn": [*RUNNING, opening(0, 1)],
    "an opening before there is a champion": [opening(0, 1)],
    "an opening for another than the champion": [*TURNS, opening(0, 1)],
    "an opening when all champions were looked at": [*LOOKED_AT, opening(0, 2)],
    "an opening that does not follow": [started(0), *earned(0), opening(0, 2)],
    "an opening with a level": [started(0), *earned(0), opening(0, 1, level=0.01)],
    "a look at a suite that is not charged": [*RUNNING, charged(1, 1, role="dev")],
    "a look at a former champion, opened for another": [*TURNS, opening(2, 1), stage(1, "sealed")],
    "a final of what is no refit": [*RUNNING, *evidence(1), ended(1, "final")],
    "labels of the gate in a turn": [*RUNNING, stage(1, "labels")],
    "a promoted refit": [*REFITTING, ended(3, "promoted")],
    "a rejected refit": [*REFITTING, ended(3, "rejected")],
    "a final without weights": [*TURNS, refitted(3, 1, 2), ended(3, "final")],
    "a final that leaves a carry": [*REFITTING, ended(3, "final", {"gate": "g"})],
    "a look at a refit": [*REFITTING, charged(3, 3)],
    "a refit of another than the champion": [*TURNS, refitted(3, 0, 1)],
    "a refit with another parent than the champion's": [*TURNS, refitted(3, 2, 2)],
    "a refit before there is a champion": [refitted(0, None, None)],
    "a second refit of a champion that has a final": [*REFITTED, refitted(4, 1, 2)],
    "a final as parent": [*REFITTED, started(4, 3)],
    "a rollback to a final": [*REFITTED, went_back(3)],
    "a pruned final": [*REFITTED, pruned("w3")],
    "a recall from under a refit": [*REFITTING, recalled(1, 2)],
    "a second verdict": [*RUNNING, ended(1, "rejected"), ended(1, "promoted")],
    "a verdict that is none": [*RUNNING, ended(1, "unfinished")],
    "the cost of a generation that there is none": [*RUNNING, LOST],
    "a recall of the generation under way": [*RUNNING, recalled(0, 1)],
    "a suspect generation under way": [*RUNNING, recalled(0, suspect=(1,))],
    "a rollback from the parent of the generation under way": [*TURNS, started(3, 2), went_back(1)],
    "a recall to a champion that it flags": [*TURNS, recalled(2, 2)],
    "carries that nobody left": [*RUNNING[:-1], replace(recalled(0), carry={"gate": "g"})],
    "a rollback to a generation that there is none": [*TURNS, went_back(7)],
    "a rollback to a rejected generation": [*RUNNING, ended(1, "rejected"), went_back(1)],
    "a pruned champion": [*TURNS, pruned("w2")],
    "a pruned first champion": [*TURNS, pruned("w0")],
    "a rollback to a champion whose weights were pruned": [*TURNS, pruned("w1"), went_back(1)],
    "what is pruned twice": [*TURNS, pruned("w1"), pruned("w1")],
    "a prune of nothing": [*TURNS, pruned()],
    "a prune of what stands in for something": [*TURNS, pruned("a", slim={"a": "b"}), pruned("b")],
    "a prune to what goes with it": [*TURNS, pruned("a", "b", slim={"a": "b"})],
    "a stage that has read what was pruned": [*TURNS, pruned("w1"), started(3, 2), READS_W1],
    "a parent that is behind the frontier": [*AHEAD, started(3, 0)],
    "another champion than that in force": [
        *AHEAD,
        event_of("generation_started", generation=3, parent=2, champion=2),
    ],
    "an advance where every turn is looked at": [*RUNNING, *screened(1), ended(1, "advanced")],
    "an advance with greedy": [*GREEDY, *screened(1), ended(1, "advanced")],
    "an advance without a screen": [*SCREENING, *screened(1)[:1], ended(1, "advanced")],
    "an advance though harm was shown": [*SCREENING, *screened(1, advance=False), ended(1, "advanced")],
    "an advance by what is shown otherwise": [*SCREENING, *screened(1, p_value=0.01), ended(1, "advanced")],
    "an advance beside another than the champion": [
        *AHEAD,
        *advanced(3, 2)[:1],
        *screened(3, 0, 2),
        ended(3, "advanced"),
    ],
    "an advance without weights": [*SCREENING, *screened(1)[1:], ended(1, "advanced")],
    "a genesis that advances": [FRONTIER[0], started(0), *screened(0), ended(0, "advanced")],
    "a screen on gate items": [
        event_of("run_created", data={"suite g": {"role": "gate"}}),
        *RUNNING,
        stage(1, "screen", metrics={"g": {}}),
    ],
    "a look within a turn of a frontier": [*SCREENING, *screened(1), charged(1, 1)],
    "a look at another than the frontier": [*AHEAD, charged(1, 1)],
    "a look at the champion": [*FRONTIER, charged(0, 1)],
    "a second look at a frontier": [
        created("frontier", every=2, patience=2, harm=0.05),
        *AHEAD[1:],
        *looked_at(2, 1, "advanced"),
        charged(2, 2),
    ],
    "a look with greedy": [*GREEDY, *screened(1), charged(1, 1)],
    "a promotion with greedy though the mean is not higher": [
        *GREEDY,
        *screened(1, advance=False),
        stage(1, "review", consent=True),
        ended(1, "promoted"),
    ],
    "a promotion with greedy that says so only": [
        *GREEDY,
        *screened(1, effect=-0.1),
        stage(1, "review", consent=True),
        ended(1, "promoted"),
    ],
    "outcomes before a look": [*RUNNING, stage(1, "evaluate")],
    "a run that promotes by no rule": [created("bogus")],
    "a run that promotes by what is not known": [created("each", often=True)],
    "a promotion of what has only advanced": [*AHEAD, ended(2, "promoted")],
    "a promotion of a frontier without a gate": [*AHEAD, charged(2, 1), ended(2, "promoted")],
    "a frontier rejected at its look": [*AHEAD, charged(2, 1), ended(2, "rejected")],
    "a turn begun while a look is under way": [*AHEAD, charged(2, 1), started(3, 2)],
    "a turn on a frontier whose looks have failed": [
        *IN_VAIN,
        event_of("generation_started", generation=3, parent=2, champion=0),
    ],
    "a look at a frontier whose looks have failed": [*AHEAD, *looked_at(2, 1, "failed"), charged(1, 2)],
    "a frontier given up before its looks have failed": [*AHEAD, fell_back(0, 1, 2)],
    "a frontier given up while its look is under way": [*AHEAD, charged(2, 1), fell_back(0, 1, 2)],
    "a frontier given up for another than the champion": [*IN_VAIN, fell_back(1, 2)],
    "a frontier given up in part": [*IN_VAIN, fell_back(0, 2)],
    "a second fall": [*IN_VAIN, fell_back(0, 1, 2), fell_back(0)],
    "a pruned frontier": [*AHEAD, pruned("w2")],
    "a recall that names a recalled frontier": [*AHEAD, replace(recalled(0, 2), frontier=2)],
    "a recall that passes over a frontier that is left": [*AHEAD, recalled(0, 2)],
    "a recall with the carries of a former frontier": [
        *AHEAD,
        replace(recalled(0, 2), frontier=1, carry={"curator": "c2"}),
    ],
    "a recall of the frontier from under its look": [*AHEAD, charged(2, 1), recalled(0, 1, 2)],
    "a recall of the frontier from under a turn": [
        *AHEAD,
        event_of("generation_started", generation=3, parent=2, champion=0),
        replace(recalled(0, 2), frontier=1, carry={"curator": "c1"}),
    ],
    "a rollback to what has only advanced": [*AHEAD, went_back(2)],
    "a rollback within a look": [
        *AHEAD,
        *looked_at(2, 1, "promoted"),
        *advanced(3, 2, 2),
        charged(3, 2),
        went_back(0),
    ],
    "a parent that was rejected": [*RUNNING, ended(1, "rejected"), started(2, 1)],
}


@pytest.mark.parametrize("events", ILLEGAL.values(), ids=ILLEGAL)
def test_what_no_loop_writes_cannot_be_replayed_and_changes_nothing(events: list[Event]) -> None:
    *before, illegal = chained(*events)
    state = RunState.replay(before)
    with pytest.raises(DamagedError, match=f"line {len(events)} says {illegal.event}"):
        state.apply(illegal)
    assert state == RunState.replay(before)


@pytest.mark.parametrize("action", ["pass", "warn", "ask"])
def test_what_a_guard_lets_pass_may_be_promoted(action: str) -> None:
    state = RunState.replay(chained(*RUNNING, *evidence(1), alarm(1, action), ended(1, "promoted")))
    assert state.champion is state.generations[1]


def test_an_illegal_promotion_is_not_written(run_copy: Path) -> None:
    from flywheel.config.components import Components
    from flywheel.config.compose import compose
    from flywheel.launch.plan import Plan
    from flywheel.launch.preflight import preflight
    from flywheel.launch.session import open_runner
    from flywheel.testing import CONFIG_DIR

    components = Components(compose(["recipe=moons", "log=quiet", "seal=reopen"], CONFIG_DIR))
    with open_runner(preflight(Plan.of(run_copy, components, None))) as runner:
        rejected = next(g for g in runner.state.generations if g.status is not Status.UNFINISHED)
        with pytest.raises(DamagedError):
            runner.end_generation(rejected, Status.PROMOTED, "because I say so", {})
    RunState.replay(ledger.read(run_copy))
