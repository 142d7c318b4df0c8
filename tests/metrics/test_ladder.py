"""What is shown of a score that is read again and again."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import ladder as bench
from flywheel.metrics.ladder import is_step, rounded
from flywheel.records import Differences, Interval


def pairs(*differences: float, clusters: list[int] | None = None) -> Differences:
    return Differences(np.array(differences), np.array(clusters or range(len(differences))))


@pytest.mark.parametrize(
    ("wins", "losses", "level", "shown"),
    [
        (0, 0, None, False),  # a twin
        (10, 8, None, False),  # +2 by 4.3 or so
        (14, 9, None, True),  # +5 by 4.8
        (14, 9, 0.0125, False),
        (30, 9, 0.0125, True),  # +21 by 2.24 x 6.1
        (30, 9, 0.0001, False),
        (30, 9, 0.0, False),  # nothing is left
        (14, 9, 0.5, True),  # never less than one standard error
        (9, 30, None, False),
    ],
)
def test_a_score_is_shown_that_is_above_the_last_by_its_standard_error(
    wins: int, losses: int, level: float | None, shown: bool
) -> None:
    assert is_step(pairs(*[1.0] * wins, *[-1.0] * losses, *[0.0] * 100), level) is shown


def test_items_that_hang_together_are_worth_less() -> None:
    differences = [1.0] * 20 + [-1.0] * 10
    assert is_step(pairs(*differences))
    assert not is_step(pairs(*differences, clusters=[k // 10 for k in range(30)]))
    assert not is_step(pairs(1.0, 1.0, clusters=[0, 0])), "one cluster says nothing of chance"


def test_a_share_is_rounded_to_an_item_and_its_interval_outwards() -> None:
    assert rounded(Interval(0.52, 0.31, 0.69), 10) == Interval(0.5, 0.3, 0.7)
    assert rounded(Interval(0.3, 0.1, 0.6), 10) == Interval(0.3, 0.1, 0.6)
    assert rounded(Interval(7, 6, 9, "level"), 10) == Interval(7, 6, 9, "level")


@pytest.mark.parametrize("kind", bench.ATTACKS)
def test_whoever_sees_the_shown_scores_only_gains_little(kind: str) -> None:
    """``benchmarks.ladder`` at a smaller size: raw scores would be flattered by several standard errors."""
    raw, shown = (
        bench.excess(kind, rule, 200, 200, 20).mean() for rule in ("raw scores", "as flywheel shows it")
    )
    assert raw > 2.5
    assert shown < 1
