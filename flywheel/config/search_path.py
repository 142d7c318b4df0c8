"""Where recipes and their parts are looked for, and what is there, without anything heavy.

In order: the built-in ``conf/``, ``--config-dir``, and the ``conf/`` folder of every package that an
installed distribution names under the entry point ``flywheel.recipes``.
"""

from __future__ import annotations

import codecs
import importlib.util
import re
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple

from flywheel.errors import ConfigError, near_misses

_PACKAGE = Path(__file__).resolve().parents[1]


class RecipeInfo(NamedTuple):
    """A recipe that can be named on the command line."""

    name: str
    summary: str
    source: str
    path: Path


def config_dirs(config_dir: str | None = None) -> list[tuple[str, Path]]:
    """(where from, folder) of every configuration folder, the built-in one first."""
    beside = _PACKAGE / "conf"
    dirs = [("built-in", beside if beside.is_dir() else _PACKAGE.parent / "conf")]
    if config_dir is not None:
        folder = Path(config_dir).expanduser().resolve()
        if not folder.is_dir():
            raise ConfigError(f"--config-dir must be a folder; {config_dir!r} is not.")
        dirs.append(("--config-dir", folder))
    for entry in entry_points(group="flywheel.recipes"):
        try:
            spec = importlib.util.find_spec(entry.value)
        except ModuleNotFoundError:  # left behind by a package that is gone
            continue
        for location in (spec.submodule_search_locations or []) if spec else []:
            dirs.append((f"package {entry.value}", Path(location) / "conf"))
    return dirs


def recipes(config_dir: str | None = None) -> list[RecipeInfo]:
    """All recipes, by name; the first folder that has one wins."""
    by_name: dict[str, RecipeInfo] = {}
    for source, folder in config_dirs(config_dir):
        for path in _files(folder / "recipe", "*.yaml"):
            comments = [s[1:].strip() for s in _text(path).splitlines() if s.startswith("# ")]
            summary = next((s for s in comments if not s.startswith("@")), "")
            by_name.setdefault(path.stem, RecipeInfo(path.stem, summary, source, path))
    return [by_name[name] for name in sorted(by_name)]


def _files(folder: Path, pattern: str) -> list[Path]:
    """The files of a name below a folder; neither folders nor links that lead nowhere."""
    return sorted(path for path in folder.glob(pattern) if path.is_file())


def _text(path: Path) -> str:
    """A YAML file to look through; what cannot be read in it is reported when it is composed."""
    try:
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return ""


def file_faults(config_dir: str | None) -> list[str]:
    """A sentence on each YAML file on the search path that is not UTF-8, or begins with a byte order mark.

    And on each recipe's file that puts its keys below ``recipe``, as it does not say ``@package _global_``.
    """
    faults = []
    for path in (p for _, folder in config_dirs(config_dir) for p in _files(folder, "**/*.yaml")):
        try:
            data = path.read_bytes()
        except OSError as error:
            faults.append(f"{path} cannot be read: {error.strerror}.")
            continue
        try:
            data.decode()
        except UnicodeDecodeError as error:
            faults.append(f"{path} must be UTF-8; byte {error.start} is {data[error.start]:#x}.")
        if data.startswith(codecs.BOM_UTF8):
            faults.append(f"{path} begins with a byte order mark; save it as UTF-8 without one.")
        elif path.parent.name == "recipe" and not _GLOBAL.search(data):
            faults.append(f"{path} must begin with the line '# @package _global_', and have keys below it.")
    return faults


_GLOBAL = re.compile(rb"^#\s*@package\s+_global_\s*$", re.MULTILINE)


def known_targets(config_dir: str | None = None) -> set[str]:
    """Every ``_target_`` that the YAML files on the search path name."""
    texts = (_text(p) for _, folder in config_dirs(config_dir) for p in _files(folder, "**/*.yaml"))
    return {target for text in texts for target in re.findall(r"_target_:\s*['\"]?([\w.]+)", text)}


def check_recipe_name(overrides: Sequence[str], config_dir: str | None) -> None:
    """Raise ConfigError, with near misses, unless the overrides name recipes that exist."""
    names = [info.name for info in recipes(config_dir)]
    chosen = [o.partition("=")[2] for o in overrides if o.startswith("recipe=")]
    if not chosen:
        raise ConfigError(f"A recipe must be named: give recipe=NAME, one of {', '.join(names)}.")
    for name in chosen[-1].replace("'", "").replace('"', "").split(","):
        if name not in names:
            raise ConfigError(
                f"There is no recipe {name!r}.{near_misses(name, names)} "
                f"Known: {', '.join(names)}. A recipe of your own needs --config-dir."
            )


def check_overlay(overrides: Sequence[str], config_dir: str | None) -> None:
    """Raise ConfigError for ``debug=tiny`` of a recipe that has no overlay to make it so."""
    values = {key: value.strip("'\"") for key, _, value in (text.partition("=") for text in overrides)}
    debug, recipe = values.get("debug", "none"), values.get("recipe", "")
    folders = [folder for _, folder in config_dirs(config_dir)]
    path = Path("overlay", debug, f"{recipe}.yaml")
    is_known = any((folder / "debug" / f"{debug}.yaml").is_file() for folder in folders)
    needs_overlay = is_known and debug not in _WITHOUT_OVERLAY
    if needs_overlay and not any((folder / path).is_file() for folder in folders):
        raise ConfigError(
            f"debug={debug} needs an overlay of the recipe that makes it small, and {recipe} has no {path}. "
            "Write one beside the recipe's folder, or give debug=fast_dev_run, which works for every recipe."
        )


_WITHOUT_OVERLAY = ("none", "fast_dev_run")


def add_working_directory() -> None:
    """Let class paths of recipes outside the repo resolve from the working directory, as ``-m`` does."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
