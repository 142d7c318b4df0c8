from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import flywheel
from tests.support.loop_runs import Probe, quick_folder, run_probe


@pytest.fixture(scope="session")
def uninterrupted() -> Iterator[flywheel.Run]:
    """A run of two turns, finished in one go. To be read only."""
    with quick_folder() as folder:
        yield run_probe(folder)


@pytest.fixture(scope="session")
def genesis_only() -> Iterator[Path]:
    """The ``runs_dir`` of a run that has made its first champion. To be read only."""
    with quick_folder() as folder:
        run_probe(folder, generations=0)
        yield folder


@pytest.fixture
def probe(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Probe:
    """Runs the recipe ``probe``, always the same run, in a folder of this test."""
    monkeypatch.delenv("PROBE_FAULT", raising=False)
    monkeypatch.delenv("PROBE_CONSENT", raising=False)
    return lambda **overrides: run_probe(folder / "runs", **overrides)


@pytest.fixture
def after_genesis(probe: Probe, genesis_only: Path, folder: Path) -> Probe:
    """Like ``probe``, with genesis done already."""
    shutil.copytree(genesis_only, folder / "runs")
    return probe


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Switches a fault of the recipe's parts on; an empty string switches it off."""
    return lambda text: monkeypatch.setenv("PROBE_FAULT", text)
