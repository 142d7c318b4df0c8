from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.harness import artifacts, only_run, shared_fork_server
from tests.support.loop_runs import TURN, quick_folder


@pytest.fixture(scope="session")
def calm_run() -> Iterator[Path]:
    """A run of one turn that was left alone. To be read only."""
    with quick_folder() as folder:
        done = shared_fork_server().run(TURN, folder)
        assert done.code == 0, done.err
        yield only_run(folder)


@pytest.fixture(scope="session")
def calm(calm_run: Path) -> list[tuple[object, ...]]:
    """What a short run makes that is left alone."""
    return artifacts(calm_run)
