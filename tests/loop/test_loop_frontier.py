"""The frontier: what does no shown harm is built on, what a look certifies is promoted."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from flywheel.errors import ConfigError, ExitCode, RunError, StageFailed
from flywheel.launch import plan
from flywheel.lineage.recall import recall, rollback
from flywheel.lineage.status import read_state
from flywheel.runtime.context import Context, StageOutput
from flywheel.storage import ledger
from flywheel.storage.sources import seen_of
from flywheel.storage.state import RunState, Status
from flywheel.storage.store import Store
from tests.support.events import facts
from tests.support.fake_stages import on_strings, play, put
from tests.support.harness import events

EVERY_TWO = {"promotion": {"rule": "frontier", "every": 2, "patience": 2, "harm": 0.05}}
FIRST_NEVER = dict.fromkeys(range(1, 20), False)
"""Verdicts: no look certifies anything."""


@pytest.fixture(autouse=True)
def fakes():
    with on_strings() as patch:
        yield patch


class Own:
    """Draws on people's rows alone, sees all, and leaves a carry whatever the verdict."""

    carry_kept = "always"

    def curate(self, samples: pa.Table, carry: Any, key: Any) -> Any:
        keep = np.equal(samples["origin"].to_numpy(), "human")
        columns = {"id": samples["id"], "keep": keep, "reason": ["own"] * len(keep)}
        counted = {"turns": carry.get("turns", 0) + 1}
        return columns | {"weight": np.ones(len(keep)), "count": keep.astype(int)}, counted


def ran(directory: Path, generations: int, **config: Any) -> RunState:
    assert play(directory, generations, **EVERY_TWO | config) is ExitCode.FINISHED
    return read_state(directory)


def outcome(state: RunState) -> list[str]:
    return [str(generation.status) for generation in state.generations]


def parents(state: RunState) -> list[int | None]:
    return [generation.parent for generation in state.generations]


def looked_at(directory: Path) -> list[int]:
    return [e["generation"] for e in events(directory) if e["event"] == "look" and "role" not in e]


def test_the_next_generation_builds_on_what_has_advanced(tmp_path):
    state = ran(tmp_path, 4, verdicts={2: True, 4: False})
    assert parents(state) == [None, 0, 1, 2, 3]
    assert outcome(state) == ["promoted", "advanced", "promoted", "advanced", "advanced"]
    assert looked_at(tmp_path) == [2, 4]
    assert (state.champion.number, state.frontier.number) == (2, 4)
    started = [e for e in events(tmp_path) if e["event"] == "generation_started"]
    assert [(e["parent"], e["champion"]) for e in started] == [(None, None), (0, 0), (1, 0), (2, 2), (3, 2)]


def test_what_does_harm_is_rejected_and_nothing_builds_on_it(tmp_path):
    state = ran(tmp_path, 4, advances={2: False, 3: False}, verdicts={1: False, 4: True})
    assert parents(state) == [None, 0, 1, 1, 1]
    assert outcome(state) == ["promoted", "advanced", "rejected", "rejected", "promoted"]
    assert looked_at(tmp_path) == [1, 4], "the frontier of turn 1 is looked at once, in turn 2's place"


def test_what_has_advanced_before_may_become_champion_later(tmp_path):
    state = ran(tmp_path, 2, advances={2: False}, verdicts={1: True})
    assert outcome(state) == ["promoted", "promoted", "rejected"]
    assert state.champion.number == state.frontier.number == 1


def test_no_gate_item_is_read_between_looks(tmp_path):
    ran(tmp_path, 6, verdicts=FIRST_NEVER, promotion={**EVERY_TWO["promotion"], "every": 3})
    stages = [(e["generation"], e["stage"]) for e in events(tmp_path) if e["event"] == "stage"]
    assert [g for g, stage in stages if stage == "gate"] == looked_at(tmp_path) == [3, 6]
    assert [g for g, stage in stages if stage == "evaluate"] == [0, 3, 6]
    assert [g for g, stage in stages if stage == "screen"] == [1, 2, 3, 4, 5, 6]


def test_a_run_that_is_over_looks_at_its_frontier(tmp_path):
    state = ran(tmp_path, 3, verdicts={2: False, 3: True})
    assert looked_at(tmp_path) == [2, 3]
    assert state.champion.number == 3
    kinds = [e["event"] for e in events(tmp_path)]
    assert kinds.index("run_finished") == len(kinds) - 1


def test_patience_ends_a_run_of_turns_without_promotion_with_a_look(tmp_path):
    state = ran(tmp_path, 9, patience=3, verdicts=FIRST_NEVER)
    assert len(state.generations) == 4
    assert looked_at(tmp_path) == [2, 3]


def test_nothing_is_looked_at_while_nothing_is_ahead(tmp_path):
    ran(tmp_path, 4, advances=dict.fromkeys(range(1, 5), False))
    assert looked_at(tmp_path) == []


def test_after_failed_looks_the_frontier_falls_back_to_the_champion(tmp_path):
    state = ran(tmp_path, 6, verdicts={2: False, 4: False, 6: True})
    assert parents(state) == [None, 0, 1, 2, 3, 0, 5]
    fell = next(e for e in events(tmp_path) if e["event"] == "fell_back")
    assert (fell["champion"], fell["generations"]) == (0, [1, 2, 3, 4])
    assert [g.number for g in state.generations if g.abandoned] == [1, 2, 3, 4]
    assert state.champion.number == 6


def test_what_falls_back_says_why(tmp_path):
    ran(tmp_path / "looks", 6, verdicts=FIRST_NEVER)
    ran(tmp_path / "turns", 5, verdicts=FIRST_NEVER, advances={n: n < 3 for n in range(9)})
    fell = [
        next(e for e in events(tmp_path / name) if e["event"] == "fell_back") for name in ("looks", "turns")
    ]
    assert [e["reason"] for e in fell] == [
        "2 looks in a row have failed",
        "nothing has advanced beyond it in 2 turns since its look",
    ]


def test_samples_of_an_abandoned_frontier_are_dropped_and_those_of_the_champion_are_not(tmp_path):
    state = ran(tmp_path, 6, verdicts=FIRST_NEVER)
    store, made = Store(tmp_path), {}
    for generation in state.generations[1:]:
        made[generation.output("generate", "samples")] = generation.number
    used = {made[samples] for samples in seen_of(store, state.generations[5]) if samples in made}
    assert {1, 5} <= used, "what the champion made in turn 1"
    assert not used & {2, 3, 4}, "what the abandoned ones made"


def test_the_carry_follows_the_frontier_and_falls_back_with_it(tmp_path):
    state = ran(tmp_path, 5, verdicts=FIRST_NEVER)
    turns = [Store(tmp_path).json(g.output("curate", "carry"))["turns"] for g in state.generations]
    assert turns == [1, 2, 3, 4, 5, 2]


def test_a_look_that_fails_gives_the_frontier_up_and_the_run_goes_on_from_its_parent(tmp_path):
    broken = {(2, "review"): StageFailed("review", "broken")}
    assert play(tmp_path, 4, **EVERY_TWO, verdicts={2: True}, leaves=broken) is ExitCode.FAILED
    state = read_state(tmp_path)
    assert outcome(state) == ["promoted", "advanced", "failed"]
    assert state.frontier.number == 1
    assert state.carries == state.generations[1].carry_after
    state = ran(tmp_path, 4, verdicts=FIRST_NEVER)
    assert parents(state)[3] == 1


def test_a_run_that_is_over_looks_no_further_at_a_frontier_that_is_to_be_given_up(tmp_path):
    broken = {(2, "review"): StageFailed("review", "broken")}
    config = {"promotion": {**EVERY_TWO["promotion"], "patience": 1}, "on_failure": "go_on"}
    state = ran(tmp_path, 2, verdicts={2: True}, leaves=broken, **config)
    assert outcome(state) == ["promoted", "advanced", "failed"]
    state = ran(tmp_path, 3, verdicts=FIRST_NEVER, **config)
    assert parents(state) == [None, 0, 1, 0]


def test_a_frontier_is_not_looked_at_by_whoever_knows_the_sealed_figures(tmp_path):
    ran(tmp_path, 2, verdicts=FIRST_NEVER)
    recall(tmp_path, why="flawed", generation=2, yes=True)
    state = read_state(tmp_path)
    assert state.is_look_due(is_over=True)
    over = {"generations": 1, "patience": None, "on_failure": "stop", "refit": False, "seal": "keep"}
    with pytest.raises(RunError, match="seal=reopen"):
        plan._check_seal(tmp_path, state, over)


@pytest.mark.parametrize("retention", [{"promoted": False, "last": 0}, {"promoted": True, "last": 1}])
def test_what_the_frontier_goes_back_to_is_kept(tmp_path, retention):
    broken = {(3, "review"): StageFailed("review", "broken")}
    config = {"promotion": {**EVERY_TWO["promotion"], "every": 3, "patience": 9}, "on_failure": "go_on"}
    config |= {"verdicts": {3: True, 5: False}, "leaves": broken, "retention": retention}
    state = ran(tmp_path, 5, **config, advances={4: False, 5: False})
    assert parents(state)[4:] == [2, 2]
    assert state.frontier.number == 2
    assert Store(tmp_path).require(state.frontier.weights).exists()


@pytest.mark.parametrize("kept", range(1, 26))
def test_a_run_that_is_interrupted_anywhere_comes_out_the_same(tmp_path, kept):
    config = {"verdicts": {2: False, 4: False, 6: True}, **EVERY_TWO}
    play(tmp_path / "whole", 6, **config)
    play(tmp_path / "cut", 6, stages=kept, **config)
    play(tmp_path / "cut", 6, **config)
    whole, cut = (
        [
            (e.get("generation"), e["event"], e.get("stage"), e.get("outputs"), e.get("carry"))
            for e in events(tmp_path / name)
            if e["event"] not in ("session_started", "run_interrupted")
        ]
        for name in ("whole", "cut")
    )
    assert cut == whole


def test_a_frontier_that_is_given_up_at_the_end_starts_no_refit(tmp_path):
    broken = {(number, "review"): StageFailed("review", "broken") for number in (2, 4)}
    given = {"on_failure": "go_on", "verdicts": {2: True, 4: True}, "leaves": broken}
    state = ran(tmp_path, 4, **given)
    assert state.refits == []
    assert state.must_fall_back, "which the next session does first"


def test_a_frontier_beyond_which_nothing_advances_is_given_up(tmp_path):
    harmful = dict.fromkeys(range(3, 20), False)
    state = ran(tmp_path, 6, advances=harmful, verdicts=FIRST_NEVER)
    assert parents(state) == [None, 0, 1, 2, 2, 0, 0]
    assert looked_at(tmp_path) == [2]


def test_what_a_review_refuses_is_rejected_and_not_built_on(tmp_path, fakes):
    def review(ctx: Context, **_: Any) -> StageOutput:
        return StageOutput({}, facts("review", consent=ctx.generation != 2))

    put(fakes, review)
    state = ran(tmp_path, 4, verdicts={2: True, 4: True})
    assert outcome(state) == ["promoted", "advanced", "rejected", "advanced", "promoted"]
    assert parents(state) == [None, 0, 1, 1, 3]


def test_a_carry_that_was_recalled_is_not_in_force_after_a_fall_back(tmp_path):
    own = {"curator": Own(), "init": "fresh"}
    ran(tmp_path, 2, advances={1: False}, verdicts={2: True}, **own)
    recall(tmp_path, why="flawed", generation=1, yes=True)
    before = read_state(tmp_path).carries
    assert before.left_by == {"curator": 0}
    state = ran(tmp_path, 9, verdicts=FIRST_NEVER, **own)
    fell = next(e["seq"] for e in events(tmp_path) if e["event"] == "fell_back")
    after = RunState.replay(ledger.read(tmp_path)[: fell + 1])
    assert after.carries.artifacts == before.artifacts
    assert state.champion.number == 2


def test_a_gate_does_not_forget_what_it_has_read_when_the_frontier_falls_back(tmp_path, fakes):
    def gate(ctx: Context, *, level: float, **_: Any) -> StageOutput:
        carry = {"looks": ctx.carry.get("gate", {}).get("looks", 0) + 1}
        verdict = {"promote": False, "reason": "drawn", "level": level, "p_value": 1.0}
        return StageOutput({"carry": carry}, facts("gate", verdict=verdict, carry_kept="always"))

    put(fakes, gate)
    state = ran(tmp_path, 10)
    carries = [g.output("gate", "carry") for g in state.generations if g.gate]
    assert [Store(tmp_path).json(name)["looks"] for name in carries] == [1, 2, 3, 4, 5]


def test_what_is_the_frontier_again_after_a_failed_look_was_not_pruned(tmp_path):
    broken = {(2, "review"): StageFailed("review", "broken")}
    given = {"on_failure": "go_on", "verdicts": {2: True}, "leaves": broken, "advances": {3: False}}
    state = ran(tmp_path, 4, **given, retention={"promoted": False, "last": 0})
    assert parents(state)[3:] == [1, 1]


def test_an_abandoned_frontier_that_is_recalled_takes_what_it_made_with_it(tmp_path):
    ran(tmp_path, 6, verdicts={2: False, 4: False, 6: True})
    report = recall(tmp_path, why="flawed", generation=2, yes=True)
    assert {reached.generation for reached in report.generations} >= {2, 3, 4}
    assert {batch.made_in for batch in report.samples.batches} >= {3, 4}
    state = read_state(tmp_path)
    assert state.champion.number == state.frontier.number == 6, "which descends from none of that"


def test_a_recall_goes_back_to_the_newest_frontier_that_is_left(tmp_path):
    config = {"promotion": {**EVERY_TWO["promotion"], "every": 9}, "verdicts": FIRST_NEVER}
    play(tmp_path, 3, **config)
    assert read_state(tmp_path).frontier.number == 3
    report = recall(tmp_path, why="flawed", generation=3, yes=True)
    state = read_state(tmp_path)
    assert (state.champion.number, state.frontier.number) == (0, 2)
    assert (report.frontier.before, report.frontier.after) == (3, 2)
    assert state.carries.artifacts == state.generations[2].carry_after.artifacts


def test_a_recall_of_the_champion_ends_the_look_that_is_under_way(tmp_path):
    config = {**EVERY_TWO, "verdicts": {2: True, 4: True}}
    for stages in itertools.count(20):
        directory = tmp_path / str(stages)
        play(directory, 4, stages=stages, **config)
        state = read_state(directory)
        if state.current is not None and state.current.number == 4 and state.current.look:
            break
    report = recall(directory, why="flawed", generation=2, yes=True)
    state = read_state(directory)
    assert report.ends == 4
    assert state.generations[4].status is Status.FAILED
    assert state.champion.number == 0
    assert state.frontier.number in (0, 1)


def test_a_rollback_gives_up_what_is_ahead(tmp_path):
    ran(tmp_path, 4, verdicts={2: True, 4: False})
    rollback(tmp_path, 0, "as it was drawn")
    state = read_state(tmp_path)
    assert state.champion.number == state.frontier.number == 0
    state = ran(tmp_path, 5, verdicts=FIRST_NEVER)
    assert parents(state)[5] == 0


def test_the_best_frontier_is_the_one_with_the_highest_score_on_dev(tmp_path):
    config = {"scores": {1: 0.6, 2: 0.9, 3: 0.7}, "promotion": {**EVERY_TWO["promotion"], "every": 9}}
    ran(tmp_path, 4, verdicts=FIRST_NEVER, **config)
    screens = [e["facts"]["against"] for e in events(tmp_path) if e.get("stage") == "screen"]
    assert [[one["generation"] for one in against] for against in screens] == [[0], [0, 1], [0, 2], [0, 2]]


def test_greedy_promotes_the_higher_mean_and_charges_no_look(tmp_path):
    state = ran(tmp_path, 3, promotion={"rule": "greedy"}, advances={2: False})
    assert outcome(state) == ["promoted", "promoted", "rejected", "promoted"]
    assert state.looks == []
    assert state.champion is state.frontier


FRONTIER = {"promotion": "frontier", "gate._target_": "flywheel.gates.paired.Paired"}
DECIDED = {"promotion": "frontier", "+gate.promote": False}


class TestReal:
    """Real fits, suites and gates, of the recipe ``probe``."""

    @pytest.fixture(autouse=True)
    def fakes(self):
        """None."""

    def test_a_candidate_that_unlearns_does_shown_harm(self, probe):
        untrained = {"settings.steps": 1, "settings.lr": 1e-9}
        trained = {"+genesis_settings.steps": 60, "+genesis_settings.lr": 0.02}
        run = probe(generations=1, **FRONTIER, **untrained, **trained)
        turn = run.status().generations[1]
        assert turn.status == "rejected"
        assert turn.reason.startswith("harm shown on dev: -")
        assert run.generation(1).record.look is None

    def test_a_candidate_that_learns_advances_and_is_certified(self, probe):
        run = probe(generations=2, genesis="fresh", **{**FRONTIER, "promotion.harm": 0.001})
        facts = run.generation(1).record.screen.facts
        assert facts.advance
        assert set(facts.metrics) == {"dev"}
        assert facts.against[0].generation == 0

    def test_greedy_says_that_it_is_no_test(self, probe):
        run = probe(generations=1, genesis="fresh", promotion="greedy")
        turn = run.status().generations[1]
        assert turn.status == "promoted"
        assert turn.reason.startswith("no test, promotion=greedy: +")

    def test_guards_that_greedy_would_never_ask_are_refused(self, probe):
        guard = {"+guards.collapse._target_": "flywheel.guards.NonInferior"}
        with pytest.raises(ConfigError, match=r"collapse would never be asked. Give guards.collapse=null"):
            probe(promotion="greedy", **guard)

    @pytest.mark.parametrize("rule", ["frontier", "greedy"])
    def test_a_task_without_a_dev_suite_is_refused(self, probe, rule):
        with pytest.raises(ConfigError, match=r"suites with role dev; the task has gate"):
            probe(promotion=rule, task___target_="tests.support.probe_parts.NoDev")

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"promotion": "each", "promotion.every": 2}, "promotion.every is of promotion=frontier only"),
            ({"promotion": "frontier", "promotion.every": 0}, "promotion.every must be 1 or more"),
            ({"promotion": "frontier", "promotion.patience": 0}, "promotion.patience must be 1 or more"),
            ({"promotion": "frontier", "promotion.harm": 0.6}, "promotion.harm must be above 0"),
        ],
    )
    def test_settings_that_say_nothing_are_refused(self, probe, given, message):
        with pytest.raises(ConfigError, match=message):
            probe(**given)

    def test_planned_looks_are_those_that_the_turns_may_have(self, probe):
        given = {"promotion": "frontier", "promotion.every": 3, "error_budget.looks": None}
        run = probe(generations=4, **given)
        assert run.status().error_budget.planned == 2

    def test_a_fork_of_what_has_advanced_begins_with_it(self, probe):
        run = probe(generations=1, genesis="fresh", **DECIDED)
        assert run.status().generations[1].status == "advanced"
        fork = run.fork(1, ["name=fork", "generations=0", "log=quiet", "seal=reopen"])
        assert fork.champion().record.weights == run.generation(1).record.weights
