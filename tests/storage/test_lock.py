from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flywheel.errors import LockedError, UnwritableError
from flywheel.lineage.recall import recall
from flywheel.storage import lock
from flywheel.storage.writer import amend

HEADER = """
import os, sys, time
from pathlib import Path
from flywheel.errors import LockedError
from flywheel.storage import lock
run = Path(sys.argv[1])
"""
HOLD = "lock.acquire(run); print('held', flush=True); time.sleep(60)"
HOLD_WITH_CHILD = """
lock.acquire(run)
if child := os.fork():
    print(child, flush=True)
time.sleep(60)
"""
ASK = "print(lock.is_held(run))"
ACQUIRE = """
try:
    lock.acquire(run)
    print("acquired")
except LockedError as error:
    print(error)
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path


@contextmanager
def locked(run: Path) -> Iterator[None]:
    lock.acquire(run)
    try:
        yield
    finally:
        lock.release(run)


@contextmanager
def other_process(
    program: str, run: Path, env: dict[str, str]
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that runs ``program``, and the first line it prints."""
    command = [sys.executable, "-c", HEADER + program, str(run)]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def answer(program: str, run: Path, env: dict[str, str]) -> str:
    with other_process(program, run, env) as (_, line):
        return line


def test_this_process_is_refused_a_second_time_and_keeps_the_lock(
    run: Path, python_env: dict[str, str]
) -> None:
    with locked(run):
        with pytest.raises(LockedError, match="this process"):
            lock.acquire(run)
        with pytest.raises(LockedError, match="this process"):
            lock.refuse(run)
        assert lock.is_held(run)
        assert f"process {os.getpid()}" in answer(ACQUIRE, run, python_env)
        assert answer(ASK, run, python_env) == "True", "to ask does not give it up"
    assert not lock.is_held(run)
    assert answer(ASK, run, python_env) == "False"
    assert answer(ACQUIRE, run, python_env) == "acquired"


@pytest.mark.parametrize("work", lock.Work)
def test_the_lock_says_what_its_holder_does(run: Path, python_env: dict[str, str], work: lock.Work) -> None:
    program = HOLD.replace("(run)", f"(run, lock.Work('{work}'))")
    with other_process(program, run, python_env) as (holder, _):
        assert lock.work_under_way(run) is work
        with pytest.raises(LockedError, match=f"being {work.passive} by process {holder.pid} on ") as refused:
            lock.acquire(run)
        assert ("flywheel stop" in str(refused.value)) == (work is lock.Work.RUN)
        assert str(run) in str(refused.value)
        assert lock.is_held(run)
    assert lock.work_under_way(run) is None


def test_a_holder_whose_work_cannot_be_read_runs(run: Path, python_env: dict[str, str]) -> None:
    with other_process(HOLD, run, python_env):
        (run / "lock").write_text("process 1 on")
        assert lock.work_under_way(run) is lock.Work.RUN


def test_a_run_reached_by_another_path_is_the_same_run(run: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(run)
    with locked(run):
        assert lock.is_held(link)
        with pytest.raises(LockedError):
            lock.acquire(link)


def test_a_run_without_a_lock_file_is_not_held(run: Path) -> None:
    assert not lock.is_held(run)
    assert not (run / "lock").exists()


def test_a_killed_writer_frees_the_run_though_its_forked_child_lives(
    run: Path, python_env: dict[str, str]
) -> None:
    with other_process(HOLD_WITH_CHILD, run, python_env) as (owner, child):
        assert lock.is_held(run)
        owner.kill()
        owner.wait()
        try:
            os.kill(int(child), 0)  # it lives
            assert not lock.is_held(run)
            with locked(run):
                pass
        finally:
            os.kill(int(child), signal.SIGKILL)


@contextmanager
def without_privileges() -> Iterator[None]:
    """Root may write everywhere, so become somebody who may not."""
    own = os.geteuid()
    if own == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(own)


def test_a_reader_without_write_permission_can_ask(python_env: dict[str, str]) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        other_process(HOLD, Path(folder), python_env) as (holder, _),
    ):
        run = Path(folder)
        (run / "lock").chmod(0o444)
        run.chmod(0o555)
        with without_privileges():
            assert not os.access(run, os.W_OK, effective_ids=True)
            assert lock.is_held(run)
        holder.kill()
        holder.wait()
        with without_privileges():
            assert not lock.is_held(run)
        run.chmod(0o755)


def test_a_new_writer_overwrites_a_longer_name(run: Path) -> None:
    (run / "lock").write_text("process 123456789 on a-machine-with-a-very-long-name.example.com" * 3)
    with locked(run):
        assert (run / "lock").read_text() == f"process {os.getpid()} on {os.uname().nodename}: run"


def test_who_is_refused_does_not_give_up_the_writers_lock(run_copy: Path) -> None:
    with locked(run_copy):
        with pytest.raises(LockedError):
            recall(run_copy, generation=1, why="x", yes=True)
        assert lock.is_held(run_copy)
        with pytest.raises(LockedError):
            amending(run_copy)
        assert lock.is_held(run_copy)


def amending(directory: Path) -> None:
    with amend(directory, lock.Work.RECALL):
        pass


def test_a_lock_that_is_a_link_is_not_written_through(run_copy: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim.txt"
    victim.write_text("mine")
    (run_copy / "lock").unlink(missing_ok=True)
    (run_copy / "lock").symlink_to(victim)
    with pytest.raises(UnwritableError):
        amending(run_copy)
    assert victim.read_text() == "mine"
