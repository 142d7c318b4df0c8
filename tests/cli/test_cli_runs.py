"""Runs from the command line: exit codes, what they print, stopping, signals, locks, sweeps."""

import json
import os
import pty
import signal
import threading
import time
from pathlib import Path

import pytest

from flywheel.errors import ExitCode
from flywheel.stages.table import STAGES
from tests.support.harness import (
    MOONS,
    PROBE,
    artifacts,
    champion_hash,
    events,
    has_run,
    kinds,
    only_run,
    wait_until,
)

SHORT = (*PROBE, "name=run", "generations=1")
RUN = Path("runs/probe/run")


def is_training(folder):
    """Whether the run has come to its first fit."""
    return has_run(folder) and "tune" in kinds(only_run(folder))


@pytest.fixture
def state(json_answer):
    """What the status of the run says of it, e.g. ``running``."""
    return lambda: json_answer("status", "run")["state"]


@pytest.fixture
def training(start, folder, long_run):
    """A process in the middle of a fit that would last for minutes."""
    child = start(*long_run)
    wait_until(lambda: is_training(folder), "fit")
    time.sleep(0.1)
    return child


def test_finished(cli, folder):
    done = cli(*SHORT, "log=plain")
    assert done.code == ExitCode.FINISHED == 0
    assert done.err == ""
    for words in ("probe/run: new run", "generation 0: genesis", "20 steps", "promoted: decided on 80"):
        assert words in done.out
    assert f"champion  generation 1, {RUN}/objects/" in done.out
    assert events(folder / RUN)[-1]["hash"] in done.out
    assert "\x1b" not in done.out, "no colours where there is no terminal"


def test_failed_then_tried_again(cli, state):
    done = cli(*SHORT, "log=plain", env={"PROBE_FAULT": "train:raise"})
    assert done.code == ExitCode.FAILED == 1
    assert "failed: train: RuntimeError: the train stage broke on purpose" in done.out + done.err
    assert "in training_step" in done.out + done.err
    assert state() == "failed"
    assert cli(*SHORT, "log=quiet").code == ExitCode.FINISHED


def test_awaiting_review_then_promoted(cli, state):
    words = (*SHORT, "review._target_=tests.support.probe_parts.Reviewer", "log=plain")
    done = cli(*words)
    assert done.code == ExitCode.AWAITING_REVIEW == 4
    assert "waiting for a review. The same command continues it." in done.out
    assert state() == "awaiting_review"
    assert cli(*words, env={"PROBE_CONSENT": "yes"}).code == ExitCode.FINISHED


def test_a_person_answers_from_another_process(cli, answer, json_answer, refusal):
    words = (*SHORT, "review=person", "log=quiet")
    assert cli(*words).code == ExitCode.AWAITING_REVIEW
    manifest = json_answer("review", "run")["manifest"]
    assert "says who gave it" in refusal("review", "run", "--yes")
    said = answer("review", "run", "--yes", "--by", "Ada", "--why", "read it", "--manifest", manifest[:8])
    assert said == "Generation 1: consented to. Run the same command to go on.\n"
    answer(*words)


def test_budget_stops(cli):
    done = cli(*SHORT, "budget.seconds=0.001", "log=plain")
    assert done.code == ExitCode.STOPPED == 3
    assert "budget" in done.out


def test_json_lines_are_the_ledgers_and_all_that_is_printed(answer, folder):
    """So that ``| jq`` works."""
    lines = answer(*SHORT, "log=json").splitlines()
    assert [json.loads(line) for line in lines] == events(folder / RUN)


def test_a_reader_that_leaves_early_is_no_error(start, finished):
    read, write = os.pipe()
    os.close(read)
    child = start("status", "run", "--json", terminal=f"/proc/{os.getpid()}/fd/{write}")
    os.close(write)
    assert child.wait().code in (0, 1)


def test_stop_from_another_process(training, answer, refusal, folder, state):
    assert state() == "running"
    assert "will stop at its next step" in answer("stop", "run")
    done = training.wait(20)
    assert done.code == ExitCode.STOPPED
    assert "stopped by `flywheel stop`. The same command continues it." in done.out
    assert state() == "stopped"
    assert not (folder / RUN / "stop").exists()
    assert "is not running" in refusal("stop", "run")


def test_stopped_run_ends_with_the_uninterrupted_champion(start, answer, folder):
    words = (*PROBE, "name=run", "generations=0", "settings.steps=400", "log=quiet")
    child = start(*words)
    wait_until(lambda: is_training(folder), "fit")
    answer("stop", "run")
    assert child.wait().code == ExitCode.STOPPED
    answer(*words)
    answer(*words, "runs_dir=other")
    stopped, other = folder / RUN, folder / "other" / "probe" / "run"
    assert "run_stopped" in kinds(stopped)
    assert champion_hash(stopped) == champion_hash(other)
    assert artifacts(stopped) == artifacts(other)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_at_the_next_step_and_says_how_to_resume(training, folder, number):
    training.signal(number)
    done = training.wait(20)
    assert done.code == ExitCode.STOPPED, done
    assert "stopping at the next step; once more stops now" in done.err
    assert "The same command continues it." in done.out
    assert events(folder / RUN)[-1]["event"] == "run_stopped"


def test_ctrl_c_twice_stops_now_and_loses_nothing(start, folder, answer, state):
    """The first is answered at a step; this task's grader has none for a minute."""
    child = start(*SHORT, "grader._target_=tests.support.probe_parts.SlowGrader", "log=plain")
    wait_until((folder / "grading").exists, "grader")
    recorded = len(events(folder / RUN))
    child.signal(signal.SIGINT)
    wait_until(lambda: "stopping at the next step" in child.err, "answer to the first")
    time.sleep(0.3)
    assert child.code is None
    child.signal(signal.SIGINT)
    done = child.wait(20)
    assert done.code == ExitCode.INTERRUPTED == 130
    assert "interrupted by Ctrl-C; nothing recorded is lost" in done.out
    assert len(events(folder / RUN)) == recorded + 1
    answer("verify", "run")
    assert state() == "interrupted"


def test_a_locked_run_is_refused_at_once(training, refusal, long_run):
    reason = refusal(*long_run)
    assert "A run has one writer" in reason
    assert f"process {training.pid}" in reason
    assert training.code is None


def test_a_killed_run_is_interrupted_and_free(training, refusal, state):
    training.signal(signal.SIGKILL)
    assert training.wait().code == -signal.SIGKILL
    assert state() == "interrupted"
    assert "is not running" in refusal("stop", "run")


def test_looking_at_a_run_never_keeps_it_from_starting(folder):
    """A reader asks whether the lock is held; asking must not take it."""
    from flywheel.storage import lock

    pid = os.fork()
    if pid == 0:
        while True:
            lock.is_held(folder)
    try:
        for _ in range(3000):
            lock.acquire(folder)
            lock.release(folder)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_multirun_makes_a_run_for_each_value(answer, folder):
    answer(*PROBE, "-m", "seed=0,1", "generations=0", "log=quiet")
    names = sorted(path.parent.name for path in folder.glob("runs/probe/*/ledger.jsonl"))
    assert [name.partition("-")[0] for name in names] == ["seed0", "seed1"]


def test_multirun_does_every_job_and_the_worst_exit_code_speaks(cli, folder):
    env = {"PROBE_FAULT": "train:raise"}
    words = (*PROBE, "-m", "genesis=train,fresh", "generations=0", "log=quiet")
    done = cli(*words, env=env)
    assert done.code == ExitCode.FAILED, done
    last = {events(path)[-1]["event"] for path in (folder / "runs" / "probe").iterdir() if path.is_dir()}
    assert last == {"run_failed", "run_finished"}


@pytest.mark.parametrize("value", ["generations=many", "generations=-1", "generatons=1", "settings.lr=x"])
def test_multirun_with_a_bad_value_is_refused(refusal, value):
    assert refusal(*MOONS, "-m", "seed=0,1", value, "log=quiet")


def test_multirun_with_one_bad_value_among_good_ones(cli, folder):
    done = cli(*PROBE, "-m", "settings.lr=0.01,x", "generations=0", "log=quiet")
    assert done.code != 0
    assert "Traceback" not in done.err


END = b"<end>"


@pytest.fixture
def terminal():
    """A pseudo-terminal of 120 columns, and a function that gives what was written to it."""
    master, slave = pty.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    written = bytearray()

    def read():
        try:
            while data := os.read(master, 65536):
                written.extend(data)
        except OSError:  # the last writer has left
            pass

    def text():
        os.write(slave, END)  # what was written before it comes before it
        wait_until(lambda: END in written, "end of what was written")
        return written.partition(END)[0].decode()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    yield os.ttyname(slave), text
    os.close(slave)
    reader.join(2)
    os.close(master)


@pytest.mark.parametrize("log", ["auto", "live"])
def test_live_view_on_a_terminal(start, terminal, log):
    name, text = terminal
    child = start(*SHORT, "settings.steps=150", f"log={log}", terminal=name, env={"TERM": "xterm-256color"})
    assert child.wait().code == 0, text()
    shown = text()
    assert "Traceback" not in shown
    assert "Error" not in shown
    for stage in (row.name for row in STAGES if row.of_a_turn):
        assert stage in shown
    for words in ("probe/run", "champion", "candidate", "last verdict", "promoted", "Ctrl-C stops"):
        assert words in shown
    assert "\x1b[?25l" in shown, "the cursor is hidden while the view is drawn"
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "and shown again"


def test_ctrl_c_in_the_live_view_leaves_a_usable_terminal(start, terminal, folder):
    name, text = terminal
    child = start(*SHORT, "settings.steps=20000", "log=live", terminal=name, env={"TERM": "xterm-256color"})
    wait_until(lambda: is_training(folder), "fit")
    time.sleep(0.3)
    child.signal(signal.SIGINT)
    assert child.wait().code == ExitCode.STOPPED
    assert "The same command continues it." in text()
    assert text().rindex("\x1b[?25h") > text().rindex("\x1b[?25l")
