"""``flywheel new``: three commands, nothing edited; what cannot be written is refused and nothing is left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flywheel.cli.scaffold import TEMPLATE, write
from flywheel.errors import ConfigError


def answer(words: list[str], folder: Path, env: dict[str, str]) -> str:
    """What a command prints, in a process of its own."""
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_new_and_the_commands_it_prints(tmp_path: Path, python_env: dict[str, str]) -> None:
    told = answer([sys.executable, "-m", "flywheel", "new", "beans"], tmp_path, python_env)
    run, test = (line.split() for line in told.splitlines() if line.startswith("  "))
    assert run[:2] + test == ["python", "-m", "pytest", "beans"]
    out = answer([sys.executable, *run[1:]], tmp_path, python_env)
    assert "  promoted: +" in out, "it improves, and on evidence"
    assert "1 passed" in answer([sys.executable, "-m", *test], tmp_path, python_env)


def test_what_is_written(tmp_path: Path) -> None:
    folder = write("beans", str(tmp_path))
    files = {str(path.relative_to(folder)) for path in folder.rglob("*.*")}
    yaml = {"conf/recipe/beans.yaml", "conf/overlay/tiny/beans.yaml"}
    assert files == {"__init__.py", "task.py", "model.py", "test_beans.py", *yaml}
    text = "".join((folder / name).read_text() for name in files)
    assert "flywheel.testing.moons" not in text
    assert "_target_: beans.task.Task" in text
    assert "import flywheel" not in (folder / "model.py").read_text()


def test_what_is_written_is_clean(tmp_path: Path) -> None:
    folder = write("beans", str(tmp_path))
    config = TEMPLATE.parents[2] / "pyproject.toml"
    for check in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *check, "--no-cache", "--config", str(config), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torch", "must not hide another module; 'torch' is one already .*torch/__init__"),
        ("flywheel", "must not hide another module"),
        ("sys", "must not hide another module"),
        ("beside", "must not hide another module; 'beside' is one already .*beside.py"),
        ("class", "no keyword; it is 'class'"),
        ("my-recipe", "letters, digits and _, no keyword; it is 'my-recipe'"),
        ("1st", "it is '1st'"),
        ("", "it is ''"),
        ("../up", "it is '../up'"),
        ("é", "it is 'é'"),
        ("null", "must not be a value"),
        ("mnist", r"'mnist' is a recipe already \(built-in\)"),
        ("full", "full exists already and was left as it is"),
        ("file", "file exists already"),
        ("n" * 300, "a folder that can be written; .* cannot: File name too long"),
    ],
)
def test_a_name_that_cannot_be_used(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "beside.py").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match=message):
        write(name, str(tmp_path))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot: No such file or directory"):
        write("beans", str(tmp_path / "nowhere"))


def test_nothing_is_left_of_a_recipe_that_the_disk_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        write("beans", str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_into_another_folder_says_where(tmp_path: Path, python_env: dict[str, str]) -> None:
    (tmp_path / "there").mkdir()
    words = [sys.executable, "-m", "flywheel", "new", "beans", "--into", "there"]
    assert "next, in there:" in answer(words, tmp_path, python_env)
    done = subprocess.run(words, cwd=tmp_path, env=python_env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "exists already" in done.stderr
