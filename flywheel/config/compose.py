"""From command-line overrides to a checked configuration, by Hydra, without anything heavy."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flywheel.config import credentials
from flywheel.config.search_path import check_overlay, check_recipe_name, config_dirs, file_faults, recipes
from flywheel.errors import ConfigError, near_misses


def compose(
    overrides: Sequence[str],
    config_dir: str | None = None,
    sections: Mapping[str, Any] | None = None,
) -> Any:
    """The checked configuration (a DictConfig) of these overrides. Raises ConfigError.

    ``sections``: of parts that are given as objects, in the places of the composed ones; and values of other
    keys.
    """
    check_recipe_name(overrides, config_dir)
    return _composed(overrides, config_dir, sections)


def _composed(overrides: Sequence[str], config_dir: str | None, sections: Mapping[str, Any] | None) -> Any:
    check_overlay(overrides, config_dir)
    with hydra_session(config_dir):
        with explained(overrides, config_dir):
            config = _compose("config", quoted(overrides))
        return checked(config, config.hydra.runtime.choices, sections)


def compose_mapping(
    config: Mapping[str, Any],
    config_dir: str | None = None,
    sections: Mapping[str, Any] | None = None,
) -> Any:
    """As ``compose``, of a mapping. With a task and a model it is a recipe itself: no YAML is needed.

    ``recipe`` then is the name under which its runs are kept.
    """
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    name, leaves = str(config.get("recipe")), dict(flatten(config))
    own = all(part in (sections or {}) or f"{part}._target_" in leaves for part in ("task", "model"))
    if not own or name in [info.name for info in recipes(config_dir)]:
        return compose(overrides_of(config), config_dir, sections)
    if not re.fullmatch(r"[^\W_][\w-]*", name):
        raise ConfigError(f"recipe must be a name of letters, digits, _ and -; it is {name!r}.")
    files = {key: value for key, value in config.items() if key in _GROUPS and isinstance(value, str)}
    chosen = {key: value for key, value in config.items() if key == "debug"} | files
    node = OmegaConf.create({})
    for key in (key for key in leaves if key not in {*chosen, "recipe"}):
        value = leaves[key].item() if hasattr(leaves[key], "item") else leaves[key]
        OmegaConf.update(node, key, str(value) if isinstance(value, Path) else value)
    ConfigStore.instance().store(group="recipe", name=name, node=node, package="_global_")
    try:
        return _composed([f"recipe={name}", *overrides_of(chosen)], config_dir, sections)
    finally:
        ConfigStore.instance().repo["recipe"].pop(f"{name}.yaml")


def recompose(
    recorded: Mapping[str, Any],
    overrides: Sequence[str],
    config_dir: str | None = None,
    sections: Mapping[str, Any] | None = None,
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
    with hydra_session(config_dir), explained(overrides, config_dir, _RECORDED):
        ConfigStore.instance().store(name=_RECORDED, node=node)
        return checked(_compose(_RECORDED, quoted(overrides)), None, sections)


_GROUPS = ("trainer", "tuner", "gate", "review", "promotion", "tracker")
_RECORDED = "flywheel_recorded"


def overrides_of(config: Mapping[str, Any] | Sequence[str]) -> list[str]:
    """Overrides from a mapping (nested or dotted keys), or from a sequence as it is."""
    if not isinstance(config, Mapping):
        return list(config)
    return [f"{key}={hydra_value(value)}" for key, value in flatten(config)]


def quoted(overrides: Sequence[str], *, sweep: bool = False) -> list[str]:
    """The overrides, with the values of keys that are text as they were given.

    Hydra would read ``name=1.10`` as the number 1.1, and nothing of ``base=runs/epoch=3.ckpt``. In a
    ``sweep``, commas part values. Keys of ``tune.space`` are the user's own: ``+`` goes without saying.
    """
    return [_quoted(text, sweep) for text in overrides]


def _quoted(override: str, sweep: bool) -> str:
    from flywheel.config.schema import TEXT_KEYS

    key, _, value = override.partition("=")
    if key.startswith("tune.space."):
        return f"++{override}"
    bare = key.lstrip("+")
    if bare not in {*TEXT_KEYS, "recipe", "debug"} or not value or _GRAMMAR.match(value):
        return override
    parts = value.split(",") if sweep else [value]
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


@contextlib.contextmanager
def hydra_session(config_dir: str | None) -> Iterator[Any]:
    """Hydra with our search path, for the length of a ``with`` block.

    Yields its instance: for a sweep alone, as ``hydra.main``, the only public way to one, reads the command
    line itself. An application of Hydra's own that calls us finds its instance and version in force again.
    """
    from hydra import initialize_config_dir, version
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra

    from flywheel.config.schema import Config

    ConfigStore.instance().store(name="flywheel_schema", node=Config)  # beside those of an application
    (_, first), *others = config_dirs(config_dir)
    outer, base = GlobalHydra.instance().hydra, version.getbase()
    GlobalHydra.instance().clear()  # else Hydra copies that of the application, and gives the copy back
    try:
        _more_folders().extend(folder for _, folder in others)
        session = initialize_config_dir(str(first), job_name="flywheel", version_base="1.3")
        _more_folders().clear()
        with session:
            yield GlobalHydra.instance().hydra
    finally:
        _more_folders().clear()
        GlobalHydra.instance().clear()
        version.VersionBase.instance().version_base = base
        if outer is not None:
            GlobalHydra.instance().initialize(outer)


@functools.cache
def _more_folders() -> list[Path]:
    """What a plugin of ours adds to the search path of Hydra; ``hydra.searchpath`` is the user's to give."""
    from hydra.core.plugins import Plugins
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    folders: list[Path] = []

    class MoreFolders(SearchPathPlugin):
        def manipulate_search_path(self, search_path: Any) -> None:
            for folder in folders:
                search_path.append("flywheel", f"file://{folder}")

    Plugins.instance().register(MoreFolders)
    return folders


def _compose(name: str, overrides: list[str]) -> Any:
    """A configuration with Hydra's own part, within a session."""
    from hydra import compose as hydra_compose

    return hydra_compose(name, overrides, return_hydra_config=True)


def checked(config: Any, choices: Any = None, sections: Mapping[str, Any] | None = None) -> Any:
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
            has_schema = dataclasses.is_dataclass(OmegaConf.get_type(config, name))
            OmegaConf.update(config, name, section, merge=has_schema)
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


@contextlib.contextmanager
def explained(overrides: Sequence[str], config_dir: str | None, name: str = "config") -> Iterator[None]:
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
        known = _explained(error, overrides, name, config_dir)
        raise ConfigError("\n".join([str(known), *faults])) from error


def _explained(error: Exception, overrides: Sequence[str], name: str, config_dir: str | None) -> ConfigError:
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
        return ConfigError(_unknown_key(key[1], _known_keys(overrides, name)))
    merging = re.match(r"Error merging override (.*)", str(error))
    if merging:
        return ConfigError(f"{merging[1]}: {_one_paragraph(cause)}")
    option = re.search(r"Could not (?:find|load) '([^']+)/([^'/]+)'", str(error))
    if option:
        folders = [folder / option[1] for _, folder in config_dirs(config_dir)]
        known = sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
        hint = near_misses(option[2], known)
        return ConfigError(f"There is no {option[1]} {option[2]!r}.{hint} Known: {', '.join(known)}.")
    return ConfigError(_one_paragraph(error))


def _unknown_key(key: str, known: list[str]) -> str:
    import difflib

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


def _known_keys(overrides: Sequence[str], name: str) -> list[str]:
    from omegaconf import OmegaConf

    groups = [o for o in overrides if o.startswith(("recipe=", "debug="))]
    config = _compose(name, groups)
    plain: Any = OmegaConf.to_container(config, resolve=False)
    plain.pop("hydra")
    return list(dict.fromkeys([*plain, *(key for key, _ in flatten(plain))]))


def _one_paragraph(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    sentences = [s for s in lines if s and not s.startswith(("full_key:", "object_type=", "reference_type="))]
    key = next((s.removeprefix("full_key:").strip() for s in lines if s.startswith("full_key:")), "")
    text = "\n".join(sentences)
    return f"{key}: {text}" if key and key not in text else text
