"""Runs under torchrun, and what is seen of its ranks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.support.harness import Child, Ended, environment, shared_fork_server

STANDALONE = ("--standalone",)


@contextmanager
def torchrun(
    words: Sequence[str],
    folder: Path,
    *,
    ranks: int = 2,
    options: Sequence[str] = STANDALONE,
    **env: str,
) -> Iterator[subprocess.Popen[str]]:
    """``torchrun OPTIONS -m flywheel WORDS`` with more variables in its environment.

    It is ended with its ranks, if it has not come to its end.
    """
    launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}", *options]
    process = subprocess.Popen(
        [*launcher, "-m", "flywheel", *words],
        cwd=folder,
        env=environment(**env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            left = [pid for pid, _ in workers(process)]
            process.kill()  # torchrun gives its ranks half a minute to end
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.communicate()


def ended(process: subprocess.Popen[str]) -> Ended:
    """How it ended."""
    out, err = process.communicate(timeout=240)
    return Ended(process.returncode, out, err)


def run_ranks(words: Sequence[str], folder: Path, **options: Any) -> Ended:
    """``torchrun``, to its end."""
    with torchrun(words, folder, **options) as process:
        return ended(process)


def fork_ranks(words: Sequence[str], folder: Path, *, ranks: int, **env: str) -> list[Child]:
    """``python -m flywheel WORDS`` as torchrun would start it on each rank, in a second instead of ten.

    What torchrun does when a rank ends is left out: the test looks after that.
    """
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "TORCHELASTIC_RUN_ID": "test"}
    place |= {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks), "GROUP_RANK": "0"}
    place |= {"TORCHELASTIC_RESTART_COUNT": "0", **env}
    own = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]
    return [shared_fork_server().start(words, folder, env=place | each) for each in own]


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def workers(process: subprocess.Popen[str]) -> list[tuple[int, int]]:
    """(process id, rank) of the ranks of the attempt under way, in the order of ranks."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    found = [(int(pid), _variable(pid, "RANK")) for pid in children]
    return sorted(((pid, int(rank)) for pid, rank in found if rank), key=lambda pair: pair[1])


def _variable(pid: str, name: str) -> str:
    """A variable of a process's environment; empty if it has ended."""
    try:
        pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    except OSError:
        return ""
    return next((value for key, _, value in (pair.partition("=") for pair in pairs) if key == name), "")
