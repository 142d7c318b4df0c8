"""Addition: a model writes lessons longer than those it was taught with, and learns from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from flywheel.errors import DataError
from flywheel.metrics import Mean, Reach
from flywheel.records import Carry, Exhaustible, Role, Suite

if TYPE_CHECKING:
    import pyarrow as pa

    from flywheel.keys import Key, Keys

    from .sums import Sums

_DECODED = (8, 256)  # digits: problems up to the same multiple of it are decoded side by side; so many
_SCORED = (1, 48)  # of one length, which need no blanks; in one pass more of them fit no cache
_REDRAWS = 100
_SHORTEST_DEV = 4
_SHARES = ("threshold", "accept", "newest", "recent")


@dataclass(kw_only=True)
class Settings:
    """What a tuner may change."""

    members: int
    """Members of the ensemble."""
    batches: int
    """Groups of rows of one length that a fit sees."""
    groups: int
    """Such groups in a step."""
    rows: int
    """Rows of a group, at most."""
    digits: int
    """Digits of all first operands of a group, about: long rows come in smaller groups."""
    lr: float
    """Learning rate of Muon, on the layers' matrices."""
    adam_lr: float
    """Learning rate of AdamW, on the rest."""
    decay: float
    """Share of the steps, at the end, over which the rates fall."""
    floor: float
    """Share of the rates that is left at the end."""
    ramp: float
    """Share of the steps over which longer rows join the shorter ones."""
    threshold: float
    """Lowest share of the members' votes of a lesson."""
    accept: float
    """Lowest share of its problems with a lesson for a length to be taken."""
    newest: float
    """Share of batches from the newest lengths."""
    recent: float
    """Share of batches from the last few."""
    layers: int
    width: int
    heads: int
    position: Literal["rotary", "relative"]
    """How a member tells positions apart; see ``Adders``."""
    base: float
    """Of the rotary one: the longest wavelength, in digits, is about 2 pi times as long."""

    def __post_init__(self) -> None:
        for name in ("members", "batches", "groups", "rows", "digits", "layers", "width", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more; it is {getattr(self, name)}.")
        for name in (*("lr", "adam_lr", "decay", "floor", "ramp"), *_SHARES):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1; it is {getattr(self, name)}.")
        if self.base <= 1:
            raise ValueError(f"base must be above 1; it is {self.base}.")


@dataclass(kw_only=True)
class Addition:
    """Sums of 1 to ``seed_digits`` digits with their answers, and longer ones without.

    No seed sample is an item of a suite, nor that item with its operands swapped, which one of the members
    reads as the same; and no item of the gate is a sealed one. Sums of one digit are too few for that.
    """

    identity_columns = ("prompt",)
    exhaustible = (Exhaustible("length", (1,), "there are only 100 sums of one digit"),)

    seed_value: int = 0
    seed_digits: int = 8
    seed_problems: int = 2048
    """Human samples of each length; fewer where there are not so many sums."""
    problems: int = 384
    """Problems of each new length that the champion is asked, at most; a quarter of them at least."""
    problem_digits: int = 5000
    """Digits of all first operands of those problems, about."""
    new_lengths: int = 6
    """Lengths above the frontier that it is asked in one generation."""
    again: int = 4
    """Lengths up to the frontier that it is asked once more: what it says by now is better."""
    mix: dict[str, float] = field(default_factory=lambda: {"uniform": 0.6, "uneven": 0.3, "carry": 0.1})
    """Kinds of problems, by share; see ``sums.draw``."""
    longest: int = 64
    """Most digits in a suite."""
    dev_items: int = 4
    """Items of each even length in the dev suite, from 4 digits on; 0: there is no such suite."""
    gate_items: int = 8
    """Items of each length in the gate suite."""
    sealed_items: int = 128
    """Items of each length and kind in the sealed suites."""

    def __post_init__(self) -> None:
        from .sums import KINDS

        if set(self.mix) - set(KINDS) or abs(sum(self.mix.values()) - 1) > 1e-6:
            raise ValueError(
                f"mix must have shares of {', '.join(KINDS)} that add up to 1; it is {self.mix}."
            )
        self.mix = {kind: self.mix[kind] for kind in KINDS if kind in self.mix}  # they are drawn in turn
        if not 1 <= self.seed_digits <= self.longest:
            raise ValueError(f"seed_digits must be from 1 to longest; it is {self.seed_digits}.")

    def seed(self) -> pa.Table:
        """Problems with their true answers, each once, without those of the suites."""
        import pyarrow as pa
        import pyarrow.compute as pc

        from .sums import number_text

        lengths = range(1, self.seed_digits + 1)
        drawn = [_problems(n, self.seed_problems, self.mix, self._rng("seed", n)) for n in lengths]
        problems = pa.concat_tables(_distinct(table) for table in drawn)
        problems = problems.filter(pc.invert(clashes(problems, _unordered_of(self.suites()))))
        return problems.append_column("answer", number_text(_read(problems).answers()))

    def suites(self) -> list[Suite]:
        """The mix for the gate; each kind by itself sealed, all but the uniform at every other length."""
        exact = (Mean("exact"),)
        ladder = (*exact, Reach("digits95", "length", 0.95))
        kinds = [kind for kind, share in self.mix.items() if share]
        items = [self._items(k, self.sealed_items, {k: 1.0}, 1 if k == "uniform" else 2) for k in kinds]
        sealed = [Suite(k, Role.SEALED, i, ladder) for k, i in zip(kinds, items, strict=True)]
        draw = partial(self._drawn, count=self.gate_items, mix=self.mix)
        gate = self._apart(self._items("gate", self.gate_items, self.mix), draw, sealed)
        judging = [Suite("gate", Role.GATE, gate, exact), *sealed]
        return [*self._dev(judging), *judging]

    def _dev(self, judging: Sequence[Suite]) -> list[Suite]:
        """Of longer sums than there are few of, so that no seed sample has to make room for them."""
        import pyarrow.compute as pc

        def draw(purpose: str) -> pa.Table:
            drawn = self._drawn(purpose, self.dev_items, self.mix, 2)
            return drawn.filter(pc.greater_equal(drawn["length"], _SHORTEST_DEV))

        items = self._items("dev", self.dev_items, self.mix, 2)
        items = items.filter(pc.greater_equal(items["length"], _SHORTEST_DEV))
        exact = (Mean("exact"),)
        return [Suite("dev", Role.DEV, self._apart(items, draw, judging), exact)] if len(items) else []

    def prompts(self, generation: int, carry: Mapping[str, Carry], key: Key) -> pa.Table:
        """Problems of the lengths just above the curriculum's frontier, and of the last ones below."""
        import pyarrow as pa

        from flywheel.curators.curriculum import rows_of

        frontier = carry.get("curator", {}).get("frontier", self.seed_digits)
        lowest = max(self.seed_digits, frontier - self.again) + 1
        lengths = range(lowest, frontier + self.new_lengths + 1)
        counts = {n: rows_of(n, self.problems, self.problem_digits) for n in lengths}
        drawn = [_problems(n, count, self.mix, key(n).numpy()) for n, count in counts.items()]
        return pa.concat_tables(_distinct(table) for table in drawn)

    def generate(self, model: Any, prompts: pa.Table, settings: Any, keys: Keys) -> dict[str, Any]:
        """Each member's answer to each problem."""
        import pyarrow as pa

        from .sums import number_text

        members, columns, sums = len(model.swapped), {}, _read(prompts)
        said = np.zeros((members, len(sums), sums.width + 1), np.uint8)
        for rows, width in _alike(sums, *_DECODED):
            said[:, rows, : width + 1] = model.answers(sums.take(rows, width))
        for name in ("prompt", "length"):
            columns[name] = prompts[name].take(np.repeat(np.arange(len(prompts)), members))
        in_order = said.transpose(1, 0, 2).reshape(len(prompts) * members, -1)
        member = pa.array(np.tile(np.arange(members), len(prompts)), pa.int16())
        return columns | {"answer": number_text(in_order), "member": member}

    def data(self, corpus: pa.Table, settings: Any) -> Any:
        """A loader of batches; see ``lessons.batches``."""
        from torch.utils.data import DataLoader

        from .lessons import batches

        made: Any = batches(
            corpus, *(settings[name] for name in ("members", "groups", "rows", "digits", "ramp"))
        )
        return DataLoader(made, batch_size=None)

    def evaluate(self, model: Any, opponent: Any, items: pa.Table, keys: Keys) -> np.ndarray:
        """1 where more than half of the members say the sum; without a majority there is no answer."""
        sums = _read(items)
        right = np.zeros((len(model.swapped), len(sums)), bool)
        for rows, width in _alike(sums, *_SCORED):
            right[:, rows] = model.solves(sums.take(rows, width))
        majority: np.ndarray = right.mean(0) > 0.5
        return majority.astype(float)

    def show(self, sample: Mapping[str, Any]) -> str:
        """The sum as a person writes it, with the digits marked that are wrong."""
        from .sums import written

        return written(sample["prompt"], sample["answer"] or "")

    def _items(self, kind: str, count: int, mix: Mapping[str, float], step: int = 1) -> pa.Table:
        """Problems as ``_drawn``, with names to tell them by."""
        import pyarrow as pa

        lengths = range(step, self.longest + 1, step)
        names = [f"{kind}-{length}-{i}" for length in lengths for i in range(count)]
        return self._drawn(kind, count, mix, step).add_column(0, "item", pa.array(names))

    def _drawn(self, purpose: str, count: int, mix: Mapping[str, float], step: int = 1) -> pa.Table:
        """``count`` problems of every ``step``-th length, up to the longest."""
        import pyarrow as pa

        lengths = range(step, self.longest + 1, step)
        return pa.concat_tables(_problems(n, count, mix, self._rng(purpose, n)) for n in lengths)

    def _apart(self, items: pa.Table, draw: Callable[[str], pa.Table], others: Sequence[Suite]) -> pa.Table:
        """The items, those drawn anew that are other suites' too. Raises DataError if none are left."""
        import pyarrow.compute as pc

        name = items["item"][0].as_py().partition("-")[0] if len(items) else ""
        for attempt in range(_REDRAWS):
            taken = clashes(items, _unordered_of(others))
            if not pc.any(taken).as_py():
                return items
            prompts = pc.if_else(taken, draw(f"{name} {attempt}")["prompt"], items["prompt"])
            items = items.set_column(items.column_names.index("prompt"), "prompt", prompts)
        digits = items.filter(taken)["length"][0].as_py()
        raise DataError(
            f"The {name} must have sums that are not sealed; none of {digits} digits are left for it. "
            f"Give a smaller task.sealed_items than {self.sealed_items}."
        )

    def _rng(self, purpose: str, length: int) -> np.random.Generator:
        from flywheel.keys import Key

        return Key.root(self.seed_value)("sums", purpose, length).numpy()


def _problems(length: int, count: int, mix: Mapping[str, float], rng: np.random.Generator) -> pa.Table:
    import pyarrow as pa

    from .sums import draw_mix

    lengths = pa.repeat(pa.scalar(length, pa.int16()), count)
    return pa.table({"prompt": draw_mix(mix, count, length, rng).text(), "length": lengths})


def _distinct(problems: pa.Table) -> pa.Table:
    """Each problem once, in the order of first appearance."""
    first = np.unique(problems["prompt"].to_numpy(), return_index=True)[1]
    return problems.take(np.sort(first))


def unordered(problems: pa.Table) -> pa.ChunkedArray:
    """The problems as text with the operands in one order: ``12+7`` and ``7+12`` are both ``12+7``."""
    import pyarrow.compute as pc

    operands = pc.split_pattern(problems["prompt"], "+")
    a, b = (pc.list_element(operands, index) for index in (0, 1))
    texts = [pc.binary_join_element_wise(*pair, "+") for pair in ((a, b), (b, a))]
    return pc.if_else(pc.less(a, b), *texts)


def _unordered_of(suites: Sequence[Suite]) -> pa.Array:
    import pyarrow as pa

    return pa.concat_arrays([unordered(suite.items).combine_chunks() for suite in suites])


def clashes(problems: pa.Table, taken: pa.Array) -> pa.ChunkedArray:
    """Which problems are taken, or are with their operands swapped; not asked where too few exist."""
    import pyarrow as pa
    import pyarrow.compute as pc

    few = pa.array(Addition.exhaustible[0].values, pa.int16())
    many = pc.invert(pc.is_in(problems["length"], value_set=few))
    return pc.and_(many, pc.is_in(unordered(problems), value_set=taken))


def _alike(sums: Sums, bucket: int, most: int) -> Iterator[tuple[np.ndarray, int]]:
    """Problems of like length, at most so many side by side: their rows, and the digits to make room for."""
    widths = np.minimum(-(-sums.length // bucket) * bucket, sums.width)
    for width in np.unique(widths):
        rows = np.flatnonzero(widths == width)
        for start in range(0, len(rows), most):
            yield rows[start : start + most], int(width)


def _read(problems: pa.Table) -> Sums:
    from .sums import read

    return read(problems["prompt"])
