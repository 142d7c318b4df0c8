"""``flywheel new``: three commands, nothing edited; what cannot be written is refused and nothing is left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flywheel.cli.scaffold import TEMPLATE, write
from flywheel.errors import ConfigError
from tests.support.harness import Ended, shared_fork_server


def answer(module: str, words: list[str], folder: Path) -> str:
    """What ``python -m MODULE WORDS`` prints."""
    done: Ended = shared_fork_server().run(words, folder, module=module)
    assert done.code == 0, done.out + done.err
    return done.out


def test_new_and_the_commands_it_prints(tmp_path: Path) -> None:
    said = answer("flywheel", ["new", "beans"], tmp_path)
    run, test = (line.split() for line in said.splitlines() if line.startswith("  "))
    assert run[:3] + test == ["python", "-m", "flywheel", "pytest", "beans"]
    out = answer("flywheel", run[3:], tmp_path)
    assert "  promoted: +" in out, "it improves, and on evidence"
    assert "1 passed" in answer("pytest", test[1:], tmp_path)


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
        ("null", "must not be read as a value"),
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


def test_into_another_folder_says_where(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    words = ["new", "beans", "--into", "there"]
    assert "next, in there:" in answer("flywheel", words, tmp_path)
    done = shared_fork_server().run(words, tmp_path)
    assert done.code == 2
    assert "exists already" in done.err
