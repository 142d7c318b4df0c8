"""Only what runs can be stopped."""

import argparse
from pathlib import Path

import pytest

from flywheel.cli.commands import stop
from flywheel.errors import ExitCode
from flywheel.storage import lock


@pytest.mark.parametrize("work", [None, *lock.Work])
def test_a_stop_is_asked_for_only_where_the_writer_would_hear_it(
    run_copy: Path, work: lock.Work | None, capsys: pytest.CaptureFixture[str]
) -> None:
    if work:
        lock.acquire(run_copy, work)
    try:
        code = stop.main(argparse.Namespace(run=str(run_copy), runs_dir="runs"))
    finally:
        lock.release(run_copy)
    assert code is (ExitCode.FINISHED if work is lock.Work.RUN else ExitCode.REFUSED)
    assert (run_copy / "stop").exists() == (work is lock.Work.RUN)
    said = capsys.readouterr().err
    if work not in (None, lock.Work.RUN):
        assert f"is not running: it is being {work.passive}." in said
