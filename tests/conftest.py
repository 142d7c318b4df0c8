from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

# What a test's runs remember of themselves is not the user's.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="flywheel-state-")
atexit.register(shutil.rmtree, os.environ["XDG_STATE_HOME"], ignore_errors=True)

# Runs sync all that they write; in memory that takes no time. Containers often have a small /dev/shm.
MEMORY = Path("/dev/shm")
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 2**30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

# Two test processes with two threads each on two cores would mostly wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No run draws its report by itself, as each drawing takes a second or two, but where a test is about that.
os.environ["FLYWHEEL_REPORT"] = "none"

settings.register_profile("repeatable", max_examples=50, derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")


class OneThread:
    """A run leaves its number of threads to the process; the tests after it compute with one again."""

    def pytest_runtest_setup(self) -> None:
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(1)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(OneThread())


@pytest.fixture(scope="session")
def python_env() -> dict[str, str]:
    """Environment of a subprocess that imports this checkout and no other."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a finished run of two turns. Read it only; change ``run_copy``."""
    return _moons(tmp_path_factory, generations=2)


@pytest.fixture(scope="session")
def frontier_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose generation 1 was promoted at its look; 3 was not and is abandoned; 5 is ahead. Read only."""
    frontier = {"promotion": "frontier", "promotion.patience": 1, "promotion.harm": 0.07}
    return _moons(tmp_path_factory, generations=5, **frontier)


@pytest.fixture(scope="session")
def greedy_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of two turns without a test, the first of which was promoted. Read it only."""
    return _moons(tmp_path_factory, generations=2, promotion="greedy")


def _moons(tmp_path_factory: pytest.TempPathFactory, **overrides: Any) -> Path:
    import flywheel
    from flywheel.testing import CONFIG_DIR

    ours = {"recipe": "moons", "log": "quiet", "threads": 1, "runs_dir": str(tmp_path_factory.mktemp("runs"))}
    return flywheel.run({**ours, **overrides}, config_dir=CONFIG_DIR).path


@pytest.fixture
def run_copy(finished_run: Path, tmp_path: Path) -> Path:
    """A finished run that a test may damage."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of this test, in memory where there is one."""
    from tests.support.loop_runs import quick_folder

    with quick_folder() as path:
        yield path


@pytest.fixture
def module_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to import from; what was imported from it is forgotten afterwards."""
    folder = tmp_path / "modules"
    folder.mkdir()
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
