"""From ``tune`` in a configuration, and ``tunable`` settings of a recipe's class, to a checked space."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from flywheel.config import credentials
from flywheel.config.arguments import check_types, field_types, with_enums, without_none
from flywheel.errors import ConfigError, near_misses
from flywheel.records import Scalar, Settings
from flywheel.space import REDO, Dimension, Space, names_in

if TYPE_CHECKING:
    from omegaconf import DictConfig

NEVER = frozenset(
    {"gate", "guards", "budget", "error_budget", "promotion", "review", "task", "tuner", "tune", "retention"}
    | {"seed", "seal", "refit", "suites", "evaluator", "evaluate", "audit"}
)
"""First parts of keys that no space may name, whatever a setting is called."""
MAY_REFER = frozenset(
    {"settings", "genesis_settings", "refit_settings", "tune", "model", "trainer", "grader", "curator"}
    | {"tracker"}
)
"""Sections that may refer to a setting that is tuned: they are built anew from the settings in force."""
_RULE = "evaluator, gate, guards, audit, budget and suites are never tuned"
_DECLARED = "flywheel.tunable"
_BOUNDS = ("low", "high", "step")
_KEYS = (*_BOUNDS, "log", "choices", "when", "redo_from", "shape")
_FEWEST, _MOST = 100, 10_000
"""Points that are drawn to see whether constraints can be computed, and whether any point meets them."""

Entry = Mapping[str, Any]
"""What ``tune.space`` says of one setting."""


def tunable(
    default: Any = MISSING,
    *,
    low: float | None = None,
    high: float | None = None,
    step: float | None = None,
    log: bool | None = None,
    choices: Sequence[Scalar] | None = None,
    when: Mapping[str, Scalar | Sequence[Scalar]] | None = None,
    redo_from: str | None = None,
    shape: bool | None = None,
) -> Any:
    """A field of a recipe's class of settings that a tuner may search.

    The arguments are the keys of an entry of ``tune.space``, see ``flywheel.space.Dimension``; what the
    configuration says of the setting stands above them, and ``null`` there takes the entry away:

        @dataclass(kw_only=True)
        class Settings:
            lr: float = flywheel.tunable(low=1e-4, high=1e-1, log=True)
    """
    values = (low, high, step, log, choices, when, redo_from, shape)
    entry = {key: value for key, value in zip(_KEYS, values, strict=True) if value is not None}
    return field(default=default, metadata={_DECLARED: entry})


def space_of(config: DictConfig, resolved: Mapping[str, Any], target: Any = None) -> Space:
    """The space of a configuration; ``target``: the recipe's class of settings. Raises ConfigError.

    ``resolved`` is the configuration as plain data, its references filled in.
    """
    tune = resolved.get("tune") or {}
    reader = _Reader(config, resolved, target if is_dataclass(target) else None)
    entries = reader.entries(tune.get("space") or {})
    space = Space(reader.dimensions(entries), tuple(tune.get("constraints") or ()))
    reader.check_constraints(space, is_genesis_tuned=bool(tune.get("genesis")))
    reader.check_by_class(space)
    return space


@dataclass(frozen=True)
class _Reader:
    """Reads entries beside the settings that they are of."""

    config: DictConfig
    resolved: Mapping[str, Any]
    target: Any

    @cached_property
    def settings(self) -> Settings:
        """The configured ones."""
        return {name: value for name, value in self.resolved["settings"].items() if name != "_target_"}

    @cached_property
    def _kinds(self) -> Mapping[str, Any]:
        """Their annotations, as far as there are any."""
        return {k: without_none(kind) for k, kind in field_types(self.target).items()} if self.target else {}

    @cached_property
    def _uses(self) -> Mapping[str, Sequence[str]]:
        return uses(self.config, self.settings)

    def entries(self, given: Mapping[str, Any]) -> dict[str, Entry]:
        """Those that the class declares, and above them those of the configuration, without what is null."""
        merged: dict[str, Entry] = {}
        for one in fields(self.target) if self.target else ():
            if (declared := one.metadata.get(_DECLARED)) and given.get(one.name, declared) is not None:
                self._check_name(one.name, declared)
                merged[one.name] = declared
        for name, entry in given.items():
            self._check_name(name, entry)
            if entry is None:
                continue
            if not isinstance(entry, Mapping):
                raise ConfigError(
                    f"tune.space.{name} must say what the setting may be, e.g. {{low: 0.1, high: 1}} or "
                    f"{{choices: [a, b]}}; it is {entry!r}."
                )
            merged[name] = {**_left(merged.get(name, {}), entry), **entry}
        return {name: {k: v for k, v in one.items() if v is not None} for name, one in merged.items()}

    def _check_name(self, name: str, entry: Any) -> None:
        """Raise ConfigError unless it is a setting that may be tuned."""
        path = _path(str(name), entry)
        first, _, rest = path.partition(".")
        if first in NEVER:
            other = " Call a setting that means something else otherwise." if name in self.settings else ""
            raise ConfigError(f"tune.space.{path} is refused: {_RULE}. Take it out of tune.space.{other}")
        if name in self.settings:
            self._check_reach(name)
        elif first == "settings" and rest:
            raise ConfigError(f"tune.space has the bare names of settings: give tune.space.{rest}.")
        elif rest:
            leaf = path.rpartition(".")[2]
            raise ConfigError(
                f"tune.space is of settings; {path!r} is none. Put it in settings and refer to it there: "
                f"settings.{leaf}=VALUE, {path}=${{settings.{leaf}}}, and give tune.space.{leaf}."
            )
        else:
            hint = near_misses(name, self.settings) or f" There are {', '.join(self.settings) or 'none'}."
            raise ConfigError(
                f"tune.space.{name}: there is no setting {name!r}.{hint} A new one needs the value that is "
                f"in force without a tuner, too: settings.{name}=VALUE."
            )

    def _check_reach(self, name: str) -> None:
        if place := out_of_reach(self._uses[name]):
            raise ConfigError(
                f"settings.{name} is used by {place}; {_RULE}. Take it out of tune.space, or give {place} a "
                "value of its own."
            )

    def dimensions(self, entries: Mapping[str, Entry]) -> tuple[Dimension, ...]:
        """The dimensions, each after those that its condition names, and else as they are given."""
        read = {name: self._dimension(name, entry) for name, entry in entries.items()}
        for one in read.values():
            for setting, values in one.when.items():
                self._check_condition(one.name, setting, values, read.get(setting))
        ordered: dict[str, Dimension] = {}

        def add(name: str, path: tuple[str, ...]) -> None:
            if name in path:
                cycle = " -> ".join([*path[path.index(name) :], name])
                raise ConfigError(
                    f"Conditions of tune.space must not go round in a circle: {cycle}. Take one `when` out."
                )
            for setting in read[name].when:
                if setting in read:
                    add(setting, (*path, name))
            ordered[name] = read[name]

        for name in read:
            add(name, ())
        return tuple(ordered.values())

    def _dimension(self, name: str, entry: Entry) -> Dimension:
        place = f"tune.space.{name}"
        for key in entry:
            if key not in _KEYS:
                hint = near_misses(str(key), _KEYS) or f" It may have {', '.join(_KEYS)}."
                raise ConfigError(f"{place}: there is no key {key!r}.{hint}")
        value = self.settings[name]
        if not isinstance(value, int | float | str | None):
            raise ConfigError(
                f"{place}: a number, a text, true, false or null may be tuned; settings.{name} is {value!r}."
            )
        for key in ("log", "shape"):
            if not isinstance(entry.get(key, False), bool):
                raise ConfigError(f"{place}.{key} must be true or false; it is {entry[key]!r}.")
        given = [key for key in (*_BOUNDS, "log") if key in entry]
        if "choices" in entry and given:
            raise ConfigError(
                f"{place} must be a range or choices, not both; it has choices and {', '.join(given)}. Take "
                "one of them out, e.g. by null."
            )
        values = self._choices(name, entry) if "choices" in entry else self._range(name, entry)
        conditions = self._conditions(place, entry.get("when", {}))
        redo_from, shape = self._redo_from(name, entry), entry.get("shape", False)
        return Dimension(name, **values, when=conditions, redo_from=redo_from, shape=shape)

    def _choices(self, name: str, entry: Entry) -> dict[str, Any]:
        place, choices = f"tune.space.{name}.choices", entry["choices"]
        if not isinstance(choices, list | tuple) or not choices:
            raise ConfigError(f"{place} must be a list of one value or more; it is {choices!r}.")
        for value in choices:
            _check_scalar(place, value)
        if self._kinds.get(name) is float:
            choices = [float(value) if type(value) is int else value for value in choices]
        one_each = Dimension(name, choices=tuple(choices))
        for k, value in enumerate(choices):
            if one_each.position(value) != k:
                raise ConfigError(f"{place} must differ; {value!r} is there twice. Take one out.")
        return {"choices": tuple(choices)}

    def _range(self, name: str, entry: Entry) -> dict[str, Any]:
        place = f"tune.space.{name}"
        if missing := [key for key in ("low", "high") if key not in entry]:
            raise ConfigError(f"{place} needs low and high, or choices; it lacks {' and '.join(missing)}.")
        for key in (key for key in _BOUNDS if key in entry):
            _check_number(f"{place}.{key}", entry[key])
        bounds = self._typed(name, {key: entry[key] for key in _BOUNDS if key in entry})
        low, high, step, log = bounds["low"], bounds["high"], bounds.get("step"), entry.get("log", False)
        if low >= high:
            one = f" For one value give choices: [{low}]." if low == high else ""
            raise ConfigError(f"{place}: low must be below high; low is {low}, high is {high}.{one}")
        if log and low <= 0:
            raise ConfigError(
                f"{place}: with log, low must be above 0; it is {low}. Give a low above 0, or log: false."
            )
        if step is not None and step <= 0:
            raise ConfigError(f"{place}.step must be above 0; it is {step}. Leave it out for any value.")
        return {**bounds, "log": log}

    def _typed(self, name: str, bounds: Mapping[str, float]) -> dict[str, float]:
        """Bounds of a setting of whole numbers as such, of others as floats."""
        value, kind = self.settings[name], self._kinds.get(name)
        if isinstance(value, bool | str) or kind in (bool, str):
            raise ConfigError(
                f"tune.space.{name}: only a number has a range; settings.{name} is {value!r}. Give choices."
            )
        is_whole = kind is int or (
            kind is not float
            and not isinstance(value, float)
            and all(type(v) is int for v in bounds.values())
        )
        if not is_whole:
            return {key: float(bound) for key, bound in bounds.items()}
        for key, bound in bounds.items():
            if bound != int(bound):
                raise ConfigError(
                    f"tune.space.{name}.{key} must be a whole number, as settings.{name} is one; it is "
                    f"{bound}."
                )
        return {key: int(bound) for key, bound in bounds.items()}

    def _conditions(self, place: str, when: Any) -> dict[str, tuple[Scalar, ...]]:
        if not isinstance(when, Mapping):
            raise ConfigError(
                f"{place}.when must name settings and their values, e.g. {{optimizer: [sgd]}}; it is "
                f"{when!r}."
            )
        conditions: dict[str, tuple[Scalar, ...]] = {}
        for setting, values in when.items():
            conditions[setting] = tuple(values) if isinstance(values, list | tuple) else (values,)
            for value in conditions[setting]:
                _check_scalar(f"{place}.when.{setting}", value)
        return conditions

    def _check_condition(
        self, name: str, setting: str, values: Sequence[Scalar], dimension: Dimension | None
    ) -> None:
        """Raise ConfigError for a condition that nothing meets.

        A setting that is not in the space may have any value, as another configuration may give it.
        """
        place = f"tune.space.{name}.when.{setting}"
        if setting not in self.settings:
            hint = near_misses(setting, self.settings) or f" There are {', '.join(self.settings)}."
            raise ConfigError(f"{place}: there is no setting {setting!r}.{hint}")
        if not values:
            raise ConfigError(f"{place} must name one value or more; it is empty.")
        for value in values if dimension else ():
            assert dimension is not None
            if not dimension.allows(value) and value != self.settings[setting]:
                raise ConfigError(
                    f"{place} must be of values that {setting} may have; it is {value!r}, and {setting} may "
                    f"be {dimension}."
                )

    def _redo_from(self, name: str, entry: Entry) -> str:
        """What the entry says, else the first stage whose section refers to the setting."""
        sections = {_section(place) for place in self._uses[name]}
        first = "grade" if "grader" in sections else "curate" if "curator" in sections else "train"
        said = entry.get("redo_from", first)
        place = f"tune.space.{name}.redo_from"
        if said not in REDO:
            raise ConfigError(f"{place} must be one of {', '.join(REDO)}; it is {said!r}.")
        if REDO.index(said) > REDO.index(first):
            section = "grader" if first == "grade" else "curator"
            raise ConfigError(
                f"{place} must be {first} or an earlier stage, as the {section} uses settings.{name}; it is "
                f"{said!r}: trials would not see the setting change. Leave it out."
            )
        return str(said)

    def check_constraints(self, space: Space, *, is_genesis_tuned: bool) -> None:
        """Raise ConfigError for what is no constraint, or none that the settings in force and others meet."""
        for k, constraint in enumerate(space.constraints):
            try:
                named = names_in(constraint)
            except ValueError as error:
                raise ConfigError(
                    f"tune.constraints[{k}] must be a comparison of settings, e.g. width * depth <= 512: "
                    f"{error}."
                ) from error
            for name in sorted(named - set(self.settings)):
                hint = near_misses(name, self.settings) or f" There are {', '.join(self.settings)}."
                raise ConfigError(f"tune.constraints[{k}]: there is no setting {name!r}.{hint}")
        in_force = {"settings": self.settings}
        if is_genesis_tuned:
            in_force["settings and genesis_settings"] = self.settings | self.resolved["genesis_settings"]
        for what, settings in in_force.items():
            for constraint in space.constraints:
                if not _holds(Space((), (constraint,)), settings):
                    shown = ", ".join(f"{name}={settings[name]!r}" for name in sorted(names_in(constraint)))
                    raise ConfigError(
                        f"tune.constraints must hold for the values in force, of {what}: {constraint!r} does "
                        f"not hold for {shown}. Change one of the two."
                    )
        if space and space.constraints:
            self._check_feasible(space)

    def _check_feasible(self, space: Space) -> None:
        import numpy as np

        rng, is_feasible = np.random.default_rng(0), False
        for k in range(_MOST):
            is_feasible |= _holds(space, space.draw(self.settings, rng))
            if is_feasible and k + 1 >= _FEWEST:
                return
        raise ConfigError(
            f"tune.constraints must leave a part of tune.space; of {_MOST:,} points none meets "
            f"{' and '.join(map(repr, space.constraints))}. Widen a range or a constraint."
        )

    def check_by_class(self, space: Space) -> None:
        """Raise ConfigError for a bound or a choice that the recipe's class of settings refuses."""
        for dimension in space.dimensions if self.target else ():
            for value in dimension.choices or (dimension.low, dimension.high):
                self._check_value(space, dimension, value)

    def _check_value(self, space: Space, dimension: Dimension, value: Scalar) -> None:
        name = dimension.name
        check_types("tune.space", self.target, {name: value})
        settings = {**self.settings, **_conditions_met(space, dimension), name: value}
        if not _holds(space, settings):
            return
        try:
            self.target(**with_enums(self.target, settings))
        except Exception as error:
            raise ConfigError(
                f"tune.space.{name}: the recipe's settings must take each value; of {value!r} they say: "
                f"{error} Narrow it, or say in tune.constraints what must hold between settings."
            ) from error


def out_of_reach(places: Sequence[str]) -> str | None:
    """The first of the places that refer to a setting which no tuner may change; None: there is none."""
    return next((place for place in places if _section(place) not in MAY_REFER), None)


def uses(config: DictConfig, settings: Settings) -> dict[str, list[str]]:
    """Where each setting is referred to, also by way of other keys: places such as ``curator.threshold``."""
    from omegaconf import OmegaConf

    plain: Any = OmegaConf.to_container(config, resolve=False, enum_to_str=True)
    marks = {name: f"<the value of settings.{name}>" for name in settings}
    untyped = OmegaConf.create({**plain, "settings": marks})
    try:
        with credentials.by_name():
            marked: Any = OmegaConf.to_container(untyped, resolve=True)
    except Exception:  # a resolver of the user's own that takes no text
        marked, marks = plain, {name: f"${{settings.{name}}}" for name in settings}
    found: dict[str, list[str]] = {name: [] for name in settings}
    for place, text in _texts(marked, ""):
        for name in settings if _section(place) != "settings" else ():
            if marks[name] in text:
                found[name].append(place)
    return found


def _texts(node: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, Mapping):
        for key, inner in node.items():
            yield from _texts(inner, f"{place}.{key}" if place else str(key))
    elif isinstance(node, list):
        for k, inner in enumerate(node):
            yield from _texts(inner, f"{place}[{k}]")
    elif isinstance(node, str):
        yield place, node


def _section(place: str) -> str:
    return place.partition(".")[0].partition("[")[0]


def _path(name: str, entry: Any) -> str:
    """The dotted key that is meant, where an entry is nested: ``{"curator": {"threshold": {...}}}``."""
    if isinstance(entry, Mapping):
        for key, inner in entry.items():
            if key not in _KEYS and isinstance(inner, Mapping):
                return f"{name}.{_path(str(key), inner)}"
    return name


def _left(declared: Entry, given: Entry) -> Entry:
    """What stays of a declared entry beside a given one: no range beside choices, nor choices beside one."""
    gone: tuple[str, ...] = (*_BOUNDS, "log") if given.get("choices") is not None else ()
    if any(given.get(key) is not None for key in _BOUNDS):
        gone = ("choices",)
    return {key: value for key, value in declared.items() if key not in gone}


def _check_scalar(place: str, value: Any) -> None:
    is_finite = not isinstance(value, float) or math.isfinite(value)
    if not (value is None or isinstance(value, bool | int | float | str)) or not is_finite:
        raise ConfigError(
            f"{place} must be finite numbers, texts, true, false or null, as they are recorded; one is "
            f"{value!r}."
        )


def _check_number(place: str, value: Any) -> None:
    if isinstance(value, str):
        raise ConfigError(f"{place} must be a number; it is the text {value!r}. Give it without quotes.")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{place} must be a finite number; it is {value!r}.")


def _conditions_met(space: Space, dimension: Dimension) -> Settings:
    """Values with which a dimension is searched, the first ones that its conditions name."""
    values: Settings = {}
    for one in reversed(space.dimensions):
        if one.name == dimension.name or one.name in values:
            values = {**{name: options[0] for name, options in one.when.items()}, **values}
    return values


def _holds(space: Space, settings: Settings) -> bool:
    """Whether the constraints hold. Raises ConfigError where one cannot be computed."""
    try:
        return space.is_feasible(settings)
    except ValueError as error:
        shown = ", ".join(f"{one.name}={settings[one.name]!r}" for one in space.dimensions)
        raise ConfigError(
            f"tune.constraints must be computable wherever tune.space leads: {error}"
            f"{shown and ', for '}{shown}."
        ) from error
