"""Recipes that do not live here: in a folder given by ``--config-dir``, and in an installed package."""

import json
import os
from pathlib import Path

import pytest

from tests.support.harness import HERE, ROOT, ForkServer, command, environment, shared_fork_server

MOONS = (ROOT / "flywheel" / "testing" / "moons" / "conf" / "recipe" / "moons.yaml").read_text()
TASK = """
from flywheel.testing.moons.task import Moons

class Crescents(Moons):
    pass
"""


@pytest.fixture(scope="module")
def fork_server() -> ForkServer:
    return shared_fork_server()


def recipe(summary: str, task: str) -> str:
    """The text of a recipe like moons with another task."""
    lines = MOONS.splitlines()
    lines[1] = f"# {summary}"
    return "\n".join(lines).replace("flywheel.testing.moons.task.Moons", task) + "\n"


@pytest.fixture
def own_folder(tmp_path: Path) -> Path:
    """A working directory with a recipe and its module side by side."""
    (tmp_path / "mine" / "recipe").mkdir(parents=True)
    (tmp_path / "mine" / "recipe" / "crescents.yaml").write_text(recipe("My own", "my_task.Crescents"))
    (tmp_path / "my_task.py").write_text(TASK)
    return tmp_path


@pytest.fixture
def installed_package(tmp_path: Path) -> Path:
    """A folder on the path with an installed package that brings a recipe by its entry point."""
    site = tmp_path / "site"
    package = site / "sickles"
    (package / "conf" / "recipe").mkdir(parents=True)
    (package / "__init__.py").write_text(
        "raise ImportError('listing recipes must not import their package')\n"
    )
    (package / "conf" / "recipe" / "sickle.yaml").write_text(
        recipe("From a package", "sickle_task.Crescents")
    )
    (site / "sickle_task.py").write_text(TASK)
    info = site / "sickles-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sickles\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[flywheel.recipes]\nsickles = sickles\n")
    return site


def with_site(site: Path) -> dict[str, str]:
    return environment(PYTHONPATH=os.pathsep.join([str(ROOT), str(HERE), str(site)]))


def test_config_dir_with_a_module_in_the_working_directory(own_folder, fork_server):
    words = ["--config-dir", "mine", "recipe=crescents", "generations=1", "threads=1", "log=plain"]
    done = fork_server.run(words, own_folder)
    assert done.code == 0, done.err
    assert next((own_folder / "runs" / "crescents").iterdir()).joinpath("HEAD").exists()
    listed = fork_server.run(["recipes", "--config-dir", "mine", "--json"], own_folder)
    assert {"name": "crescents", "summary": "My own", "source": "--config-dir"} in json.loads(listed.out)


def test_a_recipe_without_an_overlay_is_not_silently_left_as_large_as_it_is(own_folder, fork_server):
    words = ["--config-dir", "mine", "recipe=crescents", "--cfg", "job"]
    done = fork_server.run([*words, "debug=tiny"], own_folder)
    assert done.code == 2
    assert "crescents has no overlay/tiny/crescents.yaml" in done.err
    assert "debug=fast_dev_run, which works for every recipe" in done.err
    assert fork_server.run([*words, "debug=fast_dev_run"], own_folder).code == 0
    overlay = own_folder / "mine" / "overlay" / "tiny" / "crescents.yaml"
    overlay.parent.mkdir(parents=True)
    overlay.write_text("# @package _global_\nsettings:\n  steps: 2\n")
    done = fork_server.run([*words, "debug=tiny"], own_folder)
    assert "steps: 2" in done.out, done.err


def test_without_its_folder_it_is_unknown(own_folder, fork_server):
    done = fork_server.run(["recipe=crescents"], own_folder)
    assert done.code == 2
    assert "There is no recipe 'crescents'" in done.err
    assert "--config-dir" in done.err


def test_a_package_that_is_installed_is_listed_and_its_recipe_composes(installed_package, tmp_path):
    listed = command(["recipes", "--json"], tmp_path, env=with_site(installed_package))
    assert listed.code == 0, listed.err
    expected = {"name": "sickle", "summary": "From a package", "source": "package sickles"}
    assert expected in json.loads(listed.out)
    done = command(["recipe=sickle", "--cfg", "job"], tmp_path, env=with_site(installed_package))
    assert "_target_: sickle_task.Crescents" in done.out


def test_a_package_that_is_installed_runs(installed_package, tmp_path, monkeypatch):
    import flywheel

    monkeypatch.syspath_prepend(str(installed_package))
    config = {"recipe": "sickle", "generations": 0, "threads": 1, "log": "quiet"}
    run = flywheel.run({**config, "runs_dir": str(tmp_path / "runs")})
    assert run.exit_code == 0
    assert run.champion().load() is not None


def test_an_entry_point_of_a_package_that_is_gone_breaks_nothing(installed_package, tmp_path):
    (installed_package / "sickles-1.0.dist-info" / "entry_points.txt").write_text(
        "[flywheel.recipes]\ngone = gone_package\ndeep = gone_package.recipes\n"
    )
    done = command(["recipes"], tmp_path, env=with_site(installed_package))
    assert done.code == 0, done.err
    assert "mnist" in done.out
