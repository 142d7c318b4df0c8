"""A checkout, an editable install and a wheel elsewhere: the same names in all three, and none besides."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import ROOT, environment

pytest.importorskip("hatchling", reason='pip install -e ".[dev]" brings it')

REPORT = """
import importlib, json, sys
sys.path[:] = [path for path in sys.path if path not in ("", {root!r})]
for folder in {folders!r}:
    import site
    site.addsitedir(folder)
from flywheel.config.compose import compose
from flywheel.config.search_path import known_targets, recipes
import flywheel, flywheel.recipes.mnist.task as task
config = compose(["recipe=mnist"])
def importable(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
print(json.dumps({{
    "targets": sorted(known_targets()),
    "recipes": [(r.name, r.summary, r.source) for r in recipes()],
    "task": config.task._target_,
    "class": task.Mnist.__module__,
    "file": task.__file__,
    "package": flywheel.__file__,
    "extra": [name for name in ("conf", "recipes") if importable(name)],
}}))
"""


def isolated(**more: str) -> dict[str, str]:
    env = environment(**more)
    env.pop("PYTHONPATH")
    return env


def python(code: str, cwd: Path) -> str:
    """What a Python that does not know the checkout prints."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=cwd, env=isolated(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def report(folder: Path, cwd: Path) -> dict[str, Any]:
    """What a Python that knows only one folder besides its own finds there."""
    return json.loads(python(REPORT.format(root=str(ROOT), folders=[str(folder)]), cwd))


def built(hook: str, folder: Path) -> Path:
    """A wheel that the project's own build backend makes."""
    folder.mkdir()
    printed = python(f"from hatchling.build import {hook}; print({hook}({str(folder)!r}))", ROOT)
    return folder / printed.split()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("build_wheel", tmp_path_factory.mktemp("wheel") / "dist")


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked far from the checkout."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def editable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The editable wheel, unpacked: a .pth file that points to the checkout."""
    folder = tmp_path_factory.mktemp("editable")
    with zipfile.ZipFile(built("build_editable", folder / "dist")) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout itself, on the path as ``python -m flywheel`` puts it there."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "checkout.pth").write_text(f"{ROOT}\n")
    return folder


def test_the_wheel_has_one_top_level_name(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"flywheel"}
    assert len(names) == len(set(names))
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


def test_the_wheel_has_all_configuration_and_recipes(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for folder in ("conf", "recipes"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".yaml") and not path.name.startswith("test_"):
                assert f"flywheel/{path.relative_to(ROOT)}" in names
    template = ROOT / "flywheel" / "testing" / "moons"
    files = {path for suffix in ("py", "yaml") for path in template.rglob(f"*.{suffix}")}
    assert {str(path.relative_to(ROOT)) for path in files} <= names, "what `new` copies"
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "flywheel/py.typed" in names, "pyproject.toml says Typing :: Typed"


def test_the_same_targets_in_checkout_editable_and_wheel(checkout, editable, installed, tmp_path):
    reports = [report(folder, tmp_path) for folder in (checkout, editable, installed)]
    for key in ("targets", "recipes", "task", "class"):
        assert reports[0][key] == reports[1][key] == reports[2][key], key
    assert reports[0]["class"] == "flywheel.recipes.mnist.task"
    assert reports[0]["file"] == reports[1]["file"] == str(ROOT / "recipes" / "mnist" / "task.py")
    assert reports[2]["file"].startswith(str(installed))
    assert reports[2]["extra"] == [], "no import name besides flywheel"


@pytest.fixture
def elsewhere(installed: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``python -m flywheel`` from the unpacked wheel in another folder."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        env = {**isolated(), "PYTHONPATH": str(installed)}
        command = [sys.executable, "-m", "flywheel", *words]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    return run


def test_the_wheel_answers_from_another_folder(elsewhere, tmp_path):
    listed = elsewhere("recipes", "--json")
    assert listed.returncode == 0, listed.stderr
    assert "mnist" in [recipe["name"] for recipe in json.loads(listed.stdout)]
    printed = elsewhere("recipe=mnist", "--cfg", "job")
    assert printed.returncode == 0, printed.stderr
    assert "_target_: flywheel.recipes.mnist.task.Mnist" in printed.stdout
    tiny = elsewhere("recipe=mnist", "debug=tiny", "--cfg", "job")
    assert "generations: 3" in tiny.stdout
    assert elsewhere("--version").stdout.startswith("flywheel ")
    assert not os.listdir(tmp_path)
    assert elsewhere("new", "beans").returncode == 0
    listed = elsewhere("recipes", "--config-dir", "beans/conf")
    assert "beans  " in listed.stdout


def test_metadata(wheel):
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    with zipfile.ZipFile(wheel) as archive:
        metadata = next(name for name in archive.namelist() if name.endswith("METADATA"))
        text = archive.read(metadata).decode()
    assert f"Version: {project['version']}" in text
    assert "License-Expression: Apache-2.0" in text
    assert "Requires-Python: >=3.11" in text
    assert {f"Provides-Extra: {extra}" for extra in project["optional-dependencies"]} <= set(
        text.splitlines()
    )

    import flywheel

    assert flywheel.__version__ == project["version"]
