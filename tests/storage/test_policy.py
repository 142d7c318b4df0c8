from __future__ import annotations

import pytest

from flywheel.storage.policy import Policy


@pytest.mark.parametrize(
    ("text", "promoted", "last", "again"),
    [
        ("promoted", True, 0, "promoted"),
        ("last=3", False, 3, "last=3"),
        ("promoted,last=3", True, 3, "promoted,last=3"),
        (" last=2 , promoted ", True, 2, "promoted,last=2"),
        ("champion", False, 0, "champion"),
        ("champion,last=1,last=4", False, 4, "last=4"),
    ],
)
def test_a_policy_is_read_and_written(text: str, promoted: bool, last: int, again: str) -> None:
    policy = Policy.parse(text)
    assert policy == Policy(promoted, last)
    assert str(policy) == again
    assert Policy.parse(again) == policy


@pytest.mark.parametrize(
    "text", ["", "promoted,", "last", "last=0", "last=-1", "last=1.5", "best", "last=1;"]
)
def test_what_is_no_policy_is_refused_with_the_rule(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be a comma-separated list of promoted, last=N .* it is"):
        Policy.parse(text)
