"""A new recipe: the smallest one that is shipped, ``flywheel/testing/moons``, under a name of the user's."""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
import shutil
from importlib.machinery import PathFinder
from pathlib import Path

from flywheel.config.search_path import recipes
from flywheel.errors import ConfigError

TEMPLATE = Path(__file__).parents[1] / "testing" / "moons"
_VALUES = ("null", "true", "false", "nan", "inf")
"""What ``recipe=...`` would read as a value."""


def write(name: str, into: str) -> Path:
    """Write the package ``into/name``. Raises ConfigError, and leaves nothing, if that cannot be."""
    target = Path(into) / name
    check_name(name)
    check_place(target)
    try:
        target.mkdir()
        for path in sorted(TEMPLATE.rglob("*")):
            if path.suffix in (".py", ".yaml"):
                copy(path, target, name)
    except OSError as error:
        if not isinstance(error, FileExistsError):  # somebody else's
            shutil.rmtree(target, ignore_errors=True)
        raise ConfigError(
            f"A new recipe needs a folder that can be written; {into!r} cannot: {error.strerror}. "
            "Give another --into."
        ) from error
    return target


def copy(path: Path, target: Path, name: str) -> None:
    """Copy a file of the template, with the recipe's name in it and in its path."""
    text = path.read_text().replace("flywheel.testing.moons", name).replace("Moons", "Task")
    to = target / str(path.relative_to(TEMPLATE)).replace("moons", name)
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(text)


def check_name(name: str) -> None:
    """Raise ConfigError unless a package and a recipe can have this name."""
    if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII) or keyword.iskeyword(name):
        raise ConfigError(
            f"A recipe's name is that of a Python package: letters, digits and _, no keyword; it is {name!r}."
        )
    if name.lower() in _VALUES:
        raise ConfigError(
            f"A recipe's name must not be read as a value, as null is; it is {name!r}. Give another NAME."
        )
    known = {recipe.name: recipe.source for recipe in recipes()}
    if name in known:
        raise ConfigError(
            f"A recipe's name must be new; {name!r} is a recipe already ({known[name]}). Give another NAME."
        )


def check_place(target: Path) -> None:
    """Raise ConfigError if something is there, or if another module would be hidden by a package there."""
    if os.path.lexists(target):
        raise ConfigError(
            f"A new recipe needs a folder of its own; {target} exists already and was left as it is. "
            "Give another NAME, or --into another folder."
        )
    spec = importlib.util.find_spec(target.name) or PathFinder.find_spec(target.name, [str(target.parent)])
    if spec is not None:
        raise ConfigError(
            f"A recipe's package must not hide another module; {target.name!r} is one already "
            f"({spec.origin or 'a namespace package'}). Give another NAME."
        )
