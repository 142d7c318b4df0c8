"""What the end-to-end tests share: commands in subprocesses, a quick way to start many, ledgers to read.

A ``ForkServer`` is a process that has imported everything and run nothing. It forks a child for each command,
which saves the five seconds that importing torch and lightning take.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PROBE_CONF = str(HERE / "conf")
MOONS_CONF = str(ROOT / "flywheel" / "testing" / "moons" / "conf")
MOONS = ("--config-dir", MOONS_CONF, "recipe=moons", "threads=1", "seal=reopen")
PROBE = ("--config-dir", PROBE_CONF, "recipe=probe", "threads=1", "seal=reopen")
"""The beginning of a command; tests go on with runs that have ended."""


def environment(**more: str) -> dict[str, str]:
    """Environment of a subprocess that imports this checkout and the parts beside this file.

    It has a W&B process of its own, not that of the tests.
    """
    path = os.pathsep.join([str(ROOT), str(HERE)])
    own = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    ours = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    return {**ours, **own, "PYTHONUNBUFFERED": "1", **more}


def wait_until(holds: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    """The first true value of ``holds()``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := holds():
            return value
        time.sleep(0.005)
    raise AssertionError(f"no {what} within {seconds} s")


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str


def command(
    arguments: Sequence[str], cwd: Path, *, env: Mapping[str, str] | None = None, timeout: float = 100
) -> Ended:
    """``python -m flywheel ARGUMENTS`` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "flywheel", *arguments],
        cwd=cwd,
        env=dict(env or environment()),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


class Child:
    """A command that a fork_server forked."""

    def __init__(self, fork_server: ForkServer, pid: int, out: Path, err: Path) -> None:
        self._server, self.pid, self._out, self._err = fork_server, pid, out, err
        self._code: int | None = None

    @property
    def code(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        if self._code is None:
            self._code = self._server.ask(poll=self.pid)
        return self._code

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def signal(self, number: int) -> None:
        if self.code is None:  # the fork_server has not reaped it, so the id is still its own
            os.kill(self.pid, number)

    def wait(self, seconds: float = 60.0) -> Ended:
        try:
            wait_until(lambda: self.code is not None, f"end of {self.pid}:\n{self.out}{self.err}", seconds)
        except AssertionError:
            self.signal(9)
            raise
        assert self.code is not None
        return Ended(self.code, self.out, self.err)


class ForkServer:
    """Starts ``python -m flywheel`` commands by forking a process that has imported it all."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "fork_server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            text=True,
            cwd=folder,
        )
        self.threads = self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def ask(self, **request: Any) -> Any:
        assert self._process.stdin is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._answer()

    def start(
        self,
        arguments: Sequence[str],
        cwd: Path,
        *,
        env: Mapping[str, str] | None = None,
        powerless: bool = False,
        terminal: str | None = None,
        module: str = "flywheel",
    ) -> Child:
        """Start ``python -m MODULE ARGUMENTS``.

        ``terminal``: the device that is its standard input and outputs. ``powerless``: without root's power
        to write everywhere.
        """
        self._count += 1
        out, err = (self._folder / f"{self._count}.{name}" for name in ("out", "err"))
        streams = [terminal] * 3 if terminal else [os.devnull, str(out), str(err)]
        for path in (out, err):
            path.touch()
        pid = self.ask(
            start=list(arguments),
            module=module,
            cwd=str(cwd),
            env=dict(env or {}),
            powerless=powerless,
            streams=streams,
        )
        return Child(self, pid, out, err)

    def run(self, arguments: Sequence[str], cwd: Path, **options: Any) -> Ended:
        """A command, to its end."""
        return self.start(arguments, cwd, **options).wait()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)


@functools.cache
def shared_fork_server() -> ForkServer:
    """The fork_server of this test process."""
    fork_server = ForkServer(Path(tempfile.mkdtemp(prefix="flywheel-tests-")))
    atexit.register(fork_server.close)
    return fork_server


def events(run: Path, **fields: Any) -> list[dict[str, Any]]:
    """The ledger's lines with these fields, read without flywheel; one that is being written is left out."""
    path = run / "ledger.jsonl"
    text = path.read_text() if path.exists() else ""
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [line for line in lines if fields.items() <= line.items()]


def kinds(run: Path) -> list[str]:
    """What happened, e.g. ``generation_started`` or ``train``, in order."""
    return [event.get("stage", event["event"]) for event in events(run)]


def artifacts(run: Path) -> list[tuple[Any, ...]]:
    """What each stage made, in order: all that a resumed run must share with an uninterrupted one."""
    made = [event for event in events(run) if event["event"] in ("stage", "generation_ended")]
    return [
        (e["generation"], e.get("stage"), e.get("status"), e.get("outputs"), e.get("facts"), e.get("carry"))
        for e in made
    ]


def only_run(folder: Path) -> Path:
    """The one run below ``folder/runs``, once it has a ledger."""
    (ledger,) = folder.glob("runs/*/*/ledger.jsonl")
    return ledger.parent


def has_run(folder: Path) -> bool:
    return any(folder.glob("runs/*/*/ledger.jsonl"))


def champion_hash(run: Path) -> str:
    """Content hash of the weights in force."""
    weights: dict[int, str] = {}
    champion = ""
    for event in events(run):
        if event.get("stage") in ("train", "adopt"):
            weights[event["generation"]] = event["outputs"]["weights"]
        if event.get("status") == "promoted":
            champion = weights[event["generation"]]
    return champion.partition(".")[0]
