"""Controls: what is the loop worth? The same recipe with one part off at a time, at equal training compute.

Of each seed the loop comes first; its training FLOPs (of all fits, those of trials too) are what the other
arms are matched to. Each arm is an ordinary run, with a budget of so many FLOPs, and finishes with the turn
that ends nearest to it (``budget.at_limit=finish``). An arm without turns has one fit of as many steps as
cost the same. How near that is, the ratio says. What generating, grading and evaluating take is not matched:
it is in the wall time.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flywheel import api
from flywheel.config.components import identity
from flywheel.config.compose import compose
from flywheel.config.search_path import add_working_directory
from flywheel.errors import ConfigError, ExitCode, RunError
from flywheel.experiments.arms import LOOP, Arm, Changes, Recipe, chosen_arms
from flywheel.lineage.status import read_state
from flywheel.metrics.intervals import t_interval
from flywheel.records import Action, Answer, Interval
from flywheel.storage.accountant import ErrorBudget
from flywheel.storage.state import RunState, RunStateName
from flywheel.tables import as_table

MORE_TRAINING = "more-training"
FOLDER = "controls"
_MATCHED = 0.1
"""Share by which training FLOPs may differ before it is said that they are not equal."""
_NO_END = 10_000
"""Turns of a loop that a budget ends."""
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


class ArmRun(Answer, frozen=True):
    """What came of an arm with a seed."""

    arm: str
    seed: int
    run: str
    """Its directory."""
    state: str
    """``finished``, or how far it got; ``absent``: it was not begun."""
    note: str = ""
    """Why its champion is not what it was to be, e.g. ``its generation 3 failed: ...``; empty: it is."""
    sealed: Mapping[str, Mapping[str, Interval]] = {}
    """Sealed suite -> metric -> estimate, of the final champion; empty while there is none."""
    flops: float = 0.0
    """Of all its fits."""
    seconds: float = 0.0
    """Wall time of its stages, without the looks at sealed suites."""
    turns: int = 0
    promoted: int = 0
    """Of these."""


class Difference(Answer, frozen=True):
    """A metric of a sealed suite, the loop beside an arm."""

    suite: str
    metric: str
    loop: float
    """Mean over seeds."""
    arm: float
    """Mean over the same seeds."""
    difference: Interval
    """loop - arm: the mean over seeds of paired differences, with Student's 95% interval."""

    @property
    def clear_sign(self) -> int:
        """1: the loop is ahead, -1: it is behind, 0: the interval holds zero."""
        return int(self.difference.low > 0) - int(self.difference.high < 0)


class Contribution(Answer, frozen=True):
    """What a part contributes: the loop against the arm without it."""

    arm: str
    off: str
    """What the arm has not, e.g. ``generated samples``."""
    does: str
    """What it does instead."""
    seeds: tuple[int, ...]
    """Those of which both have a sealed figure."""
    score: Difference | None
    """By the metric that arms are compared by; None: there is no such seed."""
    others: tuple[Difference, ...]
    """All other metrics of sealed suites."""
    flops_ratio: float | None
    """Training FLOPs, arm / loop, the mean over seeds."""
    flops_farthest: float | None
    """The ratio of the seed that is farthest from 1."""
    seconds_ratio: float | None
    """Wall time, arm / loop, the mean over seeds."""
    sentence: str
    notes: tuple[str, ...]
    """What is to be known of single runs."""


class Controls(Answer, frozen=True):
    """What the parts of a recipe's loop contribute."""

    recipe: str
    budget: str
    """E.g. ``90 s``, or ``4 turns``."""
    seeds: tuple[int, ...]
    suite: str
    metric: str
    """By which arms are compared, on this suite."""
    folder: str
    """Where the runs are."""
    contributions: tuple[Contribution, ...]
    runs: tuple[ArmRun, ...]
    not_applicable: Mapping[str, str]
    """Arm -> why it cannot be of the recipe."""


class Stopped(Exception):
    """A person has stopped a run: no further one is begun."""


def seconds_of(text: str) -> float:
    """The seconds of ``90s``, ``1.5m``, ``2h`` or ``90``. Raises ConfigError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    seconds = float(match[1]) * _UNITS[match[2] or "s"] if match else 0.0
    if not seconds > 0:
        raise ConfigError(f"A budget must be a time above 0, such as 90s, 2.5m or 1h; it is {text!r}.")
    return seconds


def seeds_of(text: str) -> tuple[int, ...]:
    """Seeds: ``5`` five of them, from 0 on; ``100-104`` a range; ``3,7`` or ``3,`` just these.

    Raises ConfigError.
    """
    if re.fullmatch(r"[1-9]\d*", text):
        return tuple(range(int(text)))
    seeds: list[int] = []
    for part in filter(None, text.split(",")):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if not match or int(match[2] or match[1]) < int(match[1]):
            seeds = []
            break
        seeds += range(int(match[1]), int(match[2] or match[1]) + 1)
    if not seeds:
        raise ConfigError(f"Seeds must be a number of them, a range 100-104 or a list 3,7; got {text!r}.")
    return tuple(dict.fromkeys(seeds))


@dataclass(frozen=True)
class Experiment:
    """Which runs there are to be, and where."""

    recipe: Recipe
    seeds: tuple[int, ...]
    seconds: float | None
    """What the loop may take; None: its own number of turns."""
    arms: Sequence[Arm]
    metric: tuple[str, str]
    """Suite and metric by which arms are compared."""
    reasons: Mapping[str, str]
    """Arm -> why it cannot be."""
    jobs: int = 1

    @classmethod
    def of(
        cls,
        words: Sequence[str],
        *,
        seeds: str = "5",
        budget: str | None = None,
        arms: Sequence[str] | None = None,
        metric: str | None = None,
        jobs: int = 1,
        config_dir: str | None = None,
    ) -> Experiment:
        """What a command asks for. Raises ConfigError or DataError before anything is run."""
        add_working_directory()
        if jobs < 1:
            raise ConfigError(f"--jobs must be 1 or more; it is {jobs}.")
        for word in words:
            key = word.lstrip("+~").partition("=")[0]
            if remedy := _OURS.get(key.partition(".")[0]):
                raise ConfigError(f"Controls set {key} of each run themselves. {remedy}")
        numbers, seconds = seeds_of(seeds), None if budget is None else seconds_of(budget)
        recipe = Recipe(tuple(words), config_dir)
        chosen, reasons = chosen_arms(recipe, arms)
        return cls(recipe, numbers, seconds, chosen, _metric(recipe, metric), reasons, jobs)

    @property
    def budget(self) -> str:
        """For people."""
        turns = self.recipe.config["generations"]
        return f"{turns} turns" if self.seconds is None else f"{self.seconds:g} s"

    @property
    def folder(self) -> Path:
        """Where the runs are: another one for another configuration or budget."""
        config = self.recipe.components.config
        text = f"{identity(config)} {self.budget}"
        if config.patience is not None:  # no part of the identity, and yet it ends the loop
            text += f" patience {config.patience}"
        name = f"{self.budget.replace(' ', '')}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        return Path(str(config.runs_dir), FOLDER, name)

    def path(self, arm: str, seed: int) -> Path:
        """The directory of a run."""
        return self.folder / str(self.recipe.config["recipe"]) / _name(arm, seed)

    def run(self, report: Callable[[str], None] = lambda _: None) -> None:
        """Make what is missing: first the loop of each seed, then the other arms, ``jobs`` at a time.

        Raises Stopped once a person has stopped one of them, RunError where a loop cannot be matched.
        """
        self._make([(LOOP, seed, self._loop(seed)) for seed in self.seeds], report)
        todo = []
        for seed in self.seeds:
            measure = self._measure(seed)
            todo += [(arm.name, seed, self._arm(arm, seed, measure)) for arm in self.arms]
        self._make(todo, report)

    def _make(self, todo: Iterable[tuple[str, int, Changes]], report: Callable[[str], None]) -> None:
        recipe = self.recipe
        specs = [
            (recipe.words, recipe.config_dir, changes, self.path(arm, seed)) for arm, seed, changes in todo
        ]
        for path in _each(make_run, [spec for spec in specs if not is_done(spec[3])], self.jobs):
            arm, _, seed = path.name.rpartition("-seed")
            report(_progress_text(self.outcome(arm, int(seed)), self.metric))

    def _common(self, arm: str, seed: int) -> Changes:
        """What all runs have: of each only the parts differ."""
        sections, config = self.recipe.sections, self.recipe.config
        threads = config["threads"] or (max(1, (os.cpu_count() or 1) // self.jobs) if self.jobs > 1 else None)
        return {
            "seed": seed,
            "name": _name(arm, seed),
            "runs_dir": str(self.folder),
            "refit": False,
            "review": {"_target_": "flywheel.reviewers.NoReview"},
            "tracker": {"_target_": "flywheel.trackers.NoTracker"},
            "error_budget": {**sections["error_budget"], "looks": ErrorBudget.of(config).looks},
            "log": "quiet",
            "report": "none",
            "threads": threads,
        }

    def _budget(self, **limits: float | None) -> Changes:
        budget = self.recipe.sections["budget"]
        none = dict.fromkeys(("seconds", "device_hours", "samples", "tokens", "flops", "money"))
        return {"budget": {**budget, **none, **limits, "at_limit": "finish"}}

    def _loop(self, seed: int) -> Changes:
        turns = {"generations": _NO_END} if self.seconds else {}
        return self._common(LOOP, seed) | self._budget(seconds=self.seconds) | turns

    def _measure(self, seed: int) -> Measure:
        return Measure.of(read_state(self.path(LOOP, seed)), self.path(LOOP, seed))

    def _arm(self, arm: Arm, seed: int, measure: Measure) -> Changes:
        changes = {**arm.changes(self.recipe), **self._common(arm.name, seed), "patience": None}
        if arm.name == MORE_TRAINING:
            trainer = {
                **self.recipe.sections["trainer"],
                "max_steps": measure.steps_of_one_fit,
                "max_epochs": -1,
            }
            trainer |= {"max_time": None} if "max_time" in trainer else {}
            return changes | {"trainer": trainer, "generations": 0} | self._budget()
        return changes | self._budget(flops=measure.flops) | {"generations": 10 * (measure.turns + 1)}

    def outcome(self, arm: str, seed: int) -> ArmRun:
        """What there is of an arm's run with a seed."""
        path = self.path(arm, seed)
        if not (path / "ledger.jsonl").exists():
            return ArmRun(arm, seed, str(path), "absent")
        return outcome_of(read_state(path), arm, seed, path)

    def answer(self) -> Controls:
        """What the runs say that are there."""
        names = [LOOP, *(arm.name for arm in self.arms)]
        runs = {(arm, seed): self.outcome(arm, seed) for arm in names for seed in self.seeds}
        suite, metric = _recorded_metric(self.metric, runs.values())
        resolutions = {one.name: 1 / max(1, len(as_table(one.items))) for one in self.recipe.sealed}
        contributions = (
            contribution(
                arm,
                [(runs[LOOP, seed], runs[arm.name, seed]) for seed in self.seeds],
                (suite, metric),
                resolutions,
            )
            for arm in self.arms
        )
        return Controls(
            recipe=str(self.recipe.config["recipe"]),
            budget=self.budget,
            seeds=self.seeds,
            suite=suite,
            metric=metric,
            folder=str(self.folder),
            contributions=tuple(contributions),
            runs=tuple(runs.values()),
            not_applicable=self.reasons,
        )


_OURS = {
    "seed": "Give --seeds.",
    "name": "Give runs_dir=FOLDER for another place.",
    "budget": "Give --budget.",
    "refit": "Arms are compared by their champions.",
    "review": "Nobody is asked.",
    "tracker": "They are ordinary runs in a folder of their own.",
    "log": "One line a run is printed.",
    "report": "Give report RUN later.",
}


@dataclass(frozen=True, slots=True)
class Measure:
    """What the other arms of a seed are matched to."""

    flops: float
    """Of all fits of the loop."""
    turns: int
    steps_of_one_fit: int
    """Of a fit on the seed samples that costs as much as all of them; 0: the genesis had none."""

    @classmethod
    def of(cls, state: RunState, path: Path) -> Measure:
        """That of a loop that has ended. Raises RunError where there is nothing to match."""
        turns = [g for g in state.generations if g.is_turn and g.train]
        if not is_finished(state):
            raise RunError(f"Arms are matched to the loop of their seed, and {path} has not finished.")
        if not turns:
            raise RunError(
                f"Arms are matched to a loop that has turns; {path} made none. Give a larger --budget."
            )
        if not state.spent.flops:
            raise RunError(
                f"Arms are matched by training FLOPs, and none were counted in {path}: its model has no "
                "matrix products, convolutions or attention that are known; see docs/controls.md."
            )
        genesis = state.generations[0].train
        cost = genesis.facts.flops if genesis else 0.0
        steps = round(genesis.facts.steps * state.spent.flops / cost) if genesis and cost else 0
        return cls(state.spent.flops, len(turns), steps)


def _name(arm: str, seed: int) -> str:
    return f"{arm}-seed{seed}"


def _metric(recipe: Recipe, named: str | None) -> tuple[str, str]:
    """The suite and metric by which arms are compared. Raises ConfigError."""
    sealed = {suite.name: suite for suite in recipe.sealed}
    if not sealed:
        there = ", ".join(f"{suite.name} ({suite.role})" for suite in recipe.suites) or "none"
        raise ConfigError(
            "Arms are compared on a sealed suite, which nothing has chosen by; the task of recipe "
            f"{recipe.config['recipe']} has {there}. Give it a suite with role sealed."
        )
    suite, _, metric = (named or next(iter(sealed))).partition("/")
    if suite not in sealed:
        raise ConfigError(
            f"--metric must be a sealed suite, or SUITE/METRIC; sealed are {', '.join(sealed)}."
        )
    metrics = sealed[suite].metrics
    first = getattr(metrics[0], "name", "") if metrics else "score"
    return suite, metric or first


def _recorded_metric(metric: tuple[str, str], runs: Iterable[ArmRun]) -> tuple[str, str]:
    """The metric by its name in the record, the first one where it is not named. Raises ConfigError."""
    suite, name = metric
    recorded = next((list(run.sealed[suite]) for run in runs if run.sealed), None)
    if recorded is None or name in recorded:
        return metric
    if name:
        raise ConfigError(f"Suite {suite} has the metrics {', '.join(recorded)}; --metric names {name!r}.")
    return suite, recorded[0]


def is_finished(state: RunState) -> bool:
    """Whether a run has ended with a look at its sealed suites."""
    return state.name(is_running=False) is RunStateName.FINISHED


def is_done(path: Path) -> bool:
    """Whether there is nothing left to do of a run."""
    return (path / "ledger.jsonl").exists() and is_finished(read_state(path))


Spec = tuple[Sequence[str], str | None, Changes, Path]
"""The words of the command, the folder of recipes, what is changed, and the run's directory."""


def make_run(spec: Spec) -> Path:
    """Run an arm to its end, or go on with it; its directory. Raises Stopped if a person has stopped it.

    A run that failed, or that a guard has halted, is finished with the champion that it has then.
    """
    words, config_dir, changes, path = spec
    add_working_directory()
    ended = api.run(compose(words, config_dir, changes), config_dir=config_dir)
    if ended.exit_code in (ExitCode.FINISHED, ExitCode.AWAITING_REVIEW):
        return path
    state, has_failed = read_state(path), ended.exit_code is ExitCode.FAILED
    can_finish = state.champion is not None and state.current is None
    if not has_failed and not (can_finish and _halts(state)):
        raise Stopped(f"{path} was stopped: {state.reason}")
    if not can_finish:
        return path
    done = state.counted_turns("stop")
    budget = {**changes["budget"], "seconds": None, "flops": None}
    last = {**changes, "generations": done, "budget": budget, "on_failure": "stop"}
    api.run(compose(words, config_dir, last), config_dir=config_dir)
    return path


def _halts(state: RunState) -> list[str]:
    """What guards said that halted the turn that ended last."""
    guard = state.generations[-1].guard if state.generations else None
    return [alarm.reason for alarm in guard.facts.alarms if alarm.action is Action.HALT] if guard else []


def _each(work: Callable[[Spec], Path], specs: Sequence[Spec], jobs: int) -> Iterator[Path]:
    """What the work returns for each, ``jobs`` at a time: one after the other in this process, or in others.

    Forking after OpenMP has started hangs, so that others are spawned.
    """
    if jobs == 1 or len(specs) < 2:
        yield from map(work, specs)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed

    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context) as pool:
        try:
            for future in as_completed([pool.submit(work, spec) for spec in specs]):
                yield future.result()
        except BaseException:  # those that run get Ctrl-C themselves, and stop at their next step
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def outcome_of(state: RunState, arm: str, seed: int, path: Path) -> ArmRun:
    """What a run has come to."""
    champion, finished = state.champion, is_finished(state)
    look = state.sealed.get(champion.number) if champion and finished else None
    failed = [g for g in state.generations if str(g.status) == "failed"]
    notes = [f"its generation {g.number} failed: {g.reason}" for g in failed]
    notes += [f"a guard halted it: {reason}" for reason in _halts(state)]
    turns = [g for g in state.generations if g.is_turn]
    return ArmRun(
        arm=arm,
        seed=seed,
        run=str(path),
        state=str(state.name(is_running=False)),
        note="; ".join(notes) if finished else "; ".join([*notes, state.reason or "it has not ended"]),
        sealed=look.facts.metrics if look else {},
        flops=state.spent.flops,
        seconds=round(state.seconds - sum(look.cost.seconds for look in state.sealed.values()), 3),
        turns=len(turns),
        promoted=sum(str(g.status) == "promoted" for g in turns),
    )


def contribution(
    arm: Arm,
    pairs: Sequence[tuple[ArmRun, ArmRun]],
    metric: tuple[str, str],
    resolutions: Mapping[str, float],
) -> Contribution:
    """What the arm has not, from the loop's runs and the arm's, paired by seed.

    ``resolutions``: the least step of a share on each sealed suite.
    """
    both = [(loop, other) for loop, other in pairs if loop.sealed and other.sealed]
    differences = {
        (suite, name): _difference(suite, name, both, resolutions.get(suite, 0.0))
        for suite, of_suite in (both[0][0].sealed.items() if both else ())
        for name in of_suite
    }
    score = differences.pop(metric, None)
    flops = [other.flops / loop.flops for loop, other in both if loop.flops]
    farthest = max(flops, key=lambda ratio: abs(ratio - 1)) if flops else None
    return Contribution(
        arm=arm.name,
        off=arm.off,
        does=arm.does,
        seeds=tuple(loop.seed for loop, _ in both),
        score=score,
        others=tuple(differences.values()),
        flops_ratio=float(np.mean(flops)) if flops else None,
        flops_farthest=farthest,
        seconds_ratio=float(np.mean([b.seconds / max(a.seconds, 1e-9) for a, b in both])) if both else None,
        sentence=_sentence(arm, score, len(both)) + _unequal_text(farthest),
        notes=tuple(f"seed {run.seed}, {run.arm}: {run.note}" for pair in pairs for run in pair if run.note),
    )


def _difference(
    suite: str, name: str, both: Sequence[tuple[ArmRun, ArmRun]], resolution: float
) -> Difference:
    estimates = [(loop.sealed[suite][name], arm.sealed[suite][name]) for loop, arm in both]
    ours, theirs = (np.array([float(one.value) for one in side]) for side in zip(*estimates, strict=True))
    unit = estimates[0][0].unit
    found = t_interval(ours - theirs, resolution if unit is None else 1.0)
    interval = Interval(found.value, found.low, found.high, unit)
    return Difference(suite, name, float(ours.mean()), float(theirs.mean()), interval)


def _sentence(arm: Arm, score: Difference | None, seeds: int) -> str:
    """What the difference says, plainly."""
    if score is None:
        return f"Of {arm.off} nothing is known yet: no seed has a sealed figure of both."
    by = difference_text(score.difference)
    count = "one seed" if seeds == 1 else f"{seeds} seeds"
    if seeds == 1:
        return f"One seed says nothing of chance: with {arm.off} the champion differs by {by}."
    if score.clear_sign:
        how = "better" if score.clear_sign > 0 else "worse"
        return f"With {arm.off} the champion is {how}, by {by} over {count}."
    return f"Whether the champion is better or worse with {arm.off} is not shown by {count}: {by} holds zero."


def _unequal_text(farthest: float | None) -> str:
    """What is to be said where an arm's compute is not the loop's."""
    if farthest is None or abs(farthest - 1) <= _MATCHED:
        return ""
    return (
        f" But compute is not equal: with a seed the arm has {farthest:.2f} times the loop's training FLOPs. "
        "Give a budget of more turns."
    )


def value_text(value: float, unit: str | None) -> str:
    """``96.41%``, or ``23.3`` levels."""
    return f"{100 * value:.2f}%" if unit is None else f"{value:.1f}"


def difference_text(interval: Interval) -> str:
    """``+2.31 points [+0.92, +3.70]``."""
    scale, what = (100, "points") if interval.unit is None else (1, f"{interval.unit}s")
    mean, low, high = (scale * float(value) for value in (interval.value, interval.low, interval.high))
    bounds = f" [{low:+.2f}, {high:+.2f}]" if np.isfinite(low) else ", no interval from one seed"
    return f"{mean:+.2f} {what}{bounds}"


def _progress_text(run: ArmRun, metric: tuple[str, str]) -> str:
    suite, name = metric
    found = run.sealed.get(suite, {}).get(name)
    figure = f"{name} {value_text(float(found.value), found.unit)} on {suite}" if found else run.state
    about = f"{run.turns} turns, {run.seconds:.0f} s, {run.flops:.3g} FLOPs"
    return f"seed {run.seed} {run.arm}: {figure}, {about}{run.note and f'; {run.note}'}"
