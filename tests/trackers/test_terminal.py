import io
import json
import time
from pathlib import Path

import pytest

from flywheel.lineage.graph import Ancestor, Lineage, ProducedBy
from flywheel.records import Progress, Step
from flywheel.storage import ledger
from flywheel.storage.state import RunState
from flywheel.trackers.console import plain_console
from flywheel.trackers.terminal import (
    JsonLines,
    LiveView,
    PlainLines,
    Turns,
    sparkline,
)
from flywheel.trackers.tree import lineage_tree
from tests.support.events import event_of, written
from tests.support.told_run import run_events


def follow(tracker, events):
    state = RunState()
    for event in events:
        state.apply(event)
        tracker.event(event, state)
    tracker.close()
    return state


def test_plain_lines_tell_stages_verdicts_and_the_traceback(capsys):
    follow(PlainLines(Turns(3)), run_events())
    text = capsys.readouterr().out
    assert "digits/seed0: new run" in text
    assert "generation 1, turn 1 of 3: the champion is generation 0" in text
    assert "gate accuracy 96.8% [95.3, 97.8]" in text
    assert "Traceback: user.py, line 3" in text
    assert "failed: train: boom. The champion stays." in text


def test_plain_lines_of_a_resumed_run_say_where_it_goes_on(capsys):
    tracker, state = PlainLines(Turns(3)), RunState()
    for event in run_events():
        state.apply(event)
    tracker.event(event_of("session_started"), state)
    assert "continuing after generation 1" in capsys.readouterr().out


def test_json_lines_are_the_events(capsys):
    follow(JsonLines(), run_events())
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [written(event) for event in run_events()]


def test_the_live_view_shows_stage_progress_champion_and_what_failed(console):
    view = LiveView(console, Turns(3))
    state = RunState()
    for event in run_events()[:8]:
        state.apply(event)
        view.event(event, state)
    view.progress(Progress(1, "train", 30, 60))
    console.print(view._render())
    for event in run_events()[8:]:
        state.apply(event)
        view.event(event, state)
    view.close()
    text = console.file.getvalue()
    assert "30/60" in text
    assert "candidate  generation 1" in text
    assert "generation 1 failed: train: [red]boom[/]" in text  # shown as it is, not taken as markup
    assert "Traceback: user.py, line 3" in text


def test_the_live_view_is_away_while_lightnings_own_bar_is_drawn(console):
    view, state, written = LiveView(console, Turns(3), has_bar=True), RunState(), console.file
    view.open(Path())
    for event in run_events()[:4]:
        state.apply(event)
        view.event(event, state)
    view.progress(Progress(0, "train", 0, None))
    view.progress(Progress(0, "train", 5, 60))
    before = written.getvalue()
    time.sleep(0.6)  # it is drawn four times a second
    assert written.getvalue() == before
    console.print("the bar")
    for event in run_events()[4:8]:
        state.apply(event)
        view.event(event, state)
    again = written.getvalue().partition("the bar\n")[2]
    assert "train" in again, "it is back"
    assert not again.startswith("\r\x1b"), "and begins below what the bar left"
    view.close()


def replayed(tracker, run, until=None):
    """Have a tracker follow what a run recorded, at most until an event that fits."""
    state, events = RunState(), ledger.read(run)
    ends = [k for k, event in enumerate(events) if until and until(event)]
    for event in events[: ends[0] + 1] if ends else events:
        state.apply(event)
        tracker.event(event, state)
    return state


def test_plain_lines_of_a_frontier_tell_what_is_built_on_and_what_is_certified(frontier_run, capsys):
    replayed(PlainLines(Turns(5)), frontier_run)
    lines = capsys.readouterr().out.splitlines()
    rule = "promotion=frontier: what does no shown harm on dev, at level 0.07, is built on"
    assert lines[1].startswith(rule)
    assert lines[1].endswith("every 2 turns, back to the champion after 1 in vain")
    on = "generation 2, turn 2 of 5: on generation 1, the frontier; the champion is generation 0"
    look = "look 1 of 4 at generation 1, the frontier; the champion is generation 0"
    back = "fell back to generation 1, the champion: a look has failed; generation 3 abandoned"
    order = [
        lines.index(line)
        for line in (on, look, "generation 3, turn 3 of 5: the champion is generation 1", back)
    ]
    assert order == sorted(order)
    assert any(line.startswith("  screen") and "dev accuracy 86.0% [" in line for line in lines)
    assert any(
        line.startswith("  still advanced, 1 of 1 looks in vain: not shown to be better") for line in lines
    )
    assert "finished: the champion is generation 1; the frontier, generation 5, is not certified" in lines
    assert any(line.lstrip().startswith(">5 advanced ") for line in lines)
    assert any(line.lstrip().startswith("3 advanced abandoned") for line in lines)


def test_plain_lines_of_greedy_say_that_it_is_no_test(greedy_run, capsys):
    replayed(PlainLines(Turns(2)), greedy_run)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "promotion=greedy: no test, what has the higher mean on dev becomes champion"
    assert any(line.startswith("  promoted: no test, promotion=greedy: +2.00% on dev") for line in lines)
    assert "finished: the champion is generation 1, promoted without a test" in lines
    assert any(line.lstrip().startswith("*1 promoted, no test ") for line in lines)
    assert "promotion=greedy: no test; what has the higher mean on dev becomes champion" in lines
    assert not any("error 0.2" in line for line in lines)


def test_the_live_view_of_a_look_shows_its_stages_and_the_frontier(frontier_run, console):
    view = LiveView(console, Turns(5))
    replayed(view, frontier_run, lambda event: event.event == "look")
    console.print(view._render())
    text = console.file.getvalue()
    assert "look 1 of 4 at generation 1, the frontier" in text
    assert "evaluate > gate > review" in text
    assert "generate >" not in text
    assert [
        line.split()[1] for line in text.splitlines() if " generation " in line and "accuracy" in line
    ] == [
        "champion",
        "frontier",
    ]
    assert "last verdict  generation 2 rejected: harm shown on dev" in text


def test_the_last_verdict_stays_while_the_same_generation_is_looked_at(frontier_run, console):
    view = LiveView(console, Turns(5))
    replayed(view, frontier_run, lambda event: event.event == "look" and event.generation == 5)
    console.print(view._render())
    assert "last verdict  generation 5 advanced: no harm shown on dev" in console.file.getvalue()


def test_the_live_view_of_a_turn_ends_with_its_screening(frontier_run, console):
    view = LiveView(console, Turns(5))
    replayed(view, frontier_run, lambda event: event.event == "generation_started" and event.generation == 2)
    console.print(view._render())
    text = console.file.getvalue()
    assert "train > screen " in text
    assert "evaluate >" not in text
    assert "promotion=frontier: what does no shown harm on dev" in text


def test_the_live_view_of_greedy_says_that_it_is_no_test(greedy_run, console):
    view = LiveView(console, Turns(2))
    replayed(view, greedy_run, lambda event: event.event == "generation_started" and event.generation == 1)
    console.print(view._render())
    text = console.file.getvalue()
    assert "train > screen > review" in text
    assert "promotion=greedy: no test" in text.partition("train > screen")[0].splitlines()[-2]


def test_the_live_view_says_when_the_frontier_falls_back(frontier_run, console):
    view = LiveView(console, Turns(5))
    replayed(view, frontier_run)
    assert "fell back to generation 1, the champion" in console.file.getvalue()


def test_a_session_that_begins_at_a_look_says_so(frontier_run, capsys):
    state = replayed(JsonLines(), frontier_run, lambda event: event.event == "look")
    capsys.readouterr()
    PlainLines(Turns(5)).event(event_of("session_started"), state)
    assert "continuing at the look at generation 1" in capsys.readouterr().out


def test_the_tree_hangs_generations_below_those_that_made_their_data(console):
    edge = ProducedBy(generation=0, made_in=1, samples="cd")
    first = Ancestor(0, None, "promoted", "", False, False, False, False, "ab", False, edges=())
    second = Ancestor(1, 0, "advanced", "", False, False, True, False, None, False, edges=(edge,))
    console.print(lineage_tree("runs/x", Lineage("runs/x", (first, second))))
    lines = console.file.getvalue().splitlines()
    assert lines[1].index("generation 0") < lines[2].index("generation 1")
    assert "generation 1 advanced abandoned" in lines[2]


@pytest.mark.parametrize(("on_failure", "text"), [("stop", "turn 1 of 3"), ("go_on", "turn 2 of 3")])
def test_turns_are_counted_as_the_loop_counts_them(on_failure, text):
    state = follow(
        JsonLines(), [*run_events(), event_of("generation_started", generation=2, parent=0, champion=0)]
    )
    assert Turns(3, on_failure).text(state.generations[2], state) == f"generation 2, {text}"
    assert Turns(3, on_failure).text(state.generations[0], state) == "generation 0"


@pytest.mark.parametrize(
    ("values", "drawn"),
    [
        ([], ""),
        ([1.0], ""),
        ([3.0, 2.0, 1.0], "█▅▁"),
        ([1.0, 1.0], "▁▁"),
        ([float(k // 100) for k in range(800)], "▁▁▁▂▂▂▃▃▃▄▄▄▅▅▅▆▆▆▇▇▇███"),
    ],
)
def test_a_loss_is_drawn_between_its_least_and_its_largest(values: list[float], drawn: str) -> None:
    assert sparkline(values) == drawn


def test_the_live_view_draws_the_fit_under_way() -> None:
    console = plain_console(file=io.StringIO(), width=120, force_terminal=True)
    view = LiveView(console, Turns(2))
    view.progress(Progress(1, "train", 3, 10, "loss 0.5"))
    for step, loss in ((1, 9.0), (2, 1.0)):
        view.metrics(Step(0, "train", step, step), {"loss": loss})
    for step, loss in ((1, 4.0), (2, 3.0), (3, 2.0)):
        view.metrics(Step(1, "train", step, step + 2), {"loss": loss, "lr": 0.1})
    with console.capture() as text:
        console.print(view._bar())
    assert "train loss 0.5" in text.get()
    assert "█▅▁" in text.get()
