"""Disks that are full or cannot be written. Real ones, so these tests need root and a Linux that mounts."""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
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


def test_a_disk_that_fills_up_fails_the_generation_and_room_goes_on(cli, small_disk, folder):
    runs = f"runs_dir={small_disk}"
    assert cli(*WORDS, "generations=0", runs).code == 0
    run = small_disk / "probe" / "run"
    ballast = fill(small_disk, leave=30_000)
    done = cli(*WORDS, runs)
    assert done.code == 1, done
    failed = [event for event in events(run) if event.get("status") == "failed"]
    assert len(failed) == 1
    assert "No space left" in failed[0]["reason"]
    assert events(run)[-1]["event"] == "run_failed"
    ballast.unlink()
    assert cli(*WORDS, runs).code == 0
    assert cli("verify", str(run)).code == 0


def test_going_on_with_a_disk_full_to_the_last_byte_is_refused_and_loses_nothing(cli, small_disk):
    runs = f"runs_dir={small_disk}"
    assert cli(*WORDS, "generations=0", runs).code == 0
    run = small_disk / "probe" / "run"
    before = len(events(run))
    ballast = fill(small_disk, leave=0)
    done = cli(*WORDS, runs)
    assert refused_clearly(done, "No space left"), done
    assert [e["event"] for e in events(run)[before:]] in ([], ["session_started"])
    assert cli("verify", str(run)).code == 0
    ballast.unlink()
    assert cli(*WORDS, runs).code == 0


def test_no_room_even_for_the_reserve_is_said_clearly(cli, small_disk, folder):
    runs = f"runs_dir={small_disk}"
    assert cli(*WORDS, runs, "generations=0").code == 0
    ballast = fill(small_disk, leave=0)
    cli(*WORDS, runs)  # spends the reserve
    with contextlib.suppress(OSError), open(ballast, "ab") as file:
        file.write(b"\0" * 2**20)
    done = cli(*WORDS, runs)
    assert refused_clearly(done, "No space left") or (done.code == 1 and "Traceback" not in done.err), done
    ballast.unlink()
    assert cli(*WORDS, runs).code == 0
    assert cli(*WORDS).code == 0
    assert champion_hash(small_disk / "probe" / "run") == champion_hash(folder / ELSEWHERE)


def test_a_full_disk_before_the_run_is_refused(cli, small_disk):
    fill(small_disk, leave=0)
    done = cli(*WORDS, f"runs_dir={small_disk}/runs")
    assert refused_clearly(done, str(small_disk), "No space left"), done


def test_a_full_disk_leaves_no_trace_once_there_is_room(cli, small_disk, folder):
    ballast = fill(small_disk, leave=0)
    cli(*WORDS, f"runs_dir={small_disk}")
    ballast.unlink()
    assert cli(*WORDS, f"runs_dir={small_disk}").code == 0
    assert cli(*WORDS).code == 0
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
