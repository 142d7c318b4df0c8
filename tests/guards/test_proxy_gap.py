from types import SimpleNamespace
from typing import Any

import pytest

from flywheel.errors import DataError
from flywheel.guards import ProxyGap
from flywheel.records import Action, Interval
from flywheel.storage.events import AuditFacts, Checked

SMALL, LARGE = Interval(0.01, -0.01, 0.03), Interval(0.3, 0.2, 0.4)


def check(guard: ProxyGap, gap: Interval = SMALL, **found: str) -> Any:
    kept, none = (
        Checked(rows=900, drawn=200, graded=200, right=196),
        Checked(rows=0, drawn=0, graded=0, right=0),
    )
    facts = AuditFacts(
        grader="Truth",
        version=None,
        column="right",
        kept=kept,
        dropped=none,
        precision=Interval(0.98, 0.95, 0.99),
        score="vote",
        gaps={"vote": gap},
        **found,
    )
    audit = SimpleNamespace(facts=facts)
    return guard.check(SimpleNamespace(generation=SimpleNamespace(audit=audit)))  # type: ignore[arg-type]


def test_what_is_sound_passes_and_is_measured() -> None:
    alarm = check(ProxyGap())
    assert alarm.action is Action.PASS
    assert "98.0% [95.0%, 99.0%] are right, 200 audited" in alarm.reason
    assert alarm.numbers == {"precision": 0.98, "gap": 0.01}


@pytest.mark.parametrize("action", ["warn", "ask", "reject", "halt"])
def test_a_flagged_audit_a_gap_and_drift_are_alarms_of_the_action_that_is_asked(action: str) -> None:
    for alarm, words in (
        (check(ProxyGap(action=action), flagged="too few are right"), "too few are right"),
        (check(ProxyGap(action=action), drift="it fell"), "it fell"),
        (check(ProxyGap(action=action), LARGE), "vote overstates what is right by 30.0% [20.0%, 40.0%]"),
    ):
        assert (alarm.action, words in alarm.reason) == (Action(action), True)


def test_a_gap_that_may_be_smaller_than_what_is_borne_is_none() -> None:
    assert check(ProxyGap(max_gap=0.2), LARGE).action is Action.PASS
    assert check(ProxyGap(drift=False), drift="it fell").action is Action.PASS


def test_without_an_audit_it_says_so() -> None:
    view: Any = SimpleNamespace(generation=SimpleNamespace(audit=None))
    alarm = ProxyGap(action="halt").check(view)
    assert alarm is not None
    assert (alarm.action, alarm.reason) == (
        Action.WARN,
        "no audit: nothing checked whether kept samples are right",
    )


def test_arguments_that_cannot_be_are_refused() -> None:
    with pytest.raises(DataError, match="'votes' is none, there are: vote"):
        check(ProxyGap(column="votes"))
    with pytest.raises(ValueError, match="max_gap must be between"):
        ProxyGap(max_gap=1.5)
    with pytest.raises(ValueError, match="action must be one of"):
        ProxyGap(action="shout")
