from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fake_stages import on_strings


@pytest.fixture(scope="module")
def fakes() -> Iterator[pytest.MonkeyPatch]:
    """The loop's stages do their work on strings."""
    with on_strings() as patch:
        yield patch


@pytest.fixture
def run(folder: Path) -> Path:
    """Directory of a run to make."""
    return folder / "fake" / "run"
