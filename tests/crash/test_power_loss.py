"""Loss of power after any fsync: what was not synced is gone, and the run goes on all the same."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from power import Mode, Power

from flywheel.storage.ledger import Ledger
from flywheel.storage.state import RunState
from flywheel.storage.verify import verify
from tests.support.harness import artifacts
from tests.support.loop_runs import quick_folder, run_probe

MODES: tuple[Mode, ...] = ("lost", "names", "torn")
RUN = "probe/run"


@pytest.fixture(scope="module")
def watched() -> Iterator[Power]:
    """A run of one turn, with all that a loss of power could have left of it."""
    with quick_folder() as made, pytest.MonkeyPatch.context() as patch:
        power = Power(made)
        power.watch(patch)
        run_probe(made, generations=1)
        yield power


def lines_of(content: bytes) -> int:
    return content.count(b"\n")


@pytest.mark.parametrize("mode", MODES)
def test_after_a_loss_of_power_the_ledger_opens_and_all_that_it_names_is_there(watched, folder, mode):
    check_instants(watched, folder, mode, MODES.index(mode), 8)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", MODES)
def test_after_any_loss_of_power_the_ledger_opens_and_all_that_it_names_is_there(watched, folder, mode):
    check_instants(watched, folder, mode, 0, 1)


def check_instants(watched: Power, folder: Path, mode: Mode, first: int, step: int) -> None:
    assert len(watched.instants) > 80
    opened = 0
    for k, instant in list(enumerate(watched.instants))[first::step]:
        place = folder / str(k)
        place.mkdir()
        watched.after_loss(instant, mode, place)
        run = place / RUN
        if run.is_dir():
            ledger = Ledger(run)
            ledger.close()
            opened += len(ledger.events) > 0
            RunState.replay(ledger.events)
            assert verify(run).first_bad is None, (k, mode)
            assert len(ledger.events) >= acknowledged(instant), (k, mode)
        shutil.rmtree(place)
    assert opened > 50 // step


def acknowledged(instant: object) -> int:
    """Lines that somebody may have relied on: HEAD had moved, durably, beyond them."""
    head, ledger = (instant.seen.get(f"{RUN}/{name}") for name in ("HEAD", "ledger.jsonl"))
    if not head or not ledger or instant.data.get(head[0]) != head[1]:
        return 0
    lines = ledger[1].splitlines()
    at = next((k for k, line in enumerate(lines) if head[1].strip() in line), 0)
    return at  # the line of HEAD itself may be one that the directory does not name yet


def resume(watched: Power, instant: object, mode: Mode, place: Path, calm: list) -> None:
    place.mkdir()
    watched.after_loss(instant, mode, place)
    run = run_probe(place, generations=1)
    assert artifacts(run.path) == calm
    assert run.verify().first_bad is None


@pytest.mark.parametrize("mode", MODES)
def test_the_run_goes_on_after_a_loss_of_power(watched, folder, calm, mode):
    instant = watched.instants[len(watched.instants) * (2 + MODES.index(mode)) // 6]
    resume(watched, instant, mode, folder / "run", calm)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", MODES)
def test_the_run_goes_on_after_a_loss_of_power_at_many_instants(watched, folder, calm, mode):
    for k in range(0, len(watched.instants), 7):
        resume(watched, watched.instants[k], mode, folder / str(k), calm)
