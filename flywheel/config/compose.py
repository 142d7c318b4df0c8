"""From command-line overrides to a checked configuration, by Hydra, without anything heavy.

Search path, in order: the built-in ``conf/``, ``--config-dir``, and the ``conf/`` folder of every
package that an installed distribution names under the entry point ``flywheel.recipes``.
"""

from __future__ import annotations

import codecs
import contextlib
import difflib
import importlib.util
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from flywheel.config import credentials
from flywheel.errors import ConfigError, near_misses
from flywheel.storage.ledger import canonical

ABSENT: Any = object()
"""In place of the value of a key that is not there."""
_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class RecipeInfo:
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
    found: dict[str, RecipeInfo] = {}
    for source, folder in config_dirs(config_dir):
        for path in _files(folder / "recipe", "*.yaml"):
            comments = [s[1:].strip() for s in _text(path).splitlines() if s.startswith("# ")]
            summary = next((s for s in comments if not s.startswith("@")), "")
            found.setdefault(path.stem, RecipeInfo(path.stem, summary, source, path))
    return [found[name] for name in sorted(found)]


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


def compose(
    overrides: Sequence[str],
    config_dir: str | None = None,
    sections: Mapping[str, Mapping[str, Any]] | None = None,
) -> Any:
    """The checked configuration (a DictConfig) of these overrides. Raises ConfigError.

    ``sections``: of parts that are given as objects, in the places of the composed ones.
    """
    with hydra_session(config_dir) as hydra:
        return compose_with(hydra, overrides, config_dir, sections)


def compose_mapping(
    config: Mapping[str, Any],
    config_dir: str | None = None,
    sections: Mapping[str, Mapping[str, Any]] | None = None,
) -> Any:
    """As ``compose``, of a mapping. With a task and a model it is a recipe itself: no YAML is needed.

    ``recipe`` then is the name under which its runs are kept.
    """
    from hydra.core.config_store import ConfigStore

    name, leaves = str(config.get("recipe")), dict(flatten(config))
    own = all(part in (sections or {}) or f"{part}._target_" in leaves for part in ("task", "model"))
    if not own or name in [info.name for info in recipes(config_dir)]:
        return compose(overrides_of(config), config_dir, sections)
    if not re.fullmatch(r"[^\W_][\w-]*", name):
        raise ConfigError(f"recipe must be a name of letters, digits, _ and -; it is {name!r}.")
    chosen = {
        key: value
        for key, value in config.items()
        if key == "debug" or (key in _GROUPS and isinstance(value, str))
    }
    rest: dict[str, Any] = {}
    for key, value in leaves.items():
        *way, last = key.split(".")
        node = rest
        for step in way:
            node = node.setdefault(step, {})
        if key not in chosen and key != "recipe":
            node[last] = (
                value.item() if hasattr(value, "item") else str(value) if isinstance(value, Path) else value
            )
    ConfigStore.instance().store(group="recipe", name=name, node=rest, package="_global_")
    try:
        return compose([f"recipe={name}", *overrides_of(chosen)], config_dir, sections)
    finally:
        ConfigStore.instance().repo["recipe"].pop(f"{name}.yaml")


def recompose(
    recorded: Mapping[str, Any],
    overrides: Sequence[str],
    config_dir: str | None = None,
    sections: Mapping[str, Mapping[str, Any]] | None = None,
) -> Any:
    """A configuration that was composed before, with overrides on top, checked anew. Raises ConfigError.

    A part that is chosen by its file, e.g. ``tracker=wandb``, takes the place of the recorded one.
    """
    from hydra.core.config_store import ConfigStore

    chosen = dict(text.partition("=")[::2] for text in overrides)
    groups = {name: chosen[name] for name in _GROUPS if name in chosen}
    kept = {key: value for key, value in recorded.items() if key not in groups}
    node = {
        "defaults": ["flywheel_schema", *({name: file} for name, file in groups.items()), "_self_"],
        **kept,
    }
    with hydra_session(config_dir) as hydra, explained(hydra, overrides, config_dir, _RECORDED):
        ConfigStore.instance().store(name=_RECORDED, node=node)
        return checked(_compose(hydra, _RECORDED, quoted(overrides)), None, sections)


_GROUPS = ("trainer", "tuner", "gate", "review", "tracker")
_RECORDED = "flywheel_recorded"


def overrides_of(config: Mapping[str, Any] | Sequence[str]) -> list[str]:
    """Overrides from a mapping (nested or dotted keys), or from a sequence as it is."""
    if not isinstance(config, Mapping):
        return list(config)
    return [f"{key}={hydra_value(value)}" for key, value in flatten(config)]


def quoted(overrides: Sequence[str], *, sweep: bool = False) -> list[str]:
    """The overrides, with the values of keys that are text as they were given.

    Hydra would read ``name=1.10`` as the number 1.1, the comma of ``retention=promoted,last=3`` as a sweep,
    and nothing of ``base=runs/epoch=3.ckpt``. In a ``sweep``, commas part the values of other keys.
    """
    return [_quoted(text, sweep) for text in overrides]


def _quoted(override: str, sweep: bool) -> str:
    from flywheel.config.schema import TEXT_KEYS

    key, _, value = override.partition("=")
    bare = key.lstrip("+")
    if bare not in {*TEXT_KEYS, "recipe", "debug"} or not value or _GRAMMAR.match(value):
        return override
    parts = value.split(",") if sweep and bare != "retention" else [value]
    return f"{key}={','.join(part if _GRAMMAR.match(part) else hydra_value(part) for part in parts)}"


_FUNCTIONS = "bool|choice|extend_list|float|glob|int|interval|json_str|range|shuffle|sort|str|tag"
_GRAMMAR = re.compile(rf"""null$|(['"]).*\1$|\$\{{|(?:{_FUNCTIONS})\(.*\)$""", re.DOTALL)
"""Values that are left to Hydra: none, quoted ones, interpolations, and functions such as ``choice(a,b)``."""


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of a nested mapping, with dotted keys; a mapping with other keys than texts is a leaf."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value and all(isinstance(inner, str) for inner in value):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def differences(old: Any, new: Any) -> dict[str, list[Any]]:
    """{dotted key: [old, new]} of the leaves that are not the same JSON; ``ABSENT`` where a side lacks one.

    1, 1.0 and true are three values, and null is one too. A key with a dot in it is quoted: ``"a.b"``.
    """
    return dict(_differences(json.loads(canonical(old)), json.loads(canonical(new)), ""))


def _differences(old: Any, new: Any, path: str) -> Iterator[tuple[str, list[Any]]]:
    sides = [{} if side is ABSENT else side for side in (old, new)]
    if all(isinstance(side, Mapping) for side in sides) and any(sides):
        for key in sorted({*sides[0], *sides[1]}):
            name = key if re.fullmatch(r'[^."]+', key) else json.dumps(key, ensure_ascii=False)
            inner = [side.get(key, ABSENT) for side in sides]
            yield from _differences(inner[0], inner[1], f"{path}.{name}" if path else name)
    elif old is ABSENT or new is ABSENT or canonical(old) != canonical(new):
        yield path, [old, new]


def leaf_text(value: Any) -> str:
    """A leaf for people, as JSON, so that "1", 1, 1.0 and true look different; or ``absent``."""
    return "absent" if value is ABSENT else canonical(value).decode()


def hydra_value(value: Any) -> str:
    """A value in Hydra's override grammar."""
    value = value.item() if hasattr(value, "item") else value  # NumPy's scalars
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{hydra_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(hydra_value(item) for item in value) + "]"
    if isinstance(value, (bool, int, float)):
        return str(value).lower() if isinstance(value, bool) else repr(value)
    # A backslash escapes only a quote, so it is doubled only before one and at the end.
    return "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), str(value)) + "'"


class hydra_session:  # noqa: N801 - a context manager, used like a function
    """A Hydra instance with our search path, for the length of a ``with`` block.

    An application of Hydra's own that calls us finds its instance in force again.
    """

    def __init__(self, config_dir: str | None) -> None:
        self._dirs = [folder for _, folder in config_dirs(config_dir)]

    def __enter__(self) -> Any:
        from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
        from hydra._internal.hydra import Hydra
        from hydra.core.config_store import ConfigStore
        from hydra.core.global_hydra import GlobalHydra
        from hydra.core.plugins import Plugins

        from flywheel.config.schema import Config

        Plugins.instance()  # registers what reads file:// and pkg://
        ConfigStore.instance().store(name="flywheel_schema", node=Config)  # beside those of an application
        path = ConfigSearchPathImpl()
        path.append("hydra", "pkg://hydra.conf")
        for folder in self._dirs:
            path.append("flywheel", f"file://{folder}")
        path.append("schema", "structured://")
        self._outer = GlobalHydra.instance().hydra
        GlobalHydra.instance().clear()
        try:
            return Hydra.create_main_hydra2(task_name="flywheel", config_search_path=path)
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *error: object) -> None:
        from hydra.core.global_hydra import GlobalHydra

        GlobalHydra.instance().clear()
        if self._outer is not None:
            GlobalHydra.instance().initialize(self._outer)


def compose_with(
    hydra: Any,
    overrides: Sequence[str],
    config_dir: str | None,
    sections: Mapping[str, Mapping[str, Any]] | None = None,
) -> Any:
    """Compose within a session; see ``compose``."""
    check_recipe_name(overrides, config_dir)
    check_overlay(overrides, config_dir)
    with explained(hydra, overrides, config_dir):
        config = _compose(hydra, "config", quoted(overrides))
    return checked(config, config.hydra.runtime.choices, sections)


def _compose(hydra: Any, name: str, overrides: list[str]) -> Any:
    from hydra.types import RunMode

    return hydra.compose_config(name, overrides, RunMode.RUN, from_shell=False, with_log_configuration=False)


def checked(config: Any, choices: Any = None, sections: Mapping[str, Mapping[str, Any]] | None = None) -> Any:
    """A composed configuration without Hydra's own part, types and rules checked.

    ``choices``: Hydra's, of which recipe and debug are named in it.
    """
    from omegaconf import OmegaConf, open_dict
    from omegaconf.errors import OmegaConfBaseException

    with open_dict(config):
        config.pop("hydra", None)
        if choices is not None:
            config.recipe, config.debug = choices.recipe, choices.debug
        for name, section in (sections or {}).items():
            config[name] = section
        written: Any = OmegaConf.to_container(config, resolve=False)
        for key in ("runs_dir", "base"):  # a shell fills in ~ only at the beginning of a word, Python nowhere
            if str(written[key]).startswith("~/"):
                config[key] = os.path.expanduser(written[key])
    try:
        OmegaConf.to_object(config)
        OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        credentials.check(config)
    except (ValueError, OmegaConfBaseException) as error:
        raise ConfigError(_one_paragraph(error)) from error
    OmegaConf.set_readonly(config, True)
    return config


def check_recipe_name(overrides: Sequence[str], config_dir: str | None) -> None:
    """Raise ConfigError, with near misses, unless the overrides name recipes that exist."""
    from hydra.core.config_store import ConfigStore

    stored = (name.removesuffix(".yaml") for name in ConfigStore.instance().repo.get("recipe", {}))
    names = [*(info.name for info in recipes(config_dir)), *stored]
    given = [o.partition("=")[2] for o in overrides if o.startswith("recipe=")]
    if not given:
        raise ConfigError(f"A recipe must be named: give recipe=NAME, one of {', '.join(names)}.")
    for name in given[-1].replace("'", "").replace('"', "").split(","):
        if name not in names:
            raise ConfigError(
                f"There is no recipe {name!r}.{near_misses(name, names)} "
                f"Known: {', '.join(names)}. A recipe of your own needs --config-dir."
            )


def check_overlay(overrides: Sequence[str], config_dir: str | None) -> None:
    """Raise ConfigError for ``debug=tiny`` of a recipe that has no overlay to make it so."""
    given = {key: value.strip("'\"") for key, _, value in (text.partition("=") for text in overrides)}
    debug, recipe = given.get("debug", "none"), given.get("recipe", "")
    path, folders = (
        Path("overlay", debug, f"{recipe}.yaml"),
        [folder for _, folder in config_dirs(config_dir)],
    )
    if debug in _WITHOUT_OVERLAY or not any(
        (folder / "debug" / f"{debug}.yaml").is_file() for folder in folders
    ):
        return
    if not any((folder / path).is_file() for folder in folders):
        raise ConfigError(
            f"debug={debug} needs an overlay of the recipe that makes it small, and {recipe} has no {path}. "
            "Write one beside the recipe's folder, or give debug=fast_dev_run, which works for every recipe."
        )


_WITHOUT_OVERLAY = ("none", "fast_dev_run")


@contextlib.contextmanager
def explained(
    hydra: Any, overrides: Sequence[str], config_dir: str | None, name: str = "config"
) -> Iterator[None]:
    """Turn what Hydra and OmegaConf raise in the block into ConfigError: rule, value, remedy."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        yield
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError, OSError) as error:
        faults = file_faults(config_dir)  # such a file is often what is behind it
        if isinstance(error, (UnicodeDecodeError, OSError)) and faults:
            raise ConfigError("\n".join(faults)) from error
        known = _explained(error, hydra, overrides, name)
        raise ConfigError("\n".join([str(known), *faults])) from error


def _explained(error: Exception, hydra: Any, overrides: Sequence[str], name: str) -> ConfigError:
    from hydra.errors import OverrideParseException

    cause = error.__cause__ or error
    if isinstance(error, OverrideParseException):
        given, sign, value = error.override.partition("=")
        if not sign:
            return ConfigError(f"An override is KEY=VALUE; {error.override!r} has no =.")
        reason = str(error).splitlines()[0]
        return ConfigError(
            f"{error.override!r} cannot be read: {reason}. If {value!r} is a text, quote it; in a shell: "
            f'"{given}={hydra_value(value)}".'
        )
    if str(error).startswith("Could not override"):
        key = re.search(r"full_key: (\S+)", str(cause)) or re.search(r"override '([^']+)'", str(error))
        assert key is not None
        return ConfigError(_unknown_key(key[1], _known_keys(hydra, overrides, name)))
    merging = re.match(r"Error merging override (.*)", str(error))
    if merging:
        return ConfigError(f"{merging[1]}: {_one_paragraph(cause)}")
    option = re.search(r"Could not find '([^']+)/([^'/]+)'[^\t]*:\n((?:\t.*\n?)+)", str(error))
    if option:
        known = option[3].split()
        hint = near_misses(option[2], known)
        return ConfigError(f"There is no {option[1]} {option[2]!r}.{hint} Known: {', '.join(known)}.")
    return ConfigError(_one_paragraph(error))


def _unknown_key(key: str, known: list[str]) -> str:
    parent, _, leaf = key.rpartition(".")
    siblings = {k.rpartition(".")[2]: k for k in known if k.rpartition(".")[0] == parent}
    close = [siblings[name] for name in difflib.get_close_matches(leaf, siblings)]
    hint = f" Did you mean {' or '.join(close)}?" if close else near_misses(key, set(known) - {parent})
    if not hint and siblings:
        hint = f" {parent or 'The configuration'} has {', '.join(siblings)}."
    return (
        f"There is no key {key!r}.{hint} To add one that a class takes, write +{key}=...; "
        "--cfg job prints all keys."
    )


def _known_keys(hydra: Any, overrides: Sequence[str], name: str) -> list[str]:
    from omegaconf import OmegaConf

    groups = [o for o in overrides if o.startswith(("recipe=", "debug="))]
    config = _compose(hydra, name, groups)
    plain: Any = OmegaConf.to_container(config, resolve=False)
    plain.pop("hydra")
    return list(dict.fromkeys([*plain, *(key for key, _ in flatten(plain))]))


def _one_paragraph(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    wanted = [s for s in lines if s and not s.startswith(("full_key:", "object_type=", "reference_type="))]
    key = next((s.removeprefix("full_key:").strip() for s in lines if s.startswith("full_key:")), "")
    text = "\n".join(wanted)
    return f"{key}: {text}" if key and key not in text else text


def add_working_directory() -> None:
    """Let class paths of recipes outside the repo resolve from the working directory, as ``-m`` does."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
