import shutil
import subprocess
from pathlib import Path

import pytest

import flywheel
from flywheel.export.bundle import bundle
from flywheel.testing import CONFIG_DIR


@pytest.fixture
def folder(finished_run: Path, tmp_path: Path) -> Path:
    """A bundle of generation 1 that a test may damage."""
    return bundle(finished_run, 1, tmp_path / "handed" / "over")


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A private key and its public half, by the commands that our messages give."""
    place = tmp_path_factory.mktemp("keys")
    for words in ("ecparam -name prime256v1 -genkey -noout -out k.pem", "ec -in k.pem -pubout -out k.pub"):
        subprocess.run(["openssl", *words.split()], cwd=place, check=True, capture_output=True)
    return place / "k.pem", place / "k.pub"


@pytest.fixture
def old(finished_run: Path, tmp_path: Path) -> flywheel.Run:
    """A finished run with room for forks beside it."""
    copy = shutil.copytree(finished_run, tmp_path / "runs" / "moons" / "old")
    return flywheel.open_run(copy, CONFIG_DIR)
