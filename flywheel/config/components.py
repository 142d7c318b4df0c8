"""From configuration to live objects: the one place that instantiates, and the checks before it.

Below this module nobody sees a ``DictConfig``. Everything but the task is built anew for each use
from the settings in force, so that a value that the tuner changed reaches whatever names it as
``${settings.…}``.
"""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, fields, is_dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from flywheel.config import credentials
from flywheel.config.arguments import (
    KeyOrders,
    check_annotated,
    check_signature,
    check_types,
    explain,
    has_target,
    in_order,
    key_orders,
    named_arguments,
    nodes_with_target,
    with_enums,
)
from flywheel.config.modules import Code, defined_in, note_imports
from flywheel.config.parts import OBJECT, is_object
from flywheel.config.schema import OPERATIONAL, file_of, rivals_in
from flywheel.config.space import out_of_reach, space_of, uses
from flywheel.errors import ConfigError, near_misses
from flywheel.records import Settings
from flywheel.space import Space
from flywheel.storage.ledger import canonical

if TYPE_CHECKING:
    import lightning
    from omegaconf import DictConfig

# Light components first: an error in them is reported before a model's module imports torch.
_ORDERS = "key_orders"
SECTIONS = (
    *("settings", "gate", "guards", "curator", "grader", "audit", "tuner", "review", "tracker"),
    *("task", "model", "trainer"),
)
_REQUIRED = ("gate", "curator", "grader", "tuner", "review", "task", "model", "trainer")
# Built once, when they are needed: they may load much data.
_BUILT_LATER = ("task", "model", "trainer")
# Where and how a fit runs, not what it computes (up to the last bits of floats).
TRAINER_OPERATIONAL = frozenset(
    {"accelerator", "devices", "num_nodes", "strategy", "enable_progress_bar", "enable_model_summary"}
    | {"logger", "log_every_n_steps", "profiler", "barebones"}
)


def plain(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain data, interpolations resolved, enums by name; credentials by name, too."""
    from omegaconf import OmegaConf

    with credentials.by_name():
        container = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def identity_part(config: DictConfig) -> dict[str, Any]:
    """The part of the configuration that changes results; weights from elsewhere by their content."""
    part = {key: value for key, value in plain(config).items() if key not in OPERATIONAL}
    part["trainer"] = {k: v for k, v in part["trainer"].items() if k not in TRAINER_OPERATIONAL}
    if part["base"] is not None:
        part["base"] = _content_of(part["base"])
    rivals = {name: asdict(rival) for name, rival in rivals_in(part["rivals"]).items()}
    part["rivals"] = {
        name: rival | {"weights": rival["weights"] and _content_of(rival["weights"])}
        for name, rival in rivals.items()
    }
    orders = list(key_orders(part))
    return part | ({_ORDERS: orders} if orders else {})


def _content_of(weights: str) -> str:
    return hashlib.sha256(Path(file_of(weights)).read_bytes()).hexdigest()


def identity(config: DictConfig) -> str:
    """SHA-256 of ``identity_part``."""
    return hashlib.sha256(canonical(identity_part(config))).hexdigest()


def check_components(config: DictConfig) -> None:
    """Import every class that the configuration names and check its arguments. Raises ConfigError."""
    resolved = plain(config)
    for name in ("genesis_settings", "refit_settings"):
        if resolved[name]:
            check_settings(config, {**resolved["settings"], **resolved[name]}, name)
    _check_sections(resolved, "settings")
    space_of(config, resolved, _settings_class(resolved))
    _check_sections(resolved, *SECTIONS[1:])


def _check_sections(resolved: Mapping[str, Any], *sections: str) -> None:
    for section in sections:
        if section in _REQUIRED and "_target_" not in resolved[section] and not is_object(resolved[section]):
            raise ConfigError(f"{section} must name a class: give {section}._target_=PATH.TO.CLASS.")
        for place, node in nodes_with_target(resolved[section], section):
            check_target(place, node)


def check_target(section: str, node: Mapping[str, Any]) -> None:
    """Check one ``_target_`` and its arguments: by signature, those of a dataclass by type and range, too."""
    target = locate(f"{section}._target_", node["_target_"])
    check_signature(section, target, node)
    arguments = named_arguments(node)
    if not (isinstance(target, type) and is_dataclass(target)):
        check_annotated(section, target, arguments)
        return
    in_turn = [field.name for field in fields(target) if field.init and not field.kw_only]
    arguments |= dict(zip(in_turn, node.get("_args_", ()), strict=False))
    check_types(section, target, arguments)
    if section.partition(".")[0] not in _BUILT_LATER and not has_target(arguments):
        try:
            target(**with_enums(target, arguments))  # ranges and rules between arguments
        except (Exception, SystemExit) as error:
            raise explain(section, error) from error


def targets_in(node: Any) -> set[str]:
    """Every ``_target_`` in a section, however deep."""
    return {str(named["_target_"]) for _, named in nodes_with_target(node)}


def check_settings(config: DictConfig, settings: Mapping[str, Any], name: str = "settings") -> None:
    """Check settings, also those a tuner proposes, against the recipe's settings class, if it has one."""
    node = plain(config)["settings"]
    unknown = [key for key in settings if key not in node]
    if unknown:
        raise ConfigError(f"{name}: there is no setting {unknown[0]!r}.{near_misses(unknown[0], node)}")
    if "_target_" in node:
        check_target(name, dict(settings) | {"_target_": node["_target_"]})


def _settings_class(resolved: Mapping[str, Any]) -> Any:
    """The recipe's class of settings; None: it has none."""
    path = resolved["settings"].get("_target_")
    return None if path is None else locate("settings._target_", path)


def locate(key: str, path: str) -> Any:
    """The class or function of a dotted path. The user's own import error is shown whole."""
    parts = str(path).split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise ConfigError(f"{key} must be a dotted path to a class; it is {path!r}.")
    target: Any = _import(key, path, parts)
    for name in parts[len(target.__name__.split(".")) :]:
        if not hasattr(target, name):
            where = getattr(target, "__name__", path)
            hint = near_misses(name, dir(target))
            raise ConfigError(f"{key}: {path!r} names no class; {where} has no {name!r}.{hint}")
        target = getattr(target, name)
    if not callable(target):
        raise ConfigError(f"{key} must name a class or function; {path} is a {type(target).__name__}.")
    return target


def modules_of(paths: Iterable[str]) -> set[str]:
    """Modules in which the classes of these paths, and their bases, are defined.

    A path that names something of another module, e.g. an alias or a partial, names that one besides; a
    package that only re-exports what a module of it defines it does not.
    """
    names = set()
    for path in paths:
        defining = defined_in(locate("_target_", path))
        named = _import("_target_", path, path.split(".")).__name__
        is_re_export = any(module.startswith(f"{named}.") for module in defining)
        names |= defining if is_re_export else {named, *defining}
    return names


def _import(key: str, path: str, parts: list[str]) -> ModuleType:
    """The module of a path to a class, or to something inside a class."""
    module, inside = ".".join(parts[:-1]), parts[-2]
    try:
        imported = import_module(module)
        note_imports()
        return imported
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == module and len(parts) > 2:
            around = _import(key, path, parts[:-1])
            if hasattr(around, inside):  # a class, as in torch.nn.Embedding.from_pretrained
                return around
        rule = f"{key} must be a class path that imports; {path!r} does not:"
        if isinstance(error, ModuleNotFoundError) and error.name == parts[0]:
            raise ConfigError(f"{rule} {error}. Install its package, or correct the path.") from error
        trace = "".join(traceback.format_exception(error))
        raise ConfigError(f"{rule}\n\n{trace}") from error


def _with_enums(section: str, node: Any) -> Any:
    """A node in which every dataclass is given the members of its Enums, however deep."""
    if isinstance(node, (list, tuple)):
        return [_with_enums(section, value) for value in node]
    if not isinstance(node, Mapping):
        return node
    inner = {key: _with_enums(section, value) for key, value in node.items()}
    target = locate(f"{section}._target_", node["_target_"]) if "_target_" in node else None
    return with_enums(target, inner) if is_dataclass(target) else inner


class Components:
    """The live objects of a run."""

    def __init__(self, config: DictConfig, parts: Mapping[str, Any] | None = None) -> None:
        """``parts``: the objects of the sections that are not built from the record; see ``parts``."""
        self.config, self._parts = config, dict(parts or {})
        self.resolved = plain(config)
        orders: KeyOrders = self.resolved.get(_ORDERS) or list(key_orders(self.resolved))
        self._orders = {tuple(path): keys for path, keys in orders}
        self._last: tuple[str | None, DictConfig] = None, config

    def yaml(self) -> str:
        """The configuration as it was composed, its references unresolved: what a session records."""
        from omegaconf import OmegaConf

        return OmegaConf.to_yaml(self.config)

    @cached_property
    def task(self) -> Any:
        """The recipe's task: it holds the data, so it is built once. Raises ConfigError or DataError."""
        try:
            return self.build("task", self.settings())
        except (Exception, SystemExit) as error:
            raise explain("task", error) from error

    @cached_property
    def space(self) -> Space:
        """What the tuner may search. Raises ConfigError."""
        return space_of(self.config, self.resolved, _settings_class(self.resolved))

    @cached_property
    def tuner_memory(self) -> Path | None:
        """The file that the tuner shares with those of other runs; None: it shares none."""
        path = getattr(self.build("tuner", self.settings()), "memory", None)
        return None if path is None else Path(path)

    @cached_property
    def code(self) -> Code:
        """The source of every class that is named, as it was imported: to be read when a session starts."""
        return Code.of(self.modules(self.resolved))

    def modules(self, sections: Mapping[str, Any]) -> set[str]:
        """Modules in which the parts of some sections, and their bases, are defined."""
        given = [self._parts[n] for n, node in sections.items() if n in self._parts and is_object(node)]
        of_given = (defined_in(part if hasattr(part, "__qualname__") else type(part)) for part in given)
        return modules_of(targets_in(sections)).union(*of_given)

    def has_method(self, section: str, name: str) -> bool:
        """Whether the part of a section has a method, or may have one: a function may build anything.

        Nothing is built. Raises ConfigError if the class cannot be imported.
        """
        node = self.resolved[section]
        if is_object(node):
            return hasattr(self._parts.get(section), name)
        target = locate(f"{section}._target_", node["_target_"])
        return not isinstance(target, type) or hasattr(target, name)

    def settings(self, *, genesis: bool = False) -> Settings:
        """The configured settings, before any tuning."""
        chosen = dict(self.resolved["settings"])
        if genesis:
            chosen.update(self.resolved["genesis_settings"])
        chosen.pop("_target_", None)
        return chosen

    def settings_after_genesis(self, settings: Settings) -> Settings:
        """The configured ones, with what was tuned in a genesis that had these.

        What ``genesis_settings`` names is the genesis' own, and ends with it.
        """
        configured, own = self.settings(), self.resolved["genesis_settings"]
        return {**configured, **tuned_in_genesis(settings, configured, own)}

    def build(self, section: str, settings: Settings, part: str | None = None) -> Any:
        """A new object of a section, its references to settings filled in; one that was given, as it is.

        ``part``: only what the section has under this name.
        """
        if is_object(self.resolved[section]):
            return self._given(section, settings)
        from hydra.errors import InstantiationException
        from hydra.utils import instantiate

        node = _with_enums(section, self.section(section, settings))
        try:
            return instantiate(node if part is None else node[part], _convert_="all")
        except InstantiationException as error:
            raise error.__cause__ or error from None  # what the class raised, without Hydra's wrapping

    def _given(self, section: str, settings: Settings) -> Any:
        if section not in self._parts:
            raise ConfigError(
                f"{section} was given as an object, {self.resolved[section][OBJECT]['of']}, and cannot be "
                f"built from what is recorded: give it again, {section}=..., to run, resume or open_run."
            )
        part = self._parts[section]
        return part(dict(settings)) if section == "model" else part

    def section(self, section: str, settings: Settings, *, by_name: bool = False) -> dict[str, Any]:
        """A section as plain data, its references to settings filled in; credentials ``by_name``, or not.

        Keys are as they were written, also where the configuration was read back from a ledger, in which
        they are texts in order: what is built from either is the same.
        """
        from omegaconf import OmegaConf

        config = self._with(settings)
        with credentials.by_name() if by_name else nullcontext():
            node = OmegaConf.to_container(config[section], resolve=True)
        assert isinstance(node, dict)
        ordered: dict[str, Any] = in_order(node, self._orders, (section,))
        return ordered

    def _with(self, settings: Settings) -> DictConfig:
        """The configuration with these settings; the last one is kept, as a copy takes milliseconds."""
        from omegaconf import OmegaConf, open_dict

        key = repr(settings)  # 1, 1.0 and True are equal
        kept, config = self._last
        if kept != key:
            config = self.config.copy()
            OmegaConf.set_readonly(config, False)
            with open_dict(config):
                config.settings = settings
            self._last = key, config
        return config

    def model(self, settings: Settings) -> lightning.LightningModule:
        """A new, freshly initialised model, drawn from torch's global generator.

        Layers that are made in ``configure_model`` are there, as they are in a fit.
        """
        model: lightning.LightningModule = self.build("model", settings)
        if hasattr(model, "configure_model"):
            try:
                model.configure_model()
            except RuntimeError as error:  # e.g. self.trainer
                raise ConfigError(
                    "configure_model must work without a trainer, as weights are loaded outside of a fit; "
                    f"{type(model).__name__}'s raised: {error}"
                ) from error
        return model

    def tuned(self, settings: Settings) -> Settings:
        """The settings of a tuner, as plain scalars, after the checks that the configured ones passed.

        Raises ConfigError also where a value was changed that a gate, a guard or a suite goes by, whoever
        changed it.
        """
        chosen = plain_settings(settings)
        check_settings(self.config, chosen)
        own = (self.settings(), self.settings(genesis=True))
        changed = [k for k, value in chosen.items() if all(value != configured[k] for configured in own)]
        for name in changed:
            if place := out_of_reach(self._uses[name]):
                raise ConfigError(
                    f"settings.{name} is used by {place}, which no tuner may change; it was changed to "
                    f"{chosen[name]!r}."
                )
        return chosen

    @cached_property
    def _uses(self) -> Mapping[str, list[str]]:
        return uses(self.config, self.settings())


def tuned_in_genesis(trained: Settings, configured: Settings, own: Settings) -> Settings:
    """What a genesis was trained with and is not configured: all but its ``own``, ``genesis_settings``."""
    return {k: v for k, v in trained.items() if k not in own and v != configured.get(k)}


def plain_settings(settings: Settings) -> Settings:
    """The settings, with Python's scalars where NumPy's are."""
    return {name: value.item() if hasattr(value, "item") else value for name, value in settings.items()}
