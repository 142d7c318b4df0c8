"""What a run's ledger says of where it stands: ``status RUN``, whose JSON is a stable surface."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from flywheel.errors import RunError, near_misses
from flywheel.lineage.code_changes import CodeChange
from flywheel.lineage.text import estimate_text
from flywheel.records import Answer, Interval, Role
from flywheel.storage import ledger, lock
from flywheel.storage.accountant import FALSE_DISCOVERY, level_due
from flywheel.storage.events import ForkedFrom, HeldOut, RunEnded, Spent
from flywheel.storage.policy import FRONTIER, GREEDY
from flywheel.storage.state import Generation, RunState, Status

_LISTED = 5
Metrics = Mapping[str, Mapping[str, Interval]]
"""{suite: {metric: estimate}}"""


class Champion(Answer, frozen=True):
    """The generation in force, or what is ahead of it."""

    generation: int
    weights: str | None
    """SHA-256 of its weights."""


class PromotionStatus(Answer, frozen=True):
    """By what rule a run promotes, and how far its frontier is; see ``storage.policy``."""

    rule: str
    """``each``, ``frontier`` or ``greedy``, which is no test."""
    every: int | None
    """Turns between looks at the frontier; None: the rule has no frontier."""
    patience: int | None
    """Looks in a row that may be in vain before it is given up; None likewise."""
    harm: float | None
    """Level at which harm is shown on dev; None likewise."""
    looks_in_vain: int
    """How many were, since the champion came into force or was gone back to."""
    ahead: tuple[int, ...]
    """The generations that have advanced beyond the champion, the frontier last."""
    falls_back: bool
    """Whether these are given up when the run goes on."""

    @classmethod
    def of(cls, state: RunState) -> PromotionStatus:
        """That of a run."""
        rule, ahead = state.promotion, tuple(generation.number for generation in state.ahead)
        settings = (rule.every, rule.patience, rule.harm)
        return cls(rule.rule, *settings, state.looks_in_vain, ahead, state.must_fall_back)

    def __str__(self) -> str:
        """Empty with ``promotion=each``."""
        if self.rule == GREEDY:
            return "promotion=greedy: no test; what has the higher mean on dev becomes champion"
        if self.rule != FRONTIER:
            return ""
        vain = f"{self.looks_in_vain} of {self.patience} looks in a row in vain"
        vain += "; it is given up when the run goes on" if self.falls_back else ""
        if not self.ahead:
            return f"promotion=frontier: nothing is ahead of the champion; {vain}"
        return (
            f"promotion=frontier: generation {self.ahead[-1]} is ahead of the champion, not certified; {vain}"
        )


class Cost(Answer, frozen=True):
    """What a generation took."""

    seconds: float
    """Wall time of the stages that are done, e.g. 12.3."""
    cpu_seconds: float
    lost_seconds: float
    """Wall time of stages that failed or were cut off."""
    steps: int
    """Optimizer steps of the fit."""
    flops: float
    """Of the steps of the fit and of trials, those of stages that are done; see ``runtime.flops``."""
    stages: Mapping[str, float]
    """Wall time of each stage that is done, in seconds."""


class AuditStatus(Answer, frozen=True):
    """What a trusted grader found of the samples that a turn kept; see docs/audits.md."""

    grader: str
    """Its class, e.g. ``Verifier``."""
    graded: int
    """Kept samples that it answered for, e.g. 200."""
    precision: Interval | None
    """The share of right ones among those kept; None: nothing is known of it."""
    recall: Interval | None
    """The share of kept ones among the right ones; None likewise."""
    flagged: str | None
    """A sentence where too few are right, or nothing was found out."""
    drift: str | None
    """A sentence where fewer are right than in earlier turns, or the loop's grader's gap is larger."""

    @classmethod
    def of(cls, generation: Generation) -> AuditStatus | None:
        """That of a generation; None: it was not audited."""
        if generation.audit is None:
            return None
        facts = generation.audit.facts
        own = facts.precision, facts.recall, facts.flagged, facts.drift
        return cls(facts.grader, facts.kept.graded, *own)

    def __str__(self) -> str:
        """E.g. ``98.5% [95.7, 99.7] of the kept samples are right, 200 graded by Verifier``."""
        share = estimate_text(self.precision) if self.precision else "it is not known how many"
        text = f"{share} of the kept samples are right, {self.graded} graded by {self.grader}"
        return "; ".join(filter(None, [text, self.flagged, self.drift]))


NO_AUDIT = "no audit: nothing checked whether kept samples are right"


def audit_text(state: RunState) -> Iterator[str]:
    """What audits say: a line for each turn that one finds fault with, and the trend."""
    turns = [g for g in state.generations if g.curate and g.is_turn]
    audited = [g.audit.facts for g in turns if g.audit]
    if not turns:
        return
    if not audited:
        yield NO_AUDIT
        return
    faults = [(g.number, g.audit.facts.fault) for g in turns if g.audit and g.audit.facts.fault]
    for number, fault in faults[-_LISTED:]:
        yield f"audit of generation {number}: {fault}"
    known = [f"{facts.precision.value:.1%}" for facts in audited if facts.precision]
    trend = f"{known[0]} first, {known[-1]} last" if len(known) > 1 else "".join(known)
    turns_text = "1 turn" if len(audited) == 1 else f"{len(audited)} turns"
    found = f"audits of {turns_text} found fault with {len(faults) or 'none'}"
    yield f"{found}; right among those kept: {trend}" if known else found


class GenerationStatus(Answer, frozen=True):
    """Where one generation stands."""

    generation: int
    parent: int | None
    """The generation that made its data; None: a genesis."""
    champion: int | None
    """The one in force when it began, then when its look began; None: there was none."""
    refit_of: int | None
    """The champion whose procedure it repeats with the labels of dev and gate; None: it is no refit."""
    init: str | None
    """What its weights started from, e.g. ``parent``; None: it was not trained yet."""
    status: str
    """``unfinished``, ``promoted``, ``rejected``, ``advanced``, ``failed`` or ``final``."""
    reason: str
    """The verdict's sentence, or why it failed; empty until then."""
    recalled: bool
    suspect: bool
    abandoned: bool
    """It had advanced when the frontier fell back to the champion."""
    weights: str | None
    """SHA-256 of its weights."""
    corpus: str | None
    """Hash of its corpus' sample ids in order."""
    by_origin: Mapping[str, int]
    """Rows of the corpus by origin, e.g. ``{"human": 40, "generated": 20}``."""
    metrics: Metrics
    audit: AuditStatus | None
    """None: nothing checked whether the samples that it kept are right."""
    cost: Cost


class BudgetStatus(Answer, frozen=True):
    """What a run may still spend on promotions that are wrong; see ``storage.accountant``."""

    alpha: float
    rule: str
    """``familywise`` or ``false_discovery``."""
    planned: int
    """Looks at the gate's items that share alpha, but for its reserve."""
    looks: int
    """Those that were charged."""
    spent: float
    """What they were charged, with what a fork inherited."""
    next_level: float
    """What the next look would get."""

    @classmethod
    def of(cls, state: RunState) -> BudgetStatus | None:
        """None before a run is created, and with ``promotion=greedy``, which tests nothing."""
        if state.created is None or state.promotion.rule == GREEDY:
            return None
        budget, looks = state.created.error_budget, len(state.looks)
        spent = float(f"{budget.spent + budget.charged(looks):.6g}")
        return cls(budget.alpha, budget.rule, budget.looks, looks, spent, level_due(state))

    def __str__(self) -> str:
        what = "of all promotions" if self.rule == FALSE_DISCOVERY else "that any promotion is wrong"
        taken = f"{self.looks} of {self.planned} planned looks taken"
        return (
            f"error {self.alpha:g} {what}: {taken}, {self.spent:.3g} spent, next level {self.next_level:.3g}"
        )


class Final(Answer, frozen=True):
    """The refit of the champion: made as it was, with the labels of dev and gate too."""

    generation: int
    weights: str | None
    """SHA-256 of its weights."""
    metrics: Metrics
    """On the sealed suites."""
    champion_metrics: Metrics
    """The champion's on the same items."""

    @classmethod
    def of(cls, state: RunState) -> Final | None:
        """That of the champion in force; None without."""
        if state.final is None or state.champion is None:
            return None
        looks = (state.sealed.get(g.number) for g in (state.final, state.champion))
        sealed = [look.facts.metrics if look else {} for look in looks]
        return cls(state.final.number, bare(state.final.weights), *sealed)

    def __str__(self) -> str:
        text = f"generation {self.generation} is final: as the champion, with the labels of dev and gate"
        pairs = [
            f"{name} on {suite} {estimate_text(value)}, the champion {estimate_text(beside)}"
            for suite, name, value in estimates(self.metrics)
            if (beside := self.champion_metrics.get(suite, {}).get(name))
        ]
        return "; ".join([text, *pairs])


def difference(ours: Interval, theirs: Interval) -> Interval:
    """Of estimates on different items, ours - theirs: see Newcombe (1998), method 10."""
    by = ours.value - theirs.value
    below = math.hypot(ours.value - ours.low, theirs.high - theirs.value)
    above = math.hypot(ours.high - ours.value, theirs.value - theirs.low)
    return Interval(by, round(by - below, 9), round(by + above, 9), ours.unit)


class GateBesideSealed(Answer, frozen=True):
    """A share that the champion has on a gate suite and on a sealed one: what is selected by may flatter."""

    metric: str
    """Its name, e.g. ``accuracy``."""
    gate: str
    """The gate suite."""
    sealed: str
    """The sealed suite."""
    gate_value: float
    """As shown there, see ``metrics.ladder``."""
    sealed_value: float
    difference: float
    """gate - sealed."""
    low: float
    high: float
    """The difference's 95% confidence interval."""

    @classmethod
    def of(cls, metric: str, suites: tuple[str, str], ours: Interval, theirs: Interval) -> GateBesideSealed:
        """Of estimates on different items."""
        by = difference(ours, theirs)
        return cls(metric, *suites, ours.value, theirs.value, by.value, by.low, by.high)

    @property
    def flatters(self) -> bool:
        """Whether the gate's figure is higher by more than chance."""
        return self.low > 0

    def __str__(self) -> str:
        low, high = (f"{100 * bound:+.1f}" for bound in (self.low, self.high))
        text = (
            f"{self.metric} on {self.gate} {self.gate_value:.1%}, on {self.sealed} {self.sealed_value:.1%}, "
            f"difference {100 * self.difference:+.1f} points [{low}, {high}]"
        )
        return text + (": it wins on the gate's items only, believe the sealed ones" if self.flatters else "")


class RunStatus(Answer, frozen=True):
    """Where a run stands."""

    run: str
    """Its directory."""
    recipe: str | None
    state: str
    """``running``, ``finished``, ``stopped``, ``awaiting_review``, ``failed`` or ``interrupted``."""
    writer: str | None
    """What the process that holds the run's lock does: run, prune, recall, rollback or review."""
    reason: str
    """Why it ended, e.g. ``generations`` or ``patience``."""
    head: str
    """SHA-256 of the last ledger line."""
    champion: Champion | None
    frontier: Champion | None
    """What has advanced beyond the champion, the newest; None: the next generation builds on the champion."""
    promotion: PromotionStatus
    final: Final | None
    """The champion's refit; None: there is none."""
    forked_from: ForkedFrom | None
    error_budget: BudgetStatus | None
    """None: with ``promotion=greedy`` nothing is tested."""
    sealed_openings: int
    """How often the sealed suites were opened, with what a fork inherited."""
    gate_beside_sealed: tuple[GateBesideSealed, ...]
    """The champion's gate figures beside the sealed ones."""
    spent: Spent
    """What all stages together cost so far."""
    held_out: HeldOut | None
    """None until the seed samples are recorded."""
    code_changes: tuple[CodeChange, ...]
    """Where a session's code was not that of the one before."""
    generations: tuple[GenerationStatus, ...]


def find_run(run: str, runs_dir: str = "runs", *, changes: bool = False) -> Path:
    """The directory of a run: a path, RECIPE/NAME, NAME, or a recipe's newest run.

    Raises RunError if there is none; and where something ``changes``, if there are several.
    """
    fitting = find_runs(run, runs_dir)
    if changes and len(fitting) > 1:
        raise RunError(
            f"Expected the name of one run, got {run!r}, the name of {len(fitting)}: "
            f"{', '.join(map(str, fitting[: -_LISTED - 1 : -1]))}{' ...' if len(fitting) > _LISTED else ''}. "
            "Give RECIPE/NAME, or the directory."
        )
    return fitting[-1]


def find_runs(run: str, runs_dir: str) -> list[Path]:
    """The directories of all runs that a name fits, the one written last at the end. Raises RunError."""
    for path in (Path(run), Path(runs_dir) / run):
        if (path / "ledger.jsonl").is_file():
            return [path]
    known = {str(path.relative_to(runs_dir)): path for path in all_runs(runs_dir)}
    fitting = [path for name, path in known.items() if run in name.split("/")]
    if fitting:
        return fitting
    newest = list(known)[: -_LISTED - 1 : -1]
    more = f" and {len(known) - len(newest)} older ones" if len(known) > len(newest) else ""
    listed = (", ".join(newest) or "none") + more
    raise RunError(f"There is no run {run!r}.{near_misses(run, known)} Under {runs_dir}: {listed}.")


def all_runs(runs_dir: str) -> list[Path]:
    """Every run under a folder, the one written last at the end."""
    return sorted(
        (path.parent for path in Path(runs_dir).glob("*/*/ledger.jsonl")),
        key=lambda path: (path / "ledger.jsonl").stat().st_mtime,
    )


def read_state(directory: Path) -> RunState:
    """The state of a run. Raises DamagedError if its ledger is not what was written."""
    return RunState.replay(ledger.read(directory))


def status(directory: Path) -> RunStatus:
    """The documented status of a run."""
    state, work = read_state(directory), lock.work_under_way(directory)
    with ledger.no_garbage_collection():
        generations = tuple(_generation(g, state) for g in state.generations)
    champion, ahead, created = state.champion, state.ahead, state.created
    return RunStatus(
        run=str(directory),
        recipe=created.recipe if created else None,
        state=str(state.name(is_running=work is lock.Work.RUN)),
        writer=str(work) if work else None,
        reason=state.reason,
        head=ledger.read_head(directory),
        champion=Champion(champion.number, bare(champion.weights)) if champion else None,
        frontier=Champion(ahead[-1].number, bare(ahead[-1].weights)) if ahead else None,
        promotion=PromotionStatus.of(state),
        final=Final.of(state),
        forked_from=created.forked_from if created else None,
        error_budget=BudgetStatus.of(state),
        sealed_openings=state.times_opened,
        gate_beside_sealed=gate_beside_sealed(state),
        spent=state.spent.rounded(),
        held_out=held_out(state),
        code_changes=tuple(CodeChange.of(event) for event in state.code_changes),
        generations=generations,
    )


OVER = {
    "generations": "all generations are made",
    "patience": "patience ran out",
    "budget": "the budget is spent",
}
"""Why a run ended that has nothing left to do: the reason in its last event, for people."""


def summary_line(directory: Path, state: RunState) -> str:
    """Where a run stands, in a line."""
    work, origin = lock.work_under_way(directory), forked_from(state)
    name = state.name(is_running=work is lock.Work.RUN)
    recipe = state.created.recipe if state.created else None
    reason = state.last.reason if isinstance(state.last, RunEnded) else ""
    reason = OVER.get(reason, reason)
    other = f"(being {work.passive})" if work not in (None, lock.Work.RUN) else ""
    rule = "promotion=greedy: no test" if state.promotion.rule == GREEDY else ""
    parts = [str(directory), f"recipe {recipe}", str(name), f"({reason})" if reason else "", other, rule]
    return "  ".join([*filter(None, parts), *([f"forked from {origin}"] if origin else [])])


def forked_from(state: RunState) -> str | None:
    """RUN@GENERATION that a fork started from; None if it is none."""
    return str(state.created.forked_from) if state.created and state.created.forked_from else None


def held_out(state: RunState) -> HeldOut | None:
    """What is held out from what, as recorded with the seed samples; None before."""
    return next((g.seed.facts.held_out for g in state.generations if g.seed), None)


def kept_from_people(state: RunState) -> set[str]:
    """Gate suites, and guard suites with items in common with one, as far as the task tells what items ask.

    Which of their items a candidate wins no page shows: it is what the Ladder keeps from whoever chooses.
    """
    gates = {suite for suite, role in state.roles.items() if role == Role.GATE}
    recorded = held_out(state)
    pairs = [{one.suite, one.other} for one in recorded.shared] if recorded else []
    beside = set().union(*(pair for pair in pairs if pair & gates))
    return gates | {suite for suite in beside if state.roles.get(suite) == Role.GUARD}


def held_out_text(recorded: HeldOut) -> str:
    """``held_out`` as a line for people."""
    texts, also = recorded.decontaminate, ""
    if texts:
        also = f"; texts of {', '.join(texts.columns)} by {texts.ngram} words in a row"
    if not recorded.columns and texts:
        return f"held out by{also.removeprefix(';')}"
    if not recorded.columns:
        return "not checked whether suites ask what was taught: the task names no identity_columns"
    text = f"held out by {', '.join(recorded.columns)}"
    if not recorded.shared:
        return f"{text}: no item is a seed sample, or in a suite of another role{also}"
    by_other: dict[str, list[str]] = {}
    for entry in recorded.shared:
        count = f"all {entry.of}" if 1 < entry.items == entry.of else f"{entry.items} of {entry.of}"
        by_other.setdefault(entry.other, []).append(f"{count} items of {entry.suite}")
    shared = "; ".join(f"{', '.join(items)} in {other}" for other, items in by_other.items())
    few = "; ".join(
        f"{rule.column} {', '.join(map(str, rule.values))}: {rule.reason}" for rule in recorded.exhaustible
    )
    return f"{text}, except {shared}" + (f" ({few})" if few else "") + also


def metrics(generation: Generation, state: RunState) -> Metrics:
    """Its estimates by suite and metric, the sealed suites included once they were looked at.

    Those on dev are of its evaluation; where it has none, of its screening.
    """
    looks = (generation.screen, generation.evaluate, state.sealed.get(generation.number))
    return {suite: estimates for look in looks if look for suite, estimates in look.facts.metrics.items()}


def estimates(measured: Metrics) -> Iterator[tuple[str, str, Interval]]:
    """Each estimate with the names of its suite and metric."""
    for suite, by_metric in measured.items():
        for metric, estimate in by_metric.items():
            yield suite, metric, estimate


def gate_beside_sealed(state: RunState) -> tuple[GateBesideSealed, ...]:
    """Each share that the champion has on both a gate suite and the sealed suite that asks the like.

    That is the only sealed suite; of several the one whose name contains the gate's, e.g. ``sealed_gate``
    beside ``gate``. The others ask other things. None of duels, nor of levels.
    """
    measured, suites = _gate_and_sealed(state)
    several = suites.get(Role.SEALED, [])
    return tuple(
        GateBesideSealed.of(name, (gate, sealed), ours, theirs)
        for gate in suites.get(Role.GATE, ())
        for sealed in several
        if len(several) == 1 or gate in sealed
        for name, ours in measured.get(gate, {}).items()
        if (theirs := measured.get(sealed, {}).get(name)) and not (ours.unit or theirs.unit)
    )


def gate_beside_sealed_text(state: RunState) -> Iterator[str]:
    """``gate_beside_sealed`` in lines, or that the sealed suites ask other things than the gate."""
    pairs = gate_beside_sealed(state)
    yield from (f"the champion's {pair}" for pair in pairs)
    measured, suites = _gate_and_sealed(state)
    roles = (Role.GATE, Role.SEALED)
    is_on_both = all(any(name in measured for name in suites.get(role, ())) for role in roles)
    if is_on_both and not pairs:
        yield "the sealed suites ask other things than the gate: their figures are not compared"


def _gate_and_sealed(state: RunState) -> tuple[Metrics, dict[str, list[str]]]:
    """The champion's estimates, and the names of the suites that are no duels by role."""
    by_role: dict[str, list[str]] = {}
    for about in state.created.data.values() if state.created else ():
        if not about.get("duel"):
            by_role.setdefault(about.get("role", ""), []).append(about.get("name", ""))
    return metrics(state.champion, state) if state.champion else {}, by_role


def is_untested(generation: Generation, state: RunState) -> bool:
    """Whether it became champion without a test: a candidate's, with ``promotion=greedy``."""
    is_greedy = state.promotion.rule == GREEDY
    return is_greedy and generation.is_turn and generation.status is Status.PROMOTED


def bare(artifact: str | None) -> str | None:
    """The hash in an artifact's name."""
    return artifact.partition(".")[0] if artifact else None


def _generation(generation: Generation, state: RunState) -> GenerationStatus:
    return GenerationStatus(
        generation=generation.number,
        parent=generation.parent,
        champion=generation.champion,
        refit_of=generation.refit_of,
        init=generation.init,
        status=str(generation.status),
        reason=generation.reason,
        recalled=generation.recalled,
        suspect=generation.suspect,
        abandoned=generation.abandoned,
        weights=bare(generation.weights),
        corpus=generation.curate.facts.corpus if generation.curate else None,
        by_origin=generation.curate.facts.by_origin if generation.curate else {},
        metrics=metrics(generation, state),
        audit=AuditStatus.of(generation),
        cost=cost(generation),
    )


def cost(generation: Generation) -> Cost:
    """What the stages that are done cost, together and one by one, and what those lost that are not."""
    costs = {stage: event.cost for stage, event in generation.stages.items()}
    return Cost(
        seconds=round(sum(cost.seconds for cost in costs.values()), 3),
        cpu_seconds=round(sum(cost.cpu_seconds for cost in costs.values()), 3),
        lost_seconds=round(generation.lost_seconds, 3),
        steps=generation.train.facts.steps if generation.train else 0,
        flops=sum(cost.flops for cost in costs.values()),
        stages={stage: cost.seconds for stage, cost in costs.items()},
    )
