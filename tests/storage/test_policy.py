from __future__ import annotations

import pytest

from flywheel.storage.policy import Policy


@pytest.mark.parametrize(
    ("policy", "options", "text"),
    [
        (Policy(promoted=True), "--promoted", "all champions"),
        (Policy(last=3), "--last 3", "the last 3 generations"),
        (Policy(promoted=True, last=1), "--promoted --last 1", "all champions and the last generation"),
        (Policy(), "--last 0", "only what the run needs"),
    ],
)
def test_a_policy_as_options_and_for_people(policy: Policy, options: str, text: str) -> None:
    assert (policy.options, str(policy)) == (options, text)
    assert Policy(**policy.json()) == policy


def test_nothing_asked_for_keeps_everything() -> None:
    assert Policy.of(promoted=False, last=None) is None
    assert Policy.of(promoted=True, last=None) == Policy(promoted=True)
    assert Policy.of(promoted=False, last=0) == Policy()
    with pytest.raises(ValueError, match="0 or more generations, got -1"):
        Policy.of(promoted=False, last=-1)
