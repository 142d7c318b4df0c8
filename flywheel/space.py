"""The space of settings that a tuner may search: what each may be, and what must hold between them.

In YAML a space stands beside the settings that it varies, ``tune.space``; ``config.space`` reads and checks
it. A setting of the space that a condition leaves out keeps the value that is in force.
"""

from __future__ import annotations

import ast
import functools
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

import msgspec

from flywheel.records import Answer, Scalar, Settings

if TYPE_CHECKING:
    import numpy as np

Point = tuple[tuple[str, Scalar], ...]
"""Names and values of the active dimensions, in order."""
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

    @property
    def is_ordered(self) -> bool:
        """Whether near values are alike: a range, or three or more numbers in order."""
        if not self.choices:
            return True
        numbers = [one for one in self.choices if _is_number(one)]
        is_sorted = numbers in (sorted(numbers), sorted(numbers, reverse=True))
        return is_sorted and 2 < len(numbers) == len(self.choices)

    @property
    def count(self) -> int | None:
        """How many values it has; None: it is continuous."""
        if self.choices:
            return len(self.choices)
        low, high, step = self._range
        return None if step is None else math.floor((high - low) / step + 1e-9) + 1

    @property
    def _range(self) -> tuple[float | int, float | int, float | int | None]:
        """The least and the greatest value, and what is between values; of a dimension without choices."""
        assert self.low is not None
        assert self.high is not None
        return self.low, self.high, self.step or (1 if self.is_integer else None)

    def value(self, k: int) -> Scalar:
        """Value number k of a dimension that is not continuous: a choice, or a step of the range."""
        if self.choices:
            return self.choices[k]
        low, _, step = self._range
        assert step is not None
        return low + k * step

    def values(self) -> tuple[Scalar, ...] | None:
        """All its values in order, the choices or the steps of the range; None: it is continuous."""
        return None if self.count is None else tuple(self.value(k) for k in range(self.count))

    def position(self, value: Scalar) -> int | None:
        """The number of a value among all, or else None; of a dimension that is not continuous."""
        if self.choices:
            return next((k for k, one in enumerate(self.choices) if _is_same(value, one)), None)
        if not _is_number(value):
            return None
        low, _, step = self._range
        assert self.count is not None
        assert step is not None
        k = round((float(value) - low) / step) if math.isfinite(float(value)) else -1
        return k if 0 <= k < self.count and _is_same(value, self.value(k)) else None

    def allows(self, value: Scalar) -> bool:
        """Whether the setting may have this value."""
        if self.count is not None:
            return self.position(value) is not None
        low, high, _ = self._range
        return _is_number(value) and low <= float(value) <= high

    def draw(self, rng: np.random.Generator) -> Scalar:
        """A value, each as likely as another; with ``log`` each ratio."""
        return self.at(float(rng.random()))

    def at(self, share: float) -> Scalar:
        """The value at a share of the way, in [0, 1), from the least to the greatest."""
        count = self.count
        if count is not None and (self.choices or not self.log):
            return self.value(min(int(share * count), count - 1))
        low, high, step = self._range
        if not self.log:
            return low + share * (high - low)
        if step is None:
            value = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
            return min(max(value, float(low)), float(high))
        # Each value has the ratios that are rounded to it; half a step below the first may be nothing.
        least = max(low - step / 2, low / 2)
        value = math.exp(math.log(least) + share * (math.log(high + step / 2) - math.log(least)))
        return self.nearest(value)

    def nearest(self, value: float) -> Scalar:
        """The value of a range that is nearest to a number."""
        low, high, step = self._range
        if step is None:
            return min(max(value, float(low)), float(high))
        assert self.count is not None
        return self.value(min(max(round((value - low) / step), 0), self.count - 1))

    def share(self, value: Scalar) -> float:
        """How far a value that it allows is on the way, in [0, 1]: ``at``, turned round."""
        if self.choices:
            k = self.position(value)
            assert k is not None, "its share is asked for of a value that it allows"
            return (k + 0.5) / len(self.choices)
        low, high, _ = self._range
        number = float(value)  # type: ignore[arg-type]
        if high == low:
            return 0.5
        if self.log:
            return (math.log(number) - math.log(low)) / (math.log(high) - math.log(low))
        return (number - low) / (high - low)

    def is_active(self, settings: Settings, met: Mapping[str, bool]) -> bool:
        """Whether its condition holds; ``met``: whether those of the dimensions before it do."""
        return all(
            met.get(name, True) and any(_is_same(settings.get(name), value) for value in values)
            for name, values in self.when.items()
        )

    def __str__(self) -> str:
        """E.g. ``1e-04 .. 0.1, log``, ``sgd | adamw``."""
        if self.choices:
            return " | ".join(map(str, self.choices))
        step = f", step {self.step:g}" if self.step is not None else ""
        return f"{self.low:g} .. {self.high:g}{step}{', log' if self.log else ''}"


def _is_number(value: Scalar) -> TypeGuard[float | int]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_same(value: Scalar, other: Scalar) -> bool:
    """Whether two values are one setting: 1 and 1.0 are, 1 and True are not."""
    if _is_number(value) and _is_number(other):
        return value == other or math.isclose(value, other)
    return type(value) is type(other) and value == other


class Space(Answer, frozen=True):
    """Dimensions, each after those that its condition names, and constraints between settings."""

    dimensions: tuple[Dimension, ...] = ()
    constraints: tuple[str, ...] = ()
    """Expressions that must hold, e.g. ``width * depth <= 512``: see ``holds``."""

    def __bool__(self) -> bool:
        return bool(self.dimensions)

    def active(self, settings: Settings) -> tuple[Dimension, ...]:
        """The dimensions whose conditions the settings meet, and so on up the conditions."""
        if not any(dimension.when for dimension in self.dimensions):
            return self.dimensions
        met: dict[str, bool] = {}
        for dimension in self.dimensions:
            met[dimension.name] = dimension.is_active(settings, met)
        return tuple(dimension for dimension in self.dimensions if met[dimension.name])

    def point(self, settings: Settings) -> Point:
        """What tells settings apart: the values of the dimensions that are active with them."""
        return tuple((dimension.name, settings[dimension.name]) for dimension in self.active(settings))

    def allows(self, settings: Settings) -> bool:
        """Whether settings lie in the space and the constraints hold; not where they lack one of its keys."""
        if any(dimension.name not in settings for dimension in self.dimensions):
            return False
        inside = all(dimension.allows(settings[dimension.name]) for dimension in self.active(settings))
        return inside and self.is_feasible(settings)

    def is_feasible(self, settings: Settings) -> bool:
        """Whether the constraints hold."""
        return all(holds(constraint, settings) for constraint in self.constraints)

    def fill(self, settings: Settings, pick: Callable[[Dimension], Scalar]) -> Settings:
        """Settings with a value for each dimension that is active with those before it; the rest as it is."""
        chosen, met = dict(settings), dict[str, bool]()
        for dimension in self.dimensions:
            met[dimension.name] = dimension.is_active(chosen, met)
            if met[dimension.name]:
                chosen[dimension.name] = pick(dimension)
        return chosen

    def complete(self, values: Mapping[str, Scalar], settings: Settings) -> Settings:
        """Settings with the values of the dimensions that are active with them, the rest as it is."""
        return self.fill(settings, lambda dimension: values.get(dimension.name, settings[dimension.name]))

    def draw(self, settings: Settings, rng: np.random.Generator) -> Settings:
        """Settings drawn from the space; whether the constraints hold is not looked at."""
        return self.fill(settings, lambda dimension: dimension.draw(rng))

    @property
    def size(self) -> int | None:
        """At most so many points; None: a dimension is continuous."""
        counts = [dimension.count for dimension in self.dimensions]
        return None if None in counts else math.prod(count or 0 for count in counts)

    def each(self, settings: Settings) -> Iterator[Settings]:
        """All feasible settings of a space that is not continuous, in order."""

        def deeper(chosen: Settings, met: dict[str, bool], depth: int) -> Iterator[Settings]:
            if depth == len(self.dimensions):
                yield chosen
                return
            dimension = self.dimensions[depth]
            is_active = dimension.is_active(chosen, met)
            for value in dimension.values() or () if is_active else (settings[dimension.name],):
                further = {**met, dimension.name: is_active}
                yield from deeper({**chosen, dimension.name: value}, further, depth + 1)

        return filter(self.is_feasible, deeper(dict(settings), {}, 0))

    def redo_from(self, settings: Settings, in_force: Settings) -> str:
        """The first stage that settings change, where they differ from those in force."""
        changed = (d for d in self.dimensions if settings[d.name] != in_force[d.name])
        return min((d.redo_from for d in changed), key=REDO.index, default="train")

    def of_genesis(self) -> Space:
        """The space for a genesis, which has only human samples: nothing is generated or graded."""
        left = tuple(d for d in self.dimensions if d.redo_from not in ("generate", "grade"))
        return msgspec.structs.replace(self, dimensions=left)

    def of_fresh(self, is_fresh: bool) -> Space:
        """The space for a fit that begins from fresh weights, or from given ones: then of no shapes."""
        left = tuple(d for d in self.dimensions if is_fresh or not d.shape)
        return msgspec.structs.replace(self, dimensions=left)


_BITS = 4096
"""Of the largest number that a power may have: a larger one takes for ever."""


def _product(one: Any, other: Any) -> Any:
    if isinstance(one, str) or isinstance(other, str):
        raise TypeError("a text is no factor")
    return one * other


def _power(base: Any, exponent: Any) -> Any:
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * abs(exponent) > _BITS:
        raise OverflowError(f"{base} ** {exponent} is too large")
    return base**exponent


_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: _product,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
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
        return bool(_value(_parsed(constraint), settings))
    except (SyntaxError, TypeError, ArithmeticError) as error:
        raise ValueError(f"{constraint!r} cannot be computed: {error}") from error


def names_in(constraint: str) -> frozenset[str]:
    """The settings that a constraint names.

    Raises ValueError if it is no comparison, or of anything but numbers, texts, settings and operations.
    """
    try:
        tree = _parsed(constraint)
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{constraint!r} cannot be read: {error}") from error
    is_test = isinstance(tree, ast.Compare | ast.BoolOp)
    if not is_test and not (isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.Not)):
        raise ValueError(f"{constraint!r} compares nothing")
    known = (ast.Constant, ast.Name, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare)
    nodes = list(ast.walk(tree))
    for node in nodes:
        is_known = isinstance(node, (*known, *_OPERATORS, ast.And, ast.Or, ast.expr_context))
        if not is_known:
            what = ast.unparse(node) if isinstance(node, ast.expr) else type(node).__name__
            raise ValueError(f"{what!r} is neither a number, a setting nor an operation on these")
    return frozenset(node.id for node in nodes if isinstance(node, ast.Name))


@functools.cache
def _parsed(constraint: str) -> ast.expr:
    return ast.parse(constraint, mode="eval").body


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
