from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from flywheel.metrics.audits import before, drift, flaw, gaps
from flywheel.metrics.proportions import fall_p_value, proportion, recall
from flywheel.records import Interval
from flywheel.storage.events import AuditFacts, Checked


@pytest.mark.parametrize(("right", "of"), [(0, 5), (5, 5), (1, 1), (170, 200), (199, 200), (3, 7)])
def test_a_proportion_is_that_of_clopper_and_pearson(right: int, of: int) -> None:
    theirs = stats.binomtest(right, of).proportion_ci(method="exact")
    ours = proportion(right, of)
    assert (ours.value, ours.low, ours.high) == pytest.approx((right / of, theirs.low, theirs.high))


def test_recall_is_of_what_is_right_and_kept() -> None:
    share = recall((1000, 200, 180), (400, 50, 10))
    assert share is not None
    assert share.value == pytest.approx(900 / (900 + 80))
    assert share.low < share.value < share.high
    assert recall((10, 10, 8), (0, 0, 0)) == Interval(1.0, 1.0, 1.0), "nothing is dropped"
    assert recall((10, 0, 0), (5, 5, 1)) is None, "nothing is known of what was kept"
    assert recall((10, 10, 0), (5, 5, 0)) is None, "nothing is right"


@pytest.mark.parametrize(("now", "then"), [((180, 200), (590, 600)), ((5, 9), (9, 9)), ((0, 3), (0, 9))])
def test_a_fall_is_tested_as_fisher_does(now: tuple[int, int], then: tuple[int, int]) -> None:
    table = [[now[0], now[1] - now[0]], [then[0], then[1] - then[0]]]
    assert fall_p_value(*now, *then) == pytest.approx(stats.fisher_exact(table, "less").pvalue)


def audit(
    right: int, of: int = 200, rows: int = 1000, gap: Interval | None = None, **more: str
) -> AuditFacts:
    kept, none = (
        Checked(rows=rows, drawn=of, graded=of, right=right),
        Checked(rows=0, drawn=0, graded=0, right=0),
    )
    gaps = {"score": gap} if gap else {}
    return AuditFacts(
        grader="T", version=None, column="t", kept=kept, dropped=none, score="score", gaps=gaps, **more
    )


def test_what_is_below_beyond_chance_is_a_flaw_and_all_rows_leave_no_chance() -> None:
    def said(right: int, of: int, rows: int) -> str | None:
        facts = audit(right, of, rows)
        return flaw(facts.kept, proportion(right, of), 0.95, {})

    assert said(186, 200, 1000) is None, "93% may be 95%"
    assert "of the kept samples 85.0%" in str(said(170, 200, 1000))
    assert "fewer than 95.0%" in str(said(18, 20, 20)), "all were looked at"
    assert said(19, 20, 20) is None
    nothing = Checked(rows=9, drawn=9, graded=0, right=0)
    assert "none of 9 rows could be audited, no label" in str(flaw(nothing, None, 0.95, {"no label": 9}))


def test_drift_is_against_all_audits_up_to_the_first_one() -> None:
    known = before([audit(198), audit(197), audit(150, drift="so"), audit(10)])
    assert known is not None
    assert (known.graded, known.right) == (400, 395)
    assert drift(audit(196).kept, None, known) is None
    assert "fell from 98.8%" in str(drift(audit(180).kept, None, known))


def test_a_gap_that_grows_while_as_much_is_right_is_drift() -> None:
    small, large = Interval(0.01, -0.01, 0.03), Interval(0.09, 0.07, 0.11)
    known = before([audit(199, gap=small)] * 2)
    assert drift(audit(199).kept, small, known) is None
    assert "overstates what is right by 9.0%" in str(drift(audit(199).kept, large, known))


def test_a_score_that_understates_what_is_right_is_no_drift_whatever_it_did_before() -> None:
    """A vote of two of three scores .67 what is nearly always right: to understate it less is no fault."""
    known = before([audit(199, gap=Interval(-0.2, -0.22, -0.18))] * 2)
    assert drift(audit(199).kept, Interval(-0.05, -0.07, -0.03), known) is None
    assert drift(audit(199).kept, Interval(0.01, -0.01, 0.03), known) is None
    said = str(drift(audit(199).kept, Interval(0.09, 0.07, 0.11), known))
    assert "overstates what is right by 9.0%, and understated it by 20.0% before" in said


def test_a_gap_is_of_floats_from_0_to_1_where_both_are_known() -> None:
    import pyarrow as pa

    rows = pa.table(
        {"vote": [1.0, 0.9, None, 0.8], "loss": [-3.0, 2.0, 1.0, 0.0], "why": ["a", "b", "c", "d"]}
    )
    found = gaps(rows, np.array([1.0, 0.0, 1.0, np.nan]))
    assert list(found) == ["vote"]
    assert found["vote"].value == pytest.approx(0.45)
    assert -1 <= found["vote"].low < 0.45 < found["vote"].high <= 1


def test_intervals_hold_and_what_is_bad_is_flagged_over_280_turns_of_known_truth() -> None:
    from benchmarks.audits import covers, turns_of

    runs = {p: [t for run in range(20) for t in turns_of(run, p, (400, 2000), 200, 14)] for p in (0.85, 0.98)}
    for made in runs.values():
        assert len(made) == 280
        assert np.mean([covers(turn.facts.precision, turn.precision) for turn in made]) >= 0.93
        assert np.mean([covers(turn.facts.recall, turn.recall) for turn in made]) >= 0.93
    assert np.mean([bool(turn.facts.flagged) for turn in runs[0.85]]) >= 0.95
    assert np.mean([bool(turn.facts.flagged) for turn in runs[0.98]]) <= 0.05
