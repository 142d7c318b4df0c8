"""The table of generations."""

from msgspec.structs import replace

from flywheel.storage import ledger
from flywheel.storage.state import RunState
from flywheel.trackers.standings import generations_table
from tests.support.told_run import INTERVAL, run_events, stage


def test_the_table_fits_80_columns_with_three_suites(console):
    suites = {name: {"accuracy": INTERVAL} for name in ("dev", "gate", "sealed")}
    events = [e for e in run_events() if getattr(e, "stage", "") != "evaluate"]
    events.insert(5, stage(0, "evaluate", metrics=suites))
    console.print(generations_table(RunState.replay(events)))
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    assert any("*0 promoted" in line for line in lines)


def test_the_table_of_greedy_fits_80_columns(greedy_run, console):
    console.print(generations_table(RunState.replay(ledger.read(greedy_run)), console.width))
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    assert any("promoted, no test" in line for line in lines)


def test_a_generation_that_failed_early_has_a_row(console):
    events = [*run_events()[:8], replace(run_events()[9], reason="generate: no samples")]
    console.print(generations_table(RunState.replay(events)))
    assert "1 failed" in console.file.getvalue()
