"""The space of settings that a tuner may search: what each may be, and what must hold between them.

In YAML a space stands beside the settings that it varies, ``tune.space``; ``config.space`` reads and checks
it. A setting of the space that a condition leaves out keeps the value that is in force.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from flywheel.records import Answer, Scalar, Settings

if TYPE_CHECKING:
    import numpy as np

REDO = ("generate", "grade", "curate", "train")
"""The first stage that a setting changes, the earliest first."""


class Dimension(Answer, frozen=True, omit_defaults=True):
    """What one setting may be: a range, or one of several choices.

    Examples: ``Dimension("lr", low=1e-4, high=1e-1, log=True)``, ``Dimension("width", low=16, high=64,
    step=16)``, ``Dimension("optimizer", choices=("sgd", "adamw"))``.
    """

    name: str
    low: float | int | None = None
    """The least value; a range of two whole numbers is of whole numbers."""
    high: float | int | None = None
    """The greatest value, which is included."""
    step: float | int | None = None
    """Between values, from ``low`` on; None: any value, or of whole numbers each."""
    log: bool = False
    """Whether ratios count, not differences."""
    choices: tuple[Scalar, ...] = ()
    """The values; none: it is a range."""
    when: Mapping[str, tuple[Scalar, ...]] = msgspec.field(default_factory=dict)
    """Other setting -> values: it is searched only where each of those has one of these values."""
    redo_from: str = "train"
    """The first stage that it changes: ``generate``, ``grade``, ``curate`` or ``train``."""
    shape: bool = False
    """Whether it changes the shape of weights: searched only where a fit begins from fresh ones."""

    @property
    def is_integer(self) -> bool:
        """Whether it is a range of whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def values(self) -> tuple[Scalar, ...] | None:
        """All its values in order, the choices or the steps of the range; None: it is continuous."""
        if self.choices:
            return self.choices
        assert self.low is not None
        assert self.high is not None
        step = self.step or (1 if self.is_integer else None)
        if step is None:
            return None
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        return tuple(self.low + k * step for k in range(count))

    def allows(self, value: Scalar) -> bool:
        """Whether the setting may have this value."""
        if (values := self.values()) is not None:
            return any(value == one or _is_close(value, one) for one in values)
        assert self.low is not None
        assert self.high is not None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and self.low <= value <= self.high

    def draw(self, rng: np.random.Generator) -> Scalar:
        """A value, each as likely as another; with ``log`` each ratio."""
        return self.at(float(rng.random()))

    def at(self, share: float) -> Scalar:
        """The value at a share of the way, in [0, 1), from the least to the greatest."""
        if (values := self.values()) is not None and (self.choices or not self.log):
            return values[int(share * len(values))]
        low, high = float(self.low or 0.0), float(self.high or 0.0)
        if not self.log:
            return low + share * (high - low)
        if self.is_integer:  # each whole number has the ratios that are rounded to it
            low, high = low - 0.5, high + 0.5
        value = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        if not self.is_integer:
            return min(max(value, float(self.low or 0.0)), float(self.high or 0.0))
        assert values is not None
        return min(values, key=lambda one: abs(float(one) - value))

    def __str__(self) -> str:
        """E.g. ``1e-04 .. 0.1, log``, ``sgd | adamw``."""
        if self.choices:
            return " | ".join(map(str, self.choices))
        step = f", step {self.step:g}" if self.step is not None else ""
        return f"{self.low:g} .. {self.high:g}{step}{', log' if self.log else ''}"


def _is_close(value: Scalar, other: Scalar) -> bool:
    return isinstance(value, float | int) and isinstance(other, float) and math.isclose(value, other)


class Space(Answer, frozen=True):
    """Dimensions, each after those that its condition names, and constraints between settings."""

    dimensions: tuple[Dimension, ...] = ()
    constraints: tuple[str, ...] = ()
    """Expressions that must hold, e.g. ``width * depth <= 512``: see ``holds``."""

    def __bool__(self) -> bool:
        return bool(self.dimensions)

    def active(self, settings: Settings) -> tuple[Dimension, ...]:
        """The dimensions whose conditions the settings meet, and so on up the conditions."""
        met: dict[str, bool] = {}
        for dimension in self.dimensions:
            met[dimension.name] = all(
                met.get(name, True) and settings.get(name) in values
                for name, values in dimension.when.items()
            )
        return tuple(dimension for dimension in self.dimensions if met[dimension.name])

    def allows(self, settings: Settings) -> bool:
        """Whether settings lie in the space and the constraints hold."""
        inside = all(dimension.allows(settings[dimension.name]) for dimension in self.active(settings))
        return inside and self.is_feasible(settings)

    def is_feasible(self, settings: Settings) -> bool:
        """Whether the constraints hold."""
        return all(holds(constraint, settings) for constraint in self.constraints)

    def complete(self, values: Mapping[str, Scalar], settings: Settings) -> Settings:
        """Settings with the values of the dimensions that are active with them, the rest as it is."""
        chosen = dict(settings)
        for dimension in self.dimensions:
            is_active = dimension in self.active(chosen)
            if is_active and dimension.name in values:
                chosen[dimension.name] = values[dimension.name]
        return chosen

    def redo_from(self, settings: Settings, in_force: Settings) -> str:
        """The first stage that settings change, where they differ from those in force."""
        changed = (d for d in self.dimensions if settings[d.name] != in_force[d.name])
        return min((d.redo_from for d in changed), key=REDO.index, default="train")

    def of_fresh(self, is_fresh: bool) -> Space:
        """The space for a fit that begins from fresh weights, or from given ones: then of no shapes."""
        left = tuple(d for d in self.dimensions if is_fresh or not d.shape)
        return msgspec.structs.replace(self, dimensions=left)


_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


def holds(constraint: str, settings: Settings) -> bool:
    """Whether an expression of settings holds: numbers, texts, arithmetic, comparisons, and, or, not.

    Raises ValueError if it is something else, names no setting, or cannot be computed.
    """
    try:
        return bool(_value(ast.parse(constraint, mode="eval").body, settings))
    except (SyntaxError, TypeError, ArithmeticError) as error:
        raise ValueError(f"{constraint!r} cannot be computed: {error}") from error


def _value(node: ast.AST, settings: Settings) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            if node.id not in settings:
                raise ValueError(f"there is no setting {node.id!r}")
            return settings[node.id]
        case ast.BinOp() if type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](_value(node.left, settings), _value(node.right, settings))
        case ast.UnaryOp() if type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](_value(node.operand, settings))
        case ast.BoolOp():
            combine = all if isinstance(node.op, ast.And) else any
            return combine(_value(value, settings) for value in node.values)
        case ast.Compare() if all(type(op) in _OPERATORS for op in node.ops):
            terms = [_value(term, settings) for term in (node.left, *node.comparators)]
            pairs = zip(node.ops, terms, terms[1:], strict=False)
            return all(_OPERATORS[type(op)](left, right) for op, left, right in pairs)
    raise ValueError(f"{ast.unparse(node)!r} is neither a number, a setting nor an operation on these")
