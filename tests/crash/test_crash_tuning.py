"""SIGKILL at random instants within tuning: the same trials and choice, and no finished trial made twice."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flywheel
from flywheel.errors import ExitCode
from flywheel.runtime import work
from flywheel.stages import trials
from tests.support.harness import PROBE, Child, events, has_run, kinds, only_run, wait_until
from tests.support.loop_runs import quick_folder, signal_at
from tests.support.ranks import fork_ranks
from tests.support.trial_parts import OPTUNA

FOLLOWS = "tuner._target_=tests.support.trial_parts.Follows"
WORDS = (*PROBE, "name=run", "generations=1", "genesis=fresh", "log=quiet", "tune.lag=2", FOLLOWS)
WORDS = (*WORDS, "settings.steps=60")
"""Its candidate is a trial's weights as they are, so that all fits are of trials."""


Words = tuple[str, ...]


def start(words: Words, folder: Path, ranks: int) -> list[Child]:
    folder.mkdir(exist_ok=True)
    return fork_ranks(words, folder, ranks=ranks, PROBE_UNITS=str(folder / "units"), PROBE_KILLS="")


def finish(words: Words, folder: Path, ranks: int) -> None:
    ended = [rank.wait() for rank in start(words, folder, ranks)]
    assert [rank.code for rank in ended] == [0] * ranks, ended[0].err


def tuned(folder: Path) -> list[dict[str, Any]]:
    return events(only_run(folder), event="stage", stage="tune") if has_run(folder) else []


def sessions(folder: Path) -> int:
    return len(events(only_run(folder), event="session_started")) if has_run(folder) else 0


def is_tuning(folder: Path) -> bool:
    return any(folder.glob("runs/*/*/work/tune/plan.json")) or bool(tuned(folder))


def durable(folder: Path) -> set[str]:
    """The learning rates of the trials that are on disk."""
    results = [work._read(path).values() for path in folder.glob("runs/*/*/work/tune/*.arrow")]
    data = [result.data for batch in results for result in batch if result.data is not None]
    return {str(trials.read(each)[0]["trial"]["settings"]["lr"]) for each in data}


def fits(folder: Path) -> list[str]:
    """The learning rates of the fits that were begun."""
    path = folder / "units"
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [line[2] for line in lines if line[1] == "fit"]


@pytest.fixture(scope="module")
def calm() -> Iterator[tuple[Path, float]]:
    """A run that was left alone on one rank, and how many seconds its trials took. To be read only."""
    with quick_folder() as folder:
        yield folder, calm_run(WORDS, folder)


def calm_run(words: Words, folder: Path) -> float:
    finish(words, folder, 1)
    (event,) = tuned(folder)
    return float(event["cost"]["seconds"])


def kill_within_tuning(words: Words, folder: Path, ranks: int, more: int, delay: float, victims: int) -> bool:
    """Kill the first so many ranks a while after tuning began, or after so many fits; False: it was over."""
    begun, before, running = len(fits(folder)), sessions(folder), start(words, folder, ranks)
    wait_until(lambda: sessions(folder) > before and is_tuning(folder), "trials")  # all ranks are there
    wait_until(lambda: len(fits(folder)) >= begun + more or tuned(folder), "fits")
    time.sleep(delay)
    for rank in running[:victims]:
        rank.signal(signal.SIGKILL)
    codes = [rank.wait().code for rank in running]
    is_killed = -signal.SIGKILL in codes
    assert is_killed or codes == [0] * ranks
    return is_killed and not tuned(folder)


def check_kills(where: Path, calm: tuple[Path, float], ranks: int, kills: int, words: Words = WORDS) -> None:
    """Kill so many times, a run of its own whenever one got beyond its trials, and compare each."""
    reference, seconds = calm
    instants, killed, attempt, after = random.Random(2026 + ranks), 0, 0, set[int]()
    while killed < kills:
        folder = where / str(attempt)
        is_over = False
        while killed < kills and not is_over:
            kept, begun = durable(folder), len(fits(folder))
            more, delay, victims = instants.randint(0, 3), instants.random(), instants.randint(1, ranks)
            is_over = not kill_within_tuning(words, folder, ranks, more, delay * seconds / 4, victims)
            assert not kept & set(fits(folder)[begun:]), "a finished trial was made again"
            killed += not is_over
            after.add(len(durable(folder)))
        kept, begun = durable(folder), len(fits(folder))
        finish(words, folder, ranks)
        assert not kept & set(fits(folder)[begun:]), "a finished trial was made again"
        (ours,), (theirs,) = tuned(folder), tuned(reference)
        assert (ours["outputs"], ours["facts"]) == (theirs["outputs"], theirs["facts"])
        assert set(fits(folder)) == set(fits(reference))
        run = only_run(folder)
        assert not (run / "work").exists()
        assert flywheel.open_run(run).verify().first_bad is None
        attempt += 1
        assert attempt <= 3 * kills
    assert len(after) > 1, f"all kills met as many finished trials: {after}"


def test_five_kills(folder: Path, calm: tuple[Path, float]) -> None:
    check_kills(folder, calm, 1, kills=5)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("ranks", "kills"), [(1, 30), (2, 12), (3, 6)])
def test_thirty_kills(folder: Path, calm: tuple[Path, float], ranks: int, kills: int) -> None:
    check_kills(folder, calm, ranks, kills)


def test_the_trial_of_rank_0_outlives_the_death_of_another_rank(
    folder: Path, calm: tuple[Path, float]
) -> None:
    first, second, *_ = fits(calm[0])
    units = {"PROBE_UNITS": str(folder / "units"), "PROBE_KILLS": f"fit {second}"}
    ended = [rank.wait() for rank in fork_ranks(WORDS, folder, ranks=2, **units)]
    assert [rank.code for rank in ended] == [ExitCode.RANK_DIED, -signal.SIGKILL], ended[0].err
    assert sorted(fits(folder)) == sorted([first, second])
    assert durable(folder) == {first}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("ranks", "kills"), [(1, 10), (2, 10)])
def test_ten_kills_of_a_search_by_optuna(folder: Path, ranks: int, kills: int) -> None:
    words = (*WORDS, *OPTUNA)
    seconds = calm_run(words, folder / "calm")
    check_kills(folder, (folder / "calm", seconds), ranks, kills, words)


@pytest.mark.parametrize(("ranks", "count"), [pytest.param(1, 1, marks=pytest.mark.slow), (2, 2)])
@pytest.mark.parametrize("is_recorded", [True, False])
def test_a_limit_of_seconds_holds_again_after_a_kill(
    folder: Path, ranks: int, count: int, is_recorded: bool
) -> None:
    """Killed right after the event that says so, or right before it, and continued on one rank.

    What was finished is used, though other trackers look on now.
    """
    deadly = signal_at(stage="tune", generation=1, number=9)
    limited = (*WORDS, "tune.seconds=1e-9")
    running = fork_ranks(
        (*limited, *(f"{key}={value}" for key, value in deadly.items())), folder, ranks=ranks
    )
    assert -signal.SIGKILL in [rank.wait().code for rank in running]
    run = only_run(folder)
    assert kinds(run)[-1] == "tune"
    *before, decided = events(run)
    assert (decided["event"], decided["what"], decided["value"]) == ("decided", "stop", count)
    assert "tune.seconds is 1e-09, and the trials took " in decided["reason"]
    if not is_recorded:
        lines = (run / "ledger.jsonl").read_bytes().splitlines(keepends=True)
        (run / "ledger.jsonl").write_bytes(b"".join(lines[:-1]))
        (run / "HEAD").write_text(before[-1]["hash"] + "\n")
    kept = len(durable(folder))
    assert kept == count
    units = {"PROBE_UNITS": str(folder / "units"), "PROBE_KILLS": ""}
    (ended,) = [rank.wait() for rank in fork_ranks(limited, folder, ranks=1, **units)]
    assert ended.code == 0, ended.err
    assert fits(folder) == []
    (tuning,) = tuned(folder)
    assert tuning["facts"]["units"]["count"] == count
    assert len(events(run, event="decided")) == 1
    again = flywheel.open_run(run)
    assert again.verify().first_bad is None
    assert again.reproduce(1).equal
