"""The guard of what a model could do and cannot any more: items that flipped from right to wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flywheel.guards.pairs import Pairs, action_of, check_ranges, pairs_with, references
from flywheel.metrics import mean_interval
from flywheel.protocols import GuardView
from flywheel.records import Action, Alarm


@dataclass(kw_only=True)
class Flips:
    """Items of dev and guard suites that an earlier generation had right and the candidate has not.

    Beside the champion, the parent and the first champion: the first tells of a step, the last of what was
    forgotten little by little. An alarm is raised where the share of flips among the items that were right is
    shown to be above ``limit``: the lower end of its interval, Clopper and Pearson's exact one for 0/1 scores
    and independent items (see ``metrics.mean_interval``), is above it. That is a one-sided test at 2.5%, for
    each of up to three generations. A gain in the mean does not make up for it. Duels are left out.
    """

    limit: float = 0.05
    """Share, in [0, 1), of the items that were right."""
    suites: list[str] | None = None
    """Names of dev and guard suites; None: all."""
    right: float = 0.5
    """Score, in (0, 1], from which an item is right."""
    action: str = "warn"
    """What is asked for: ``warn``, ``ask``, ``reject`` or ``halt``."""

    def __post_init__(self) -> None:
        check_ranges(self, limit=(0, 0.999), right=(1e-9, 1))
        action_of(self.action)

    def check(self, view: GuardView) -> Alarm | None:
        """The flips against each; None where no item was right."""
        names = list(view.suites) if self.suites is None else self.suites
        if unknown := [name for name in names if name not in view.suites]:
            raise ValueError(
                f"suites must be names of suites with role dev or guard; {unknown[0]!r} is none. There are: "
                f"{', '.join(view.suites) or 'none'}."
            )
        numbers: dict[str, float] = {}
        above: list[str] = []
        within: list[str] = []
        for other, table in references(view).items():
            pairs = pairs_with(view, table, names)
            was_right = pairs.where(pairs.other >= self.right)
            if len(was_right) == 0:
                continue
            flips, is_above, text = self._finding(was_right)
            gains = int(((pairs.other < self.right) & (pairs.candidate >= self.right)).sum())
            numbers |= {other: flips}
            sentence = f"{text} that {other} had right; {gains} flipped the other way"
            (above if is_above else within).append(sentence)
        if not numbers:
            return None
        reason = "; ".join([*(f"flipped to wrong: {text}" for text in above), *within])
        return Alarm(action_of(self.action) if above else Action.PASS, reason, numbers)

    def _finding(self, was_right: Pairs) -> tuple[int, bool, str]:
        """How many flipped, whether that is too many, and the share in words."""
        flipped = (was_right.candidate < self.right).astype(float)
        share = mean_interval(flipped, was_right.clusters)
        flips, is_above = int(np.sum(flipped)), share.low > self.limit
        bounds = f"{share.value:.1%} [{share.low:.1%}, {share.high:.1%}]"
        return flips, is_above, f"{flips} of {len(was_right)} items, {bounds}, limit {self.limit:.1%},"
