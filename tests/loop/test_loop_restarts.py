"""torchrun --max-restarts: a rank that dies costs a stage, and an end that was decided is final.

Minutes long; the short one is in tests/crash/test_units.py.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

import flywheel
from flywheel.ranks import store_of_attempt
from tests.support.harness import (
    PROBE,
    artifacts,
    champion_hash,
    events,
    has_run,
    kinds,
    only_run,
    wait_until,
)
from tests.support.ranks import STANDALONE, ended, free_port, run_ranks, torchrun, workers

WORDS = (*PROBE, "name=run", "generations=1", "chunk_size=16", "log=plain")


def restarting(times: int, *launcher: str) -> tuple[str, ...]:
    return (*(launcher or STANDALONE), f"--max-restarts={times}")


def sessions(folder: Path) -> int:
    return kinds(only_run(folder)).count("session_started") if has_run(folder) else 0


def check_restarted(folder: Path, err: str, survivors: int) -> None:
    """One session died and one went on to the end; nobody is blamed, and a survivor says one line."""
    run = only_run(folder)
    said = [line for line in err.splitlines() if "another rank died" in line]
    assert 1 <= len(said) <= survivors, err
    assert all(line.startswith("rank ") for line in said)
    assert "Traceback" not in err
    assert kinds(run)[-1] == "run_finished"
    assert not [event for event in events(run) if event.get("status") == "failed"]
    assert not {"run_failed", "run_stopped", "run_interrupted"} & set(kinds(run))
    assert flywheel.open_run(run).verify().first_bad is None


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Runs that nobody disturbed, by number of ranks."""
    return {ranks: unbroken_run(tmp_path_factory.mktemp(f"ranks{ranks}"), WORDS, ranks) for ranks in (2, 3)}


def unbroken_run(folder: Path, words: tuple[str, ...], ranks: int) -> Path:
    done = run_ranks(words, folder, ranks=ranks)
    assert done.code == 0, done.err
    return only_run(folder)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("stage", "victim", "ranks"),
    [
        ("data", 1, 2),  # of genesis
        ("train", 0, 3),
        ("evaluate", 0, 2),
        ("evaluate", 2, 3),
        ("generate", 1, 2),
        ("generate", 0, 3),
        ("grade", 0, 2),  # rank 0 alone works, the others wait
        ("gate", 0, 3),
    ],
)
def test_a_rank_dies_in_any_stage(folder, unbroken, stage, victim, ranks):
    kill = {"PROBE_FAULT": f"{stage}:kill{victim}"}
    done = run_ranks(WORDS, folder, ranks=ranks, options=restarting(1), **kill)
    assert done.code == 0, done.err
    assert sessions(folder) == 2
    check_restarted(folder, done.err, survivors=ranks - 1)
    run = only_run(folder)
    assert artifacts(run) == artifacts(unbroken[ranks])
    assert champion_hash(run) == champion_hash(unbroken[ranks]) != ""


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_without_restarts_the_run_ends_and_the_same_command_goes_on(folder, unbroken):
    done = run_ranks(WORDS, folder, PROBE_FAULT="generate:kill1")
    assert done.code == 1
    assert "another rank died" in done.err
    assert kinds(only_run(folder))[-1] == "generation_started", "nothing is said of what was cut off"
    assert run_ranks(WORDS, folder).code == 0
    assert artifacts(only_run(folder)) == artifacts(unbroken[2])


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_nodes_count_their_restarts_apart(folder, unbroken):
    """Two agents on this machine: the one whose rank lives is restarted without counting it."""
    rendezvous = f"--rdzv-endpoint=127.0.0.1:{free_port()}"
    options = ["--nnodes=2", "--rdzv-backend=c10d", rendezvous, "--rdzv-id=run", "--local-addr=127.0.0.1"]
    node = {"ranks": 1, "options": restarting(2, *options), "PROBE_FAULT": "train:kill1"}
    with torchrun(WORDS, folder, **node) as first, torchrun(WORDS, folder, **node) as second:
        both = [ended(first), ended(second)]
    assert [done.code for done in both] == [0, 0], both
    assert sessions(folder) == 2
    assert champion_hash(only_run(folder)) == champion_hash(unbroken[2])


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("ranks", [2, 3])
def test_ten_kills_of_random_ranks(folder, ranks):
    words = (*WORDS, "generations=30")
    calm = folder / "calm"
    calm.mkdir()
    reference = unbroken_run(calm, words, ranks)
    chance, killed = random.Random(ranks), folder / "killed"
    killed.mkdir()
    with torchrun(words, killed, ranks=ranks, options=restarting(10)) as process:
        seen: set[int] = set()
        for _ in range(10):
            seen |= kill_one(process, killed, chance, seen, ranks)
        done = ended(process)
    assert done.code == 0, done.err
    run = only_run(killed)
    check_restarted(killed, done.err, survivors=10 * (ranks - 1))
    assert champion_hash(run) == champion_hash(reference) != ""
    assert artifacts(run) == artifacts(reference)


def kill_one(process, folder: Path, chance: random.Random, seen: set[int], ranks: int) -> set[int]:
    """Kill a rank of the next attempt: one time in four while it starts, else once the loop turns."""

    def next_attempt() -> list[int]:
        pids = [pid for pid, _ in workers(process) if pid not in seen]
        return pids if len(pids) == ranks else []

    before = sessions(folder)
    pids = wait_until(next_attempt, "ranks", 90)
    if chance.random() < 0.25:
        time.sleep(chance.uniform(0, 4))
    else:
        wait_until(lambda: sessions(folder) > before, f"session after {before}", 90)
        time.sleep(chance.uniform(0, 1.5))
    assert process.poll() is None, "the run ended before all kills"
    os.kill(chance.choice(pids), signal.SIGKILL)
    return set(pids)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(("number", "ranks"), [(signal.SIGTERM, 2), (signal.SIGTERM, 3), (signal.SIGINT, 2)])
def test_a_signal_to_torchrun_is_recorded_as_a_stop_and_restarts_nothing(folder, number, ranks):
    words = (*WORDS, "settings.steps=100000")
    with torchrun(words, folder, ranks=ranks, options=restarting(2)) as process:
        wait_until(lambda: has_run(folder) and kinds(only_run(folder))[-1:] == ["tune"], "fit", 90)
        time.sleep(1)
        process.send_signal(number)
        done = ended(process)
    assert done.code != 0
    assert kinds(only_run(folder))[-1] == "run_stopped", done.err
    reason = events(only_run(folder))[-1]["reason"]
    assert reason == ("SIGTERM" if number == signal.SIGTERM else "Ctrl-C")
    assert sessions(folder) == 1


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_stop_is_not_undone_by_a_restart(folder, ranks):
    with torchrun((*WORDS, "settings.steps=100000"), folder, ranks=ranks, options=restarting(1)) as process:
        wait_until(lambda: has_run(folder) and kinds(only_run(folder))[-1:] == ["tune"], "fit", 90)
        (only_run(folder) / "stop").touch()
        done = ended(process)
    assert done.code == 1
    assert kinds(only_run(folder))[-1] == "run_stopped"
    assert done.err.count("an earlier attempt ended with exit code 3 (stopped)") == 1, done.err


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_generation_that_failed_on_one_rank_is_a_failure_and_is_not_tried_again(folder):
    done = run_ranks(WORDS, folder, options=restarting(1), PROBE_FAULT="evaluate:only1")
    assert done.code == 1
    run = only_run(folder)
    (failed,) = [event for event in events(run) if event.get("status") == "failed"]
    assert "evaluate stage broke on rank 1" in failed["reason"]
    assert "probe_parts.py" in failed["traceback"], "where it was raised on the other rank"
    assert kinds(run)[-1] == "run_failed"
    assert sessions(folder) == 1
    assert "an earlier attempt ended with exit code 1 (failed)" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("words", [("generations=x",), ("trainer.devices=2", "name=../x")])
def test_a_refusal_is_said_once_and_by_all_ranks(folder, words):
    done = run_ranks((*WORDS, *words), folder)
    assert done.code != 0
    assert "exitcode  : 2" in done.err
    assert not (folder / "runs").exists()


def attempt(store, world: int, seconds: float = 20) -> list[bytes]:
    """What each rank reads of rank 0 through the store that it gets."""
    import torch.distributed as dist

    read: list[bytes] = [b""] * world

    def rank(number: int) -> None:
        own = store_of_attempt(store, number, world)
        assert isinstance(own, dist.PrefixStore)
        own.set(f"address/{number}", f"{id(read)}")
        read[number] = own.get("address/0")

    ranks = [threading.Thread(target=rank, args=(number,), daemon=True) for number in range(world)]
    for thread in ranks:
        thread.start()
    for thread in ranks:
        thread.join(seconds)
    return read


def test_no_attempt_sees_the_addresses_of_another():
    import torch.distributed as dist

    store = dist.HashStore()
    store.set_timeout(timedelta(seconds=10))
    first = attempt(store, 3)
    second = attempt(store, 3)
    assert len(set(first)) == len(set(second)) == 1
    assert first[0] != second[0] != b""
    store.set("flywheel/ask/1", "a rank that died before it had an answer")
    assert len(set(attempt(store, 3))) == 1
    assert len(set(attempt(store, 2))) == 1, "with another number of ranks"


def test_a_rank_that_does_not_come_is_named():
    import torch.distributed as dist

    store = dist.HashStore()
    store.set_timeout(timedelta(milliseconds=50))
    with pytest.raises(TimeoutError, match=r"\[1\] did not"):
        store_of_attempt(store, 0, 2)
