from flywheel.storage.state import RunState
from flywheel.trackers import NoTracker, TrackerGroup


class Broken(NoTracker):
    def event(self, event, state):
        raise RuntimeError("no network")


class Counting(NoTracker):
    def __init__(self):
        self.events = 0

    def event(self, event, state):
        self.events += 1


def test_a_tracker_that_raises_is_left_out_and_told_of_once(capsys):
    counting = Counting()
    trackers = TrackerGroup([Broken(), counting])
    for _ in range(3):
        trackers.event({}, RunState())
    assert counting.events == 3
    assert capsys.readouterr().err.count("no network") == 1
