"""What all tuners that search have in common: rungs, when to stop, what is chosen; not what is proposed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

import msgspec

from flywheel.errors import ConfigError
from flywheel.protocols import TunerView
from flywheel.records import Choice, Scalar, Settings, Trial, TrialResult
from flywheel.space import Dimension, Point, Space
from flywheel.tuners.gains import Gain, gains
from flywheel.tuners.prior import Prior
from flywheel.tuners.proposals import importance_of
from flywheel.tuners.rungs import check_rungs, rungs_of
from flywheel.tuners.worth import best_of, in_force, score_of, worth_of_next

DRAWS = 1000
"""Draws from a space before it is searched in order, or given up."""
ENUMERABLE = 100_000
"""Points of a space that is searched in order where draws find nothing new."""
COARSE = 20
"""A range of no more values has neighbours one value away."""
STEPS = (-0.1, -0.03, 0.03, 0.1)
"""Neighbours in other ranges: shares of the whole range."""


@dataclass(kw_only=True, eq=False)
class Search:
    """The frame of a tuner: ``propose`` is what is missing.

    Args:
        trials: At most so many trials a generation.
        fidelity: The share of the configured steps that a trial does, in (0, 1].
        data_share: The share of the corpus that it trains on, in (0, 1].
        rungs: Shares of a trial's steps at which it is scored and pruned, e.g. ``(1/9, 1/3)``; none: it never
            is.
        eta: The best 1/eta of the scores at a rung go on.
        hyperband: Whether trials are dealt to brackets that begin to prune later and later.
        startup: The search does not end by itself before so many trials.
        least_gain: The gain of dev score that a whole fit's compute must promise for the search to go on,
            e.g. 0.001 for 0.1 points; 0: all ``trials`` are made. See ``tuners.worth``.
        margin: By how many standard errors of its gain a trial must beat the settings in force to replace
            them. See ``tuners.gains``.
        start: ``trial``: the best trial's weights are the candidate's start, and its fit does the rest of the
            steps, if it is what is chosen; None: the configured start.
        memory: A file of trials that runs share; the core reads and writes it.
        prior_trials: At most so many trials are taken from what prior studies found good, and only while
            that pays; 0: none, and no proposal looks at them.
    """

    trials: int = 20
    fidelity: float = 1.0
    data_share: float = 1.0
    rungs: tuple[float, ...] = ()
    eta: float = 3.0
    hyperband: bool = False
    startup: int = 8
    least_gain: float = 0.001
    margin: float = 2.0
    start: str | None = None
    memory: str | None = None
    prior_trials: int = 0
    _prior: Prior | None = field(default=None, init=False, repr=False)
    _points: list[tuple[Trial, Point]] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        check_rungs(self.rungs, self.eta)
        self.rungs = tuple(self.rungs)
        check("trials", self.trials, self.trials >= 1, "at least 1")
        check("startup", self.startup, self.startup >= 1, "at least 1")
        check("prior_trials", self.prior_trials, self.prior_trials >= 0, "0 or more")
        check("fidelity", self.fidelity, 0 < self.fidelity <= 1, "above 0 and at most 1")
        check("data_share", self.data_share, 0 < self.data_share <= 1, "above 0 and at most 1")
        check("least_gain", self.least_gain, self.least_gain >= 0, "0 or more")
        check("margin", self.margin, self.margin >= 0, "0 or more")
        check("start", self.start, self.start in (None, "trial"), "trial, or null")

    def propose(self, view: TunerView, seen: frozenset[Point]) -> Settings | None:
        """Settings to try next, feasible and not ``seen``; None: the space is exhausted."""
        raise NotImplementedError

    def ask(self, view: TunerView) -> Trial | None:
        """The next trial; None: there are enough, or another one is not worth its price."""
        number = len(view.results) + len(view.pending)
        if not view.space or number >= self.trials:
            return None
        if number >= self.startup and not self._is_worth_another(view):
            return None
        settings = self._settings(view, number)
        if settings is None:
            return None
        redo_from = view.space.redo_from(settings, view.settings)
        return Trial(
            settings,
            self.fidelity,
            redo_from=redo_from,
            data_share=self.data_share,
            rungs=rungs_of(number, self.rungs, self.eta, view.results, self.hyperband),
            keep_weights=self.start == "trial" and redo_from == "train" and self.data_share == 1,
        )

    def _is_worth_another(self, view: TunerView) -> bool:
        worth = worth_of_next(view.results, len(view.pending), self.fidelity)
        return worth.gain >= self.least_gain * worth.price

    def _settings(self, view: TunerView, number: int) -> Settings | None:
        if number == 0 and view.space.is_feasible(view.settings):
            return view.settings
        seen = self._points_tried(view)
        first = self.prior(view).next(view, seen, self.prior_trials)
        return self.propose(view, seen) if first is None else first

    def _points_tried(self, view: TunerView) -> frozenset[Point]:
        """The points that have been or are being tried."""
        trials = [*(result.trial for result in view.results), *view.pending]
        known = zip(self._points, trials, strict=False)
        same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0][0] is pair[1], known))
        new = [(trial, view.space.point(trial.settings)) for trial in trials[same:]]
        self._points = self._points[:same] + new
        return frozenset(point for _, point in self._points)

    def prior(self, view: TunerView) -> Prior:
        """What earlier studies say; they are the same in all views of a generation."""
        if self._prior is None:
            studies = view.prior if self.prior_trials else ()
            self._prior = Prior(msgspec.structs.replace(view, prior=studies))
        return self._prior

    def choose(self, view: TunerView) -> Choice:
        """The trial that beats the settings in force by most beyond its noise; or else these."""
        best, base = best_of(view.results), in_force(view)
        if best is None:
            return Choice(view.settings, view.init, view.carry, reason=_why_nothing(view))
        if base is None:
            reason = f"{_name(best, view.results)}; the settings in force were not scored"
        else:
            by_result = {gain.result.number: gain for gain in gains(view, base)}
            if (ahead := self._ahead(view, by_result)) is not None:
                best, reason = ahead.result, f"{_name(ahead.result, view.results)}, {_more(ahead, base)}"
            else:
                best, reason = base, self._why_kept(by_result[best.number], base, view.results)
        kept = [result for result in view.results if result.trial.keep_weights]
        is_start = self.start == "trial" and best_of(kept) is best  # the core keeps the best one's weights
        return Choice(
            best.trial.settings,
            "trial" if is_start else view.init,
            view.carry,
            best.number,
            max(0.0, 1 - best.share) if is_start else 1.0,
            reason,
            importance_of(view.space, view.results),
        )

    def _ahead(self, view: TunerView, by_result: Mapping[int, Gain]) -> Gain | None:
        """The trial that is ahead by most beyond its noise; None: none is.

        With ``start=trial`` the best one whose weights were kept, if it is ahead: they save a fit.
        """
        ahead = [gain for gain in by_result.values() if gain.value > self.margin * gain.error]
        if self.start == "trial":
            kept = best_of([result for result in view.results if result.trial.keep_weights])
            ahead = [gain for gain in ahead if gain.result is kept] or ahead
        return max(ahead, key=lambda gain: gain.value - self.margin * gain.error, default=None)

    def _why_kept(self, best: Gain, base: TrialResult, results: Sequence[TrialResult]) -> str:
        """Why the settings in force stay; ``best``: the trial with the highest score."""
        nothing = "tuning bought nothing:"
        made = f"{len(results)} {'trial' if len(results) == 1 else 'trials'}"
        if worth_of_next(results, 0, self.fidelity).is_flat and len(results) > 1:
            return f"{nothing} the scores of {made} differ by no more than their noise"
        if best.result is base:
            return f"{nothing} the settings in force are the best of {made}"
        why = f"{nothing} {_name(best.result, results)}, {_more(best, base)}"
        within = f", within {self.margin:g} standard errors ({best.error:.1%} each)"
        return why + within if best.value > 0 else why


def draw_new(view: TunerView, seen: frozenset[Point]) -> Settings | None:
    """Feasible settings that are not ``seen``, drawn from the space; None: there are none left.

    Raises ConfigError if no point of the space is feasible.
    """
    space, rng = view.space, view.key("draw").numpy()
    drawn = (space.draw(view.settings, rng) for _ in range(DRAWS))
    if (new := next(_new(drawn, view, seen), None)) is not None:
        return new
    if space.size is not None and space.size <= ENUMERABLE:
        left = list(_new(space.each(view.settings), view, seen))
        if left:
            return left[int(rng.integers(len(left)))]
    if not any(space.allows({**view.settings, **dict(point)}) for point in seen):
        constraints = " and ".join(space.constraints)
        raise ConfigError(
            f"A space has points for which its constraints hold; none was found for {constraints}. Widen the "
            "ranges under tune.space, or loosen tune.constraints."
        )
    return None


def _new(candidates: Iterable[Settings], view: TunerView, seen: frozenset[Point]) -> Iterator[Settings]:
    space = view.space
    return (one for one in candidates if space.is_feasible(one) and space.point(one) not in seen)


def neighbours(space: Space, settings: Iterable[Settings], seen: Set[Point]) -> list[Settings]:
    """Settings of the space that are not ``seen``, each one step in one dimension from one of those given."""
    steps = (
        space.complete({**one, dimension.name: value}, one)
        for one in settings
        for dimension in space.active(one)
        for value in _near(dimension, one[dimension.name])
    )
    found = {space.point(one): one for one in steps if space.allows(one)}
    return [one for point, one in found.items() if point not in seen]


def _near(dimension: Dimension, value: Scalar) -> Iterator[Scalar]:
    """The values beside one; of choices without order the others, of fine ranges some way off."""
    count = dimension.count
    if not dimension.allows(value):
        return iter(())
    if not dimension.is_ordered:
        return (one for one in dimension.choices if one != value)
    if count is not None and count <= COARSE:
        k = dimension.position(value) or 0
        return (dimension.value(j) for j in (k - 1, k + 1) if 0 <= j < count)
    shares = (dimension.share(value) + step for step in STEPS)
    return (dimension.at(share) for share in shares if 0 <= share < 1)


def _why_nothing(view: TunerView) -> str:
    if not view.results:
        return "no trial was made" if view.space else "there is nothing to search"
    return f"none of {len(view.results)} trials was scored at its end: the settings in force stay"


def _more(gain: Gain, base: TrialResult) -> str:
    """E.g. ``3.0% more than the settings in force``; of several generations, that it is their mean."""
    text = f"{abs(gain.value):.1%} {'less' if gain.value < 0 else 'more'} than the settings in force"
    if gain.generations == 1:
        return text
    now = score_of(gain.result) - score_of(base)
    return f"{text}, on weighted average over {gain.generations} generations, {now:+.1%} in this one"


def _name(best: TrialResult, results: Sequence[TrialResult]) -> str:
    return f"trial {best.number} of {len(results)}: {score_of(best):.1%} on dev"


def check(name: str, value: object, is_right: bool, rule: str) -> None:
    """Raise ConfigError if an argument breaks its rule."""
    if not is_right or (isinstance(value, float) and not math.isfinite(value)):
        raise ConfigError(f"tuner.{name} must be {rule}, got {value}.")
