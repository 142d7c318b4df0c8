"""A reward that is gamed by length, where an audit knows the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from flywheel.guards import Length
from flywheel.keys import Key
from flywheel.protocols import GuardView
from flywheel.records import Action, Alarm
from flywheel.storage.state import Generation
from flywheel.testing import FixedEvidence


def said(truth: np.ndarray | None, slope: float = 1.0, earlier: int = 0) -> Alarm:
    """What the guard says of rows whose score goes by length, and of which ``truth`` is audited.

    ``earlier``: the longest rows of generation 1; 0: it made none.
    """
    lengths = Key.root(0)("lengths").numpy().integers(1, 60, 400)
    columns: dict[str, Any] = {
        "id": [f"{row:03}" for row in range(400)],
        "text": ["x" * n for n in lengths],
        "vote": slope * lengths / 60,
    }
    if truth is not None:
        columns["audited"] = pa.array(truth, from_pandas=True)
    nobody: Any = None
    batches = {3: pa.table(columns)}
    if earlier:
        batches[1] = pa.table(columns | {"text": ["x" * (n * earlier // 60) for n in lengths]})
    view = GuardView(Generation(3, 2), nobody, nobody, nobody, nobody, FixedEvidence({}), batches=batches)
    alarm = Length(text="text", score="vote").check(view)
    assert alarm is not None
    return alarm


def audited(by_length: bool) -> np.ndarray:
    """200 of the 400 rows: right where the row is long, or by chance."""
    lengths = Key.root(0)("lengths").numpy().integers(1, 60, 400)
    chance = Key.root(0)("truth").numpy().uniform(0, 60, 400)
    right = (lengths > 30 if by_length else chance > 30).astype(float)
    right[::2] = np.nan
    return right


def test_where_the_truth_does_not_go_by_length_the_reward_is_gamed() -> None:
    alarm = said(audited(by_length=False))
    assert alarm.action is Action.WARN
    assert alarm.reason.startswith(
        "the reward is gamed by length: vote goes with the length of text by +1.00"
    )
    assert "audited by" in alarm.reason
    assert alarm.reason.endswith("on 200 rows")
    assert said(audited(by_length=False), slope=-1.0).action is Action.WARN, "or the short ones score higher"


def test_where_longer_rows_are_better_it_is_not() -> None:
    assert said(audited(by_length=True)).action is Action.PASS


def test_where_no_dev_suite_can_show_that_longer_rows_are_better_it_is_gamed() -> None:
    alarm = said(None, earlier=20)
    assert alarm.action is Action.WARN
    assert alarm.reason.endswith("generation 1, and there is no first champion to show that dev is better")
    assert said(None, earlier=60).action is Action.PASS, "rows are as long as they were"


def test_without_an_audit_or_earlier_turns_nothing_is_known() -> None:
    assert said(None).action is Action.PASS
    few = np.where(np.arange(400) < 20, 1.0, np.nan)
    assert said(few).action is Action.PASS


def test_tokens_that_texts_cannot_be_split_into_are_refused() -> None:
    with pytest.raises(ValueError, match="tokens must be words or characters; it is 'letters'"):
        Length(text="text", score="vote", tokens="letters")
