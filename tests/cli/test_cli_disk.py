"""Disks that are full or cannot be written. Real ones, so these tests need root and a Linux that mounts."""

import contextlib
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.harness import PROBE, artifacts, champion_hash, events

WORDS = (*PROBE, "name=run", "generations=2", "log=plain")
ELSEWHERE = Path("runs/probe/run")


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = Path(tempfile.mkdtemp(prefix="flywheel-disk-"))
    mounting = ["mount", "-t", "tmpfs", "-o", "size=4m", "flywheel-tests", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mounting, check=False, capture_output=True).returncode:
        folder.rmdir()
        pytest.skip("mounting needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()


def fill(disk: Path, leave: int) -> Path:
    """Take all room but ``leave`` bytes."""
    ballast = disk / "ballast"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    ballast.write_bytes(b"\0" * (free - leave))
    return ballast


def refused_clearly(done, *words: str) -> bool:
    return done.code == 2 and "Traceback" not in done.err and all(word in done.err for word in words)


@pytest.fixture
def runs(small_disk: Path) -> str:
    return f"runs_dir={small_disk}"


@pytest.fixture
def begun(answer: Callable[..., str], small_disk: Path, runs: str) -> Path:
    """A run on the small disk that has a genesis."""
    answer(*WORDS, "generations=0", runs)
    return small_disk / "probe" / "run"


def test_a_disk_that_fills_up_fails_the_generation_and_room_goes_on(cli, answer, small_disk, runs, begun):
    ballast = fill(small_disk, leave=30_000)
    done = cli(*WORDS, runs)
    assert done.code == 1, done
    (failed,) = [event for event in events(begun) if event.get("status") == "failed"]
    assert "No space left" in failed["reason"]
    assert events(begun)[-1]["event"] == "run_failed"
    ballast.unlink()
    answer(*WORDS, runs)
    answer("verify", str(begun))


def test_going_on_with_a_disk_full_to_the_last_byte_is_refused_and_loses_nothing(
    answer, refusal, small_disk, runs, begun
):
    before = len(events(begun))
    ballast = fill(small_disk, leave=0)
    assert "No space left" in refusal(*WORDS, runs)
    assert [e["event"] for e in events(begun)[before:]] in ([], ["session_started"])
    answer("verify", str(begun))
    ballast.unlink()
    answer(*WORDS, runs)


def test_no_room_even_for_the_reserve_is_said_clearly(cli, answer, small_disk, folder, runs, begun):
    ballast = fill(small_disk, leave=0)
    cli(*WORDS, runs)  # spends the reserve
    with contextlib.suppress(OSError), open(ballast, "ab") as file:
        file.write(b"\0" * 2**20)
    done = cli(*WORDS, runs)
    assert done.code == 1 or (done.code == 2 and "No space left" in done.err), done
    assert "Traceback" not in done.err
    ballast.unlink()
    answer(*WORDS, runs)
    answer(*WORDS)
    assert champion_hash(begun) == champion_hash(folder / ELSEWHERE)


def test_a_full_disk_before_the_run_is_refused(refusal, small_disk):
    fill(small_disk, leave=0)
    assert re.search(f"{small_disk}.*No space left", refusal(*WORDS, f"runs_dir={small_disk}/runs"), re.S)


def test_a_full_disk_leaves_no_trace_once_there_is_room(cli, answer, small_disk, folder, runs):
    ballast = fill(small_disk, leave=0)
    cli(*WORDS, runs)
    ballast.unlink()
    answer(*WORDS, runs)
    answer(*WORDS)
    assert artifacts(small_disk / "probe" / "run") == artifacts(folder / ELSEWHERE)


def test_a_read_only_disk_is_refused(cli, small_disk):
    assert cli(*WORDS, "generations=0", f"runs_dir={small_disk}").code == 0
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for runs in (small_disk, small_disk / "new"):
        done = cli(*WORDS, f"runs_dir={runs}")
        assert refused_clearly(done, str(small_disk), "Read-only"), done
    assert cli("status", "--runs-dir", str(small_disk)).code == 0, "to look at it is allowed"
    assert cli("verify", "--runs-dir", str(small_disk)).code == 0


@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_a_folder_of_somebody_else_is_refused(cli, folder, mode):
    if os.geteuid() != 0:
        pytest.skip("becoming somebody else needs root")
    runs = folder / "runs"
    runs.mkdir()
    runs.chmod(mode)
    os.chown(runs, 65534, 65534)
    done = cli(*WORDS, powerless=True)
    assert refused_clearly(done, "runs", "Permission denied"), done


@pytest.mark.parametrize("runs_dir", ["/proc/flywheel", "taken/runs"])
def test_a_place_that_can_hold_no_folder_is_refused(cli, folder, runs_dir):
    (folder / "taken").write_text("a file")
    done = cli(*WORDS, f"runs_dir={runs_dir}")
    assert refused_clearly(done, runs_dir.split("/")[0] or "/proc"), done
