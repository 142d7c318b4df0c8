from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from flywheel.export.bundle import bundle


@pytest.fixture
def folder(finished_run: Path, tmp_path: Path) -> Path:
    """A bundle of generation 1 that a test may damage."""
    return bundle(finished_run, 1, tmp_path / "handed" / "over")


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A private key and its public half, by the commands that our messages give."""
    place = tmp_path_factory.mktemp("keys")
    for words in (
        "ecparam -name prime256v1 -genkey -noout -out key.pem",
        "ec -in key.pem -pubout -out key.pub",
    ):
        subprocess.run(["openssl", *words.split()], cwd=place, check=True, capture_output=True)
    return place / "key.pem", place / "key.pub"
