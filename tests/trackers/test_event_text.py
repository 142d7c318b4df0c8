"""Events in words."""

import pytest

from flywheel.trackers.event_text import stage_text
from tests.support.told_run import stage


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (stage(0, "seed", human=5), "5 human samples"),
        (stage(0, "generate", made=7), "7 samples"),
        (stage(0, "generate", made=7, left_out=2), "7 samples, 2 prompts that a suite asks left out"),
        (stage(0, "grade", grader="Vote"), "by Vote"),
        (
            stage(0, "curate", rows=9, by_origin={"human": 2, "generated": 7}),
            "9 rows kept, 7 generated, 2 human",
        ),
        (stage(0, "train", start={"kind": "fresh"}, steps=3), "init fresh, 3 steps"),
        (stage(0, "tune", start="fresh"), "init fresh"),
        (stage(0, "gate", verdict={"reason": "better"}), "better"),
        (stage(0, "guard", alarms=[{"guard": "fall", "action": "warn", "reason": "1%"}]), "fall (warn): 1%"),
        (stage(0, "review", consent=True), "consent: True"),
        (stage(0, "unheard"), ""),
    ],
)
def test_stages_in_words(event, text):
    assert stage_text(event) == text
