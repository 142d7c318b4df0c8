"""Guards and reviewers: what they are shown, and what warns, asks, halts or waits."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from flywheel.errors import ConfigError, ExitCode, RunError
from flywheel.lineage.review import answer, asked
from flywheel.protocols import GuardView
from flywheel.records import Action, Alarm
from flywheel.storage.events import GuardAlarm
from flywheel.storage.store import Store
from tests.support.harness import events

SEEN: list[GuardView] = []


@dataclass
class Watches:
    """Raises an alarm in one generation."""

    action: str = "warn"
    at: int = 1

    def check(self, view: GuardView) -> Alarm | None:
        SEEN.append(view)
        return Alarm(Action(self.action), "it fell") if view.generation.number == self.at else None


def watching(**arguments: Any) -> dict[str, Any]:
    return {"+guards.fall": {"_target_": f"{__name__}.Watches", **arguments}}


def outcome(run: Any) -> list[tuple[str, str]]:
    return [(g.status, g.reason) for g in run.status().generations]


def test_a_guard_sees_both_models_outcomes_and_the_verdict(probe: Any) -> None:
    SEEN.clear()
    run = probe(generations=2, **watching())
    assert [(view.generation.number, view.opponent.number) for view in SEEN] == [(1, 0), (2, 1)]
    for view in SEEN:
        assert view.verdict.promote
        assert set(view.candidate["subject"].to_pylist()) == {view.generation.weights}
        assert set(view.champion["subject"].to_pylist()) == {view.opponent.weights}
        assert view.candidate["item"].to_pylist() == view.champion["item"].to_pylist()
    alarms = [e["facts"]["alarms"] for e in events(run.path) if e.get("stage") == "guard"]
    assert alarms == [[{"guard": "fall", "action": "warn", "reason": "it fell"}], []]
    assert [status for status, _ in outcome(run)] == ["promoted"] * 3, "a warning changes nothing"


def test_a_halt_promotes_nothing_and_stops_the_run_which_may_go_on(probe: Any) -> None:
    run = probe(generations=2, **watching(action="halt"))
    assert run.exit_code is ExitCode.STOPPED
    status, reason = outcome(run)[1]
    assert status == "rejected"
    assert reason.startswith("guard fall: it fell, though decided on")
    assert events(run.path)[-1]["reason"] == "guard fall: it fell"
    run = probe(generations=2, **watching(action="halt"))
    assert run.exit_code is ExitCode.FINISHED
    assert [status for status, _ in outcome(run)] == ["promoted", "rejected", "promoted"]


def test_a_rejection_promotes_nothing_and_the_run_goes_on(probe: Any) -> None:
    run = probe(generations=2, **watching(action="reject"))
    assert run.exit_code is ExitCode.FINISHED
    assert [status for status, _ in outcome(run)] == ["promoted", "rejected", "promoted"]
    assert outcome(run)[1][1].startswith("guard fall: it fell, though decided on")


def test_a_candidate_that_the_gate_turns_down_is_said_to_be_rejected_by_both(probe: Any) -> None:
    run = probe(generations=1, **watching(action="reject"), **{"+gate.promote": False})
    assert outcome(run)[1][1].endswith("; guard fall: it fell")
    assert "though" not in outcome(run)[1][1]


def cut_after(run: Any, kind: str) -> None:
    """Leave the ledger as a SIGKILL right after this event of generation 1 does."""
    lines = (run.path / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    count = next(
        k for k, e in enumerate(events(run.path), 1) if e.get("generation") == 1 and kind in e.values()
    )
    (run.path / "ledger.jsonl").write_bytes(b"".join(lines[:count]))
    (run.path / "HEAD").write_text(json.loads(lines[count - 1])["hash"] + "\n")


@pytest.mark.parametrize("kind", ["guard", "generation_ended"])
def test_a_halt_holds_where_a_kill_kept_the_session_from_saying_so(probe: Any, kind: str) -> None:
    halting = {"generations": 1, **watching(action="halt")}
    cut_after(probe(**halting), kind)
    halted = probe(**halting, budget__seconds=1e-6)  # which is spent as well
    assert (halted.exit_code, events(halted.path)[-1]["event"]) == (ExitCode.STOPPED, "run_stopped")
    assert events(halted.path)[-1]["reason"] == "guard fall: it fell"
    assert "budget" in events(probe(**halting, budget__seconds=1e-6).path)[-1]["reason"]
    assert probe(**halting).exit_code is ExitCode.FINISHED


def test_a_halt_holds_where_a_person_interrupts_the_session_that_was_to_say_so(probe: Any) -> None:
    signals = {"stage": "generation_ended", "generation": 1, "times": 2}
    signals["_target_"] = "tests.support.probe_parts.SignalAt"
    halting = watching(action="halt")
    run = probe(**halting, **{f"+tracker.{key}": value for key, value in signals.items()})
    assert run.exit_code is ExitCode.INTERRUPTED
    assert events(probe(**halting).path)[-1]["reason"] == "guard fall: it fell"
    assert probe(**halting).exit_code is ExitCode.FINISHED


def test_a_failure_that_stops_the_run_holds_where_a_kill_kept_the_session_from_saying_so(
    probe: Any, fault: Any
) -> None:
    fault("grade:raise")
    cut_after(probe(generations=1), "generation_ended")
    fault("")
    run = probe(generations=1)
    assert (run.exit_code, events(run.path)[-1]["event"]) == (ExitCode.FAILED, "run_failed")
    assert events(run.path)[-1]["reason"] == run.status().generations[1].reason
    assert probe(generations=1).exit_code is ExitCode.FINISHED


def test_a_kill_after_a_guard_has_asked_takes_nothing_from_the_question(probe: Any) -> None:
    asking = {"generations": 1, **watching(action="ask")}
    cut_after(probe(**asking), "guard")
    assert probe(**asking).exit_code is ExitCode.AWAITING_REVIEW


@pytest.mark.parametrize("consent", [True, False])
def test_a_guard_may_ask_for_a_person_where_nobody_reviews(probe: Any, consent: bool) -> None:
    run = probe(generations=1, **watching(action="ask"))
    assert run.exit_code is ExitCode.AWAITING_REVIEW
    question = asked(run.path)
    assert question.alarms == (GuardAlarm(guard="fall", action=Action.ASK, reason="it fell"),)
    answer(run.path, consent, "Ada", "looked at it", question.manifest[:12])
    run = probe(generations=1, **watching(action="ask"))
    assert run.exit_code is ExitCode.FINISHED
    status, reason = outcome(run)[1]
    assert (status == "promoted", reason.startswith("the review said no")) == (consent, not consent)
    review = next(e for e in events(run.path) if e.get("stage") == "review")
    assert (review["outputs"]["manifest"], review["facts"]["reviewer"]) == (question.manifest, "Ada")


def test_an_answer_is_to_one_manifest(probe: Any) -> None:
    run = probe(generations=1, review="person")
    with pytest.raises(RunError, match="got 'f00'"):
        answer(run.path, True, "Ada", "", "f00")
    question = asked(run.path).json()
    assert question == {"manifest": question["manifest"], **Store(run.path).json(question["manifest"])}
    answer(run.path, False, "Ada", "")
    answer(run.path, True, "Ada", "on second thought")
    assert probe(generations=1, review="person").exit_code is ExitCode.FINISHED
    with pytest.raises(RunError, match="Expected a run that waits for a review"):
        answer(run.path, True, "Ada", "")


def test_an_answer_counts_for_no_other_candidate(probe: Any) -> None:
    run = probe(generations=2, review="person")
    answer(run.path, True, "Ada", "")
    run = probe(generations=2, review="person")
    assert run.exit_code is ExitCode.AWAITING_REVIEW
    assert [status for status, _ in outcome(run)] == ["promoted", "promoted", "unfinished"]


def test_a_guard_names_a_class(probe: Any) -> None:
    with pytest.raises(ConfigError, match=r"guards\.fall must name a class by _target_"):
        probe(**{"+guards.fall": {"at": 1}})
    with pytest.raises(ConfigError, match=r"guards\.fall\.att is no argument of .*Did you mean at"):
        probe(**watching(att=1))
