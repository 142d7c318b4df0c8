from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from flywheel.errors import DataError
from flywheel.graders import Verifier
from flywheel.keys import Key
from tests.support import verifiers
from tests.support.harness import environment, wait_until


@pytest.fixture
def verifier() -> Iterator[Verifier]:
    made = Verifier(function=verifiers.planted, seconds=0.5, workers=2)
    yield made
    made.close()


def graded(verifier: Verifier, answers: Sequence[Any]) -> dict[str, list[Any]]:
    names = [str(row) for row in range(len(answers))]
    samples = pa.table({"prompt": names, "group": names, "answer": [str(answer) for answer in answers]})
    table = pa.table(verifier.grade(samples, lambda: None, Key.root(0).each(names)))
    columns: dict[str, list[Any]] = table.to_pydict()
    return columns


def test_scores_come_row_for_row(verifier: Verifier) -> None:
    scores = [k / 100 for k in range(100)]
    assert graded(verifier, scores) == {"verified": scores, "failure": [None] * 100}
    assert graded(verifier, []) == {"verified": [], "failure": []}


def test_draws_are_those_of_the_group_in_whatever_process() -> None:
    """Also the first draw of a process whose function imports NumPy as it is called."""
    made = []
    for _ in range(2):
        verifier = Verifier(function=verifiers.drawn, workers=2)
        made.append(graded(verifier, range(6))["verified"])
        verifier.close()
    assert made[0] == made[1]
    assert len(set(made[0])) == 6


FAULTS = {
    "hang": "timed out after 0.5 s",
    "hang in C": "timed out after 0.5 s",
    "exit": "its process left with exit code 7",
    "segfault": "its process died by SIGSEGV",
    "leave": "SystemExit: I leave",
    "raise": "ValueError: no sum: 2",
    "none": "the function gave no score (None)",
    "text": "a score must be true, false or a number in [0, 1]; it is '1'",
    "nan": "a score must be true, false or a number in [0, 1]; it is nan",
    "1.5": "a score must be true, false or a number in [0, 1]; it is 1.5",
    "half a character": "ValueError: \\ud800",
}


@pytest.mark.parametrize(("fault", "reason"), FAULTS.items())
def test_a_sample_that_fails_costs_one_sample(verifier: Verifier, fault: str, reason: str) -> None:
    answers = [1, 0.25, fault, *[0.5] * 20, 0]
    scores = [None if answer == fault else float(answer) for answer in answers]
    failure = [reason if answer == fault else None for answer in answers]
    assert graded(verifier, answers) == {"verified": scores, "failure": failure}, "null, and never 0"
    assert graded(verifier, [1]) == {"verified": [1.0], "failure": [None]}, "it goes on"


def test_several_that_fail_in_a_row(verifier: Verifier) -> None:
    columns = graded(verifier, ["exit", "segfault"] * 4 + [1])
    assert columns["verified"] == [None] * 8 + [1.0]
    assert columns["failure"][:2] == [FAULTS["exit"], FAULTS["segfault"]]


def test_what_a_function_prints_is_dropped(verifier: Verifier, capfd: pytest.CaptureFixture[str]) -> None:
    assert graded(verifier, ["print", 1])["verified"] == [1.0, 1.0]
    assert capfd.readouterr() == ("", "")


def test_large_samples_do_not_block(verifier: Verifier) -> None:
    samples = ["1" + " " * 10**6] * 20
    assert graded(verifier, samples)["verified"] == [1.0] * 20


def test_draws_of_global_generators_depend_on_the_sample_alone() -> None:
    few, many = (Verifier(function=verifiers.draws, workers=workers) for workers in (1, 2))
    scores = graded(few, range(40))["verified"]
    assert len(set(scores)) == 40
    assert graded(many, range(40))["verified"] == scores
    assert graded(many, range(20))["verified"] == scores[:20]
    few.close()
    many.close()


def test_processes_are_kept_and_ended_by_close() -> None:
    verifier = Verifier(function=verifiers.worker_of, workers=1)
    (first,), (second,) = (graded(verifier, [1])["verified"] for _ in range(2))
    assert first == second
    pid = round(first * 2**32)
    os.kill(pid, 0)
    verifier.close()
    assert is_gone(pid)
    assert graded(verifier, [1])["failure"] == [None], "it may be used again"
    verifier.close()


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state == "Z"


def test_what_a_slow_sample_started_ends_with_it(tmp_path: Path) -> None:
    verifier = Verifier(function=verifiers.leaves_a_child, seconds=1, workers=1)
    assert graded(verifier, [tmp_path / "pids"])["failure"] == ["timed out after 1 s"]
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        wait_until(lambda pid=pid: is_gone(pid), "end of what was started")
    verifier.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process that hangs in C")
def test_workers_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import pyarrow as pa; from flywheel.graders import Verifier; from flywheel.keys import Key\n"
        "from tests.support import verifiers\n"
        f"samples = pa.table({{'group': ['a'], 'answer': [{str(tmp_path / 'pids')!r}]}})\n"
        "verifier = Verifier(function=verifiers.leaves_a_child, seconds=600)\n"
        "verifier.grade(samples, None, Key.root(0).each(['a']))"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], env=environment())
    numbers = wait_until(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text(), "worker")
    worker, child = map(int, numbers.split())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_until(lambda: is_gone(worker), "end of the worker")
    os.kill(child, signal.SIGKILL)  # only a worker that is told to ends what it started


def test_a_class_may_be_the_function() -> None:
    verifier = Verifier(function=verifiers.AtLeast(least=0.5, column="value"), column="enough", workers=1)
    samples = pa.table({"group": ["a", "b"], "value": [0.4, 0.6]})
    scores = verifier.grade(samples, lambda: None, Key.root(0).each("ab"))
    assert scores["enough"].to_pylist() == [0.0, 1.0]
    verifier.close()


def test_a_function_of_no_module_is_refused() -> None:
    with pytest.raises(DataError, match="must be importable by another process: name one of a module"):
        graded(Verifier(function=lambda sample: True), [1])


class Unloadable:
    """Can be pickled, and not be had back."""

    def __call__(self, sample: Any) -> bool:
        return True

    def __reduce__(self) -> Any:
        return int, ("no number",)


class LeavesOnImport(Unloadable):
    def __reduce__(self) -> Any:
        return os._exit, (3,)


@pytest.mark.parametrize(
    ("function", "why"),
    [(Unloadable(), "no number"), (LeavesOnImport(), "exit code 3 while it was imported")],
)
def test_a_function_that_cannot_be_imported_there_is_refused(function: Any, why: str) -> None:
    with pytest.raises(DataError, match=f"(?s)must be importable by another process.*{why}"):
        graded(Verifier(function=function, workers=1), [1, 1])


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (
            {"function": "package.check"},
            r"function must be a function.*\{_target_: package.check, _partial_: true\}",
        ),
        ({"function": 3}, "function must be callable; it is a int"),
        ({"function": verifiers.never, "seconds": 0}, "seconds must be above 0; it is 0"),
        ({"function": verifiers.never, "workers": 0}, "workers must be 1 or more, or null; it is 0"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        Verifier(**arguments)


def test_one_at_work_can_be_pickled(verifier: Verifier) -> None:
    graded(verifier, [1])
    other = pickle.loads(pickle.dumps(verifier))
    assert other == verifier
    assert graded(other, [0])["verified"] == [0.0]
    other.close()
