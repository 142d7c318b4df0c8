"""The guard of slices: what gets worse in one place while the mean improves, and where a model is weak."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from flywheel.guards.pairs import (
    Pairs,
    action_of,
    check_ranges,
    holm,
    p_above,
    pairs_with,
    references,
    suites_of,
)
from flywheel.protocols import GuardView
from flywheel.records import Action, Alarm, Role, Suite


@dataclass(kw_only=True)
class Slices:
    """Slices of items, named by a column and its value: found on dev, confirmed on the guard suites.

    A slice is nominated on dev where the candidate has a lower mean there than the champion, the parent or
    the first champion: the ``most`` slices that look worst, each beside the one of these where it does. It
    is then tested on the items of guard suites that are in it, which nominated nothing: by Gaffke's test of
    paired differences (of independent 0/1 scores McNemar's exact one), at ``level`` for all of them together
    (Holm 1979). What is confirmed has a name, e.g. ``digit=7``, and the alarm is raised; a mean that improves
    does not hide it. Without a dev suite that has the columns every slice is tested, beside each of them.

    Blind spots, slices whose mean is lower than that of all items by ``gap``, are found and confirmed
    likewise, and named: they are no alarm, as they may have been there from the beginning.
    """

    columns: list[str]
    """Columns of the items, each by itself, e.g. ``[digit]``."""
    level: float = 0.05
    """Chance, each turn, that any slice is confirmed that did not get worse; likewise of blind spots."""
    most: int = 5
    """Nominations, at most."""
    least: int = 10
    """Items that a slice must have in a role to be looked at there."""
    gap: float = 0.1
    """How far below the mean a blind spot is on dev, in (0, 1)."""
    action: str = "reject"
    """What is asked for where a slice got worse: ``warn``, ``ask``, ``reject`` or ``halt``."""

    def __post_init__(self) -> None:
        check_ranges(self, level=(1e-9, 0.5), most=(1, 10**6), least=(1, 10**9), gap=(1e-9, 1))
        action_of(self.action)
        if not self.columns:
            raise ValueError("columns must name a column of the items; there is none.")

    def check_suites(self, suites: Sequence[Suite]) -> None:
        """Raise ValueError unless a guard suite has the columns."""
        has = {name for suite in suites if not suite.duel for name in suite.items.column_names}
        if missing := [name for name in self.columns if name not in has]:
            raise ValueError(
                f"columns must be columns of a suite with role guard, since what dev nominates is confirmed "
                f"there; {missing[0]!r} is none. Give such a suite, or other columns."
            )

    def check(self, view: GuardView) -> Alarm | None:
        """The slices that got worse, by name, and blind spots."""
        on_guard = self._compared(view, Role.GUARD)
        worse = self._confirmed([(name, on_guard[name]) for name in self._nominated(view, on_guard)])
        weak = self._blind_spots(view)
        texts = [f"worse: {text}" for text in worse] or ["no slice is shown to have got worse"]
        texts += [f"blind spot: {text}" for text in weak]
        return Alarm(action_of(self.action) if worse else Action.PASS, "; ".join(texts))

    def _nominated(self, view: GuardView, on_guard: Collection[tuple[str, str]]) -> list[tuple[str, str]]:
        """Slices and whom they are compared with, the most suspicious first; of those that can be tested."""
        on_dev = self._compared(view, Role.DEV)
        if not on_dev:
            return list(on_guard)
        on_dev = {name: pairs for name, pairs in on_dev.items() if name in on_guard}
        suspicious = [(_p_worse(pairs), name) for name, pairs in on_dev.items() if _effect(pairs) < 0]
        worst: dict[str, str] = {}
        for _, (piece, other) in sorted(suspicious):
            worst.setdefault(piece, other)
        return list(worst.items())[: self.most]

    def _confirmed(self, tested: Sequence[tuple[tuple[str, str], Pairs]]) -> list[str]:
        p_values = [_p_worse(pairs) for _, pairs in tested]
        chosen = zip(tested, p_values, holm(p_values, self.level), strict=True)
        return [
            f"{piece}, {_effect(pairs):+.2%} against {other} on {len(pairs)} items of guard suites, "
            f"p {p:.2g}, of {len(tested)} tested at {self.level:g} together"
            for ((piece, other), pairs), p, is_shown in chosen
            if is_shown
        ]

    def _compared(self, view: GuardView, role: Role) -> dict[tuple[str, str], Pairs]:
        """(Slice, name of an earlier generation) -> the candidate beside it, where there are items enough."""
        compared = {}
        for other, table in references(view).items():
            pairs = pairs_with(view, table, suites_of(view, role))
            for piece, rows in self._slices(view, pairs.suites, pairs.items):
                compared[piece, other] = pairs.where(rows)
        return compared

    def _blind_spots(self, view: GuardView) -> list[str]:
        dev, guard = (self._means(view, role) for role in (Role.DEV, Role.GUARD))
        apart = sorted((mean - overall, piece) for piece, (mean, overall, _) in dev.items())
        named = [piece for distance, piece in apart if distance <= -self.gap][: self.most]
        tested = [piece for piece in named if piece in guard]
        found = zip(tested, holm([guard[piece][2] for piece in tested], self.level), strict=True)
        return [
            f"{piece}, {guard[piece][0]:.1%} where all items have {guard[piece][1]:.1%}"
            for piece, is_shown in found
            if is_shown
        ]

    def _means(self, view: GuardView, role: Role) -> dict[str, tuple[float, float, float]]:
        """Slice -> the candidate's mean, that of all items, and the p-value of "it is no lower"."""
        pairs = pairs_with(view, view.candidate, suites_of(view, role))
        if not len(pairs):
            return {}
        overall = float(pairs.candidate.mean())
        means = {}
        for piece, rows in self._slices(view, pairs.suites, pairs.items):
            own = pairs.where(rows)
            below = overall - own.candidate
            p_value = p_above(below, own.clusters, overall - 1 - 1e-9)
            means[piece] = (float(own.candidate.mean()), overall, p_value)
        return means

    def _slices(
        self, view: GuardView, suites: np.ndarray, items: np.ndarray
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Each slice's name, and which rows are in it; those with too few rows are left out."""
        for name in self.columns:
            values = _values(view, suites, items, name)
            for value in sorted({value for value in values if value is not None}):
                rows = np.array([own == value for own in values], bool)
                if rows.sum() >= self.least:
                    yield f"{name}={value}", rows


def _values(view: GuardView, suites: np.ndarray, items: np.ndarray, column: str) -> list[str | None]:
    """What each item has in a column, as a text; None where its suite has no such column."""
    by_suite = {name: _by_item(view.suites[name].items, column) for name in set(suites.tolist())}
    return [by_suite[suite].get(str(item)) for suite, item in zip(suites, items, strict=True)]


def _by_item(items: pa.Table, column: str) -> dict[str, str]:
    if column not in items.column_names:
        return {}
    return {str(i): str(v) for i, v in zip(items["item"].to_pylist(), items[column].to_pylist(), strict=True)}


def _effect(pairs: Pairs) -> float:
    return float((pairs.candidate - pairs.other).mean())


def _p_worse(pairs: Pairs) -> float:
    """One-sided p-value of "the candidate is no worse"."""
    return p_above(pairs.other - pairs.candidate, pairs.clusters, -1.0)
