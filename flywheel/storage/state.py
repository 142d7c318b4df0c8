"""The state of a run, replayed from its ledger: derived, never stored.

An event that breaks a rule cannot be replayed, so an illegal promotion cannot be written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, TypeVar

from flywheel.errors import DamagedError
from flywheel.keys import Key
from flywheel.records import Consent, Json, Role, Settings, Start
from flywheel.storage import rules
from flywheel.storage.events import (
    AuditFacts,
    CodeChanged,
    Consented,
    Cost,
    CurateFacts,
    Decided,
    EvaluateFacts,
    Event,
    FellBack,
    GateFacts,
    GenerateFacts,
    GenerationEnded,
    GenerationStarted,
    GradeFacts,
    GuardFacts,
    LabelsFacts,
    Look,
    Producer,
    Pruned,
    Recalled,
    ReviewFacts,
    RolledBack,
    RunCreated,
    RunEnded,
    ScreenFacts,
    SeedFacts,
    SessionStarted,
    Spent,
    StageDone,
    TrainFacts,
    TuneFacts,
    finishes,
)
from flywheel.storage.events import Status as Status
from flywheel.storage.ledger import no_garbage_collection
from flywheel.storage.policy import Promotion
from flywheel.storage.rules import Carries, carries_without

F = TypeVar("F")


class RunStateName(StrEnum):
    """Where a run stands, as ``status`` reports it."""

    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    AWAITING_REVIEW = "awaiting_review"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class _Done(Generic[F]):
    """A generation's event of a stage, or of the one that was done instead; None: neither is done."""

    def __init__(self, stage: str, instead: str = "") -> None:
        self._stage, self._instead = stage, instead

    def __get__(self, generation: Generation, owner: type[Generation]) -> StageDone[F] | None:
        return generation.stages.get(self._stage) or generation.stages.get(self._instead)


@dataclass(slots=True)
class Generation:
    """What the ledger says of one generation."""

    number: int
    parent: int | None
    status: Status = Status.UNFINISHED
    reason: str = ""
    champion: int | None = None
    """The one in force when it began, then when its look began; None: there was none."""
    refit_of: int | None = None
    """The champion whose procedure it repeats with the labels of dev and gate; None: it is no refit."""
    lost_seconds: float = 0.0
    """Wall time of its stages that failed or were cut off."""
    stages: dict[str, StageDone[Any]] = field(default_factory=dict)
    """Stage -> its event, of those that are done. By their names below they have typed facts."""
    decisions: dict[str, Decided] = field(default_factory=dict)
    """Those of its stages that are replayed, by what they decide."""
    recalled: bool = False
    """It is flawed or learned from what is: never champion (again). A flag beside the verdict."""
    suspect: bool = False
    """What is recalled graded it, chose its settings, was its opponent or was seen by its curator, but it
    learned from none of it."""
    abandoned: bool = False
    """It had advanced when the frontier fell back to the champion."""
    look: Look | None = None
    """What the look at the gate's items was charged; None: there was none yet."""
    turns: list[int] = field(default_factory=list)
    """Those on it that were rejected or have advanced: what they brought, its later turns may draw on."""
    carry_before: Carries = Carries()
    """Those in force when it began."""
    carry_after: Carries = Carries()
    """Those in force when it had ended; none until then."""

    seed = _Done[SeedFacts]("seed")
    labels = _Done[LabelsFacts]("labels")
    generate = _Done[GenerateFacts]("generate")
    grade = _Done[GradeFacts]("grade")
    audit = _Done[AuditFacts]("audit")
    curate = _Done[CurateFacts]("curate")
    tune = _Done[TuneFacts]("tune")
    train = _Done[TrainFacts]("train", "adopt")
    """The stage that made its weights: a fit, or the adoption of a start as it is."""
    screen = _Done[ScreenFacts]("screen")
    evaluate = _Done[EvaluateFacts]("evaluate")
    gate = _Done[GateFacts]("gate")
    guard = _Done[GuardFacts]("guard")
    review = _Done[ReviewFacts]("review")

    def output(self, stage: str, name: str) -> str | None:
        """Name of an artifact that a stage made, or None if the stage is not done."""
        event = self.stages.get(stage)
        return event.outputs.get(name) if event else None

    @property
    def rivals(self) -> Mapping[str, Producer]:
        """Who answered its prompts beside its parent, by name."""
        return self.generate.facts.rivals if self.generate else {}

    @property
    def are_trials_retired(self) -> bool:
        """Whether no tuner is shown its trials: it is recalled, or suspect and without a corpus.

        Only that tells that what is flawed was not learned from.
        """
        return self.recalled or (self.suspect and "curate" not in self.stages)

    @property
    def is_genesis(self) -> bool:
        """Whether it has no parent: a first champion, or an attempt at one."""
        return self.parent is None and self.refit_of is None

    @property
    def is_turn(self) -> bool:
        """Whether it is a candidate's: neither a genesis nor a refit."""
        return self.parent is not None and self.refit_of is None

    @property
    def weights(self) -> str | None:
        """The candidate's weights."""
        return self.train.outputs["weights"] if self.train else None

    @property
    def dev_outcomes(self) -> str | None:
        """Table with its outcomes on dev, perhaps with those on other suites; None: it was not evaluated."""
        return self.output("screen", "outcomes") or self.output("evaluate", "outcomes")

    @property
    def start(self) -> Start | None:
        """What its weights started from; None before it was trained."""
        return self.train.facts.start if self.train else None

    @property
    def init(self) -> str | None:
        """The kind of its start, e.g. ``parent``."""
        return self.start.kind if self.start else None

    @property
    def settings(self) -> Settings:
        """Those it was trained with."""
        return dict(self.train.facts.settings) if self.train else {}

    @property
    def seconds(self) -> float:
        """Wall time of its stages, those that failed or were cut off too, in seconds."""
        return self.lost_seconds + sum(event.cost.seconds for event in self.stages.values())


@dataclass(slots=True)
class RunState:
    """A run as its ledger tells it."""

    created: RunCreated | None = None
    generations: list[Generation] = field(default_factory=list)
    current: Generation | None = None
    """The one under way: what a resumed run continues."""
    champion: Generation | None = None
    frontier: Generation | None = None
    """What the next generation builds on: the champion, or what has advanced beyond it."""
    first_champion: Generation | None = None
    carries: Carries = Carries()
    """Those in force: as the last finished generation left them, or as a recall or rollback put them back."""
    recalled: str | None = None
    """Artifact with the ids of all samples recalled so far; None: none were."""
    looks: list[Look] = field(default_factory=list)
    """All looks at the gate's items, whatever became of them: what was spent stays spent."""
    turns_since_look: int = 0
    """Turns that were rejected or have advanced since the last look at a frontier, or since it fell back."""
    looks_in_vain: int = 0
    """Looks at frontiers that certified none, since the champion came into force or it was gone back to."""
    shown: dict[str, int] = field(default_factory=dict)
    """Gate suite -> the generation whose estimates were shown last."""
    openings: list[Look] = field(default_factory=list)
    """All openings of the sealed suites in this run, likewise."""
    unsealed: frozenset[int] = frozenset()
    """The champions that the last opening is for and that were not looked at yet."""
    is_opened: bool = False
    """Whether the sealed suites were opened, here or in the run that a fork came from, and no generation or
    look has begun since: one that begins now is chosen by whoever knows the sealed figures."""
    sealed: dict[int, StageDone[EvaluateFacts]] = field(default_factory=dict)
    """The look at the sealed suites of each generation that was looked at."""
    pruned: dict[str, Pruned] = field(default_factory=dict)
    """The ``pruned`` event of each artifact that was dropped and not made again since."""
    session: SessionStarted | None = None
    """The ``session_started`` of the session under way, or the last one."""
    code_changes: list[CodeChanged] = field(default_factory=list)
    """The ``code_changed`` event of each session whose code was not that of the one before."""
    last: SessionStarted | GenerationStarted | RunEnded | Recalled | RolledBack | None = None
    """The last event that says how a session went on or ended."""
    unreported: Generation | None = None
    """The generation that ended last, until the next one or a look begins, an event says how the session
    ended, or a person recalls or rolls back: what it means for the session, e.g. a guard's halt, holds for
    the next one if this one is killed before."""
    ended_turns: Counter[Status] = field(default_factory=Counter)
    """How many generations with a parent ended so and are not recalled."""
    fruitless: list[int] = field(default_factory=list)
    """Turns without promotion since the champion came into force and are not recalled."""
    refits: list[Generation] = field(default_factory=list)
    """Those that repeat, or were to repeat, a champion's procedure with the labels of dev and gate."""
    with_trials: list[int] = field(default_factory=list)
    """Generations whose tuner tried something."""
    replacements: set[str] = field(default_factory=set)
    """What stands in for something that was pruned: never pruned itself."""
    consents: dict[str, Consent] = field(default_factory=dict)
    """What people answered, by the manifest that they were asked about; the last answer to each."""
    recalled_batches: set[str] = field(default_factory=set)
    """Artifacts of the samples that recalled generations brought: no corpus draws on them."""
    spent: Spent = Spent()
    """What the budget counts: of all stages, those that failed or were cut off too."""
    roles: Mapping[str, str] = field(default_factory=dict)
    """Suite -> its role."""
    promotion: Promotion = Promotion()
    """By what rule the run promotes."""

    @classmethod
    def replay(cls, events: Iterable[Event]) -> RunState:
        """Fold events into a state. Raises DamagedError on an illegal one."""
        state = cls()
        with no_garbage_collection():
            for event in events:
                state.apply(event)
        return state

    @property
    def key(self) -> Key:
        """The root of the run's randomness; a fork's is not that of the run it came from."""
        if self.created is None:
            return Key.root(0)
        root = Key.root(self.created.config.get("seed", 0))
        return root("fork", self.created.forked_from.head) if self.created.forked_from else root

    def apply(self, event: Event) -> None:
        """Fold in one event. Raises DamagedError, and changes nothing, if no loop would write it."""
        self.check(event)
        if isinstance(event, StageDone):  # as most lines are
            return self._add_stage(event)
        match event:
            case RunCreated():
                self.created = event
                suites = ((name.removeprefix("suite "), about) for name, about in event.data.items())
                self.roles = {name: about["role"] for name, about in suites if "role" in about}
                self.promotion = Promotion.of(event.config)
                self.recalled = event.forked_from.recalled if event.forked_from else None
                self.is_opened = self.times_opened > 0
            case SessionStarted():
                self.session = event
            case CodeChanged():
                self.code_changes.append(event)
            case GenerationStarted():
                begun = Generation(event.generation, event.parent, carry_before=self.carries)
                begun.champion = event.champion
                if event.refit and self.champion:
                    begun.refit_of, begun.carry_before = event.champion, self.champion.carry_before
                    self.refits.append(begun)
                bases = (self.champion, self.frontier)  # it is to beat the one and learns from the other
                begun.suspect = any(base is not None and base.suspect for base in bases)
                self.generations.append(begun)
                self.current, self.is_opened = begun, False
            case Look(role=Role.SEALED):
                self.openings.append(event)
                self.unsealed = frozenset(g.number for g in self.champions_to_look_at)
                self.is_opened = True
            case Look():
                self.looks.append(event)
                self._begin_look(self.generations[event.generation], event)
            case Decided():
                self.generations[event.generation].decisions[event.what] = event
            case GenerationEnded():
                self._end_generation(event)
            case RunEnded():
                self._lose(event.generation, event.cost)
            case Recalled():
                self._recall(event)
            case RolledBack():
                self._go_back_to(event.champion)
                self.carries = carries_without(self, event.champion)
            case FellBack():
                self._fall_back(event)
            case Pruned():
                self.pruned.update(dict.fromkeys(event.objects, event))
                self.replacements.update(event.slim.values())
                self._are_there(event.slim.values())
            case Consented():
                self.consents[event.manifest] = Consent(event.consent, event.by, event.why)
        if isinstance(event, _SAY_HOW_IT_GOES):
            self.last = event
            if event.event not in ("session_started", "run_interrupted"):  # these say nothing of its verdict
                self.unreported = None

    def check(self, event: Event) -> None:
        """Raise DamagedError unless the event is legal now; called before it is written, too."""
        if rule := rules.why_not(self, event):
            line = f"line {event.seq + 1}" if event.seq >= 0 else "a new line"
            raise DamagedError(f"ledger.jsonl: {line} says {_what(event)}, against the rule: {rule}.")

    def _add_stage(self, event: StageDone[Any]) -> None:
        if event.stage == "sealed":
            self.sealed[event.generation] = event
            self.unsealed -= {event.generation}
        else:
            self.generations[event.generation].stages[event.stage] = event
        if event.stage == "evaluate":
            new = event.facts.metrics.keys() - set(event.facts.repeated)
            self.shown |= {
                suite: event.generation for suite in sorted(new) if self.roles.get(suite) == Role.GATE
            }
        if event.stage == "tune" and "trials" in event.outputs:
            self.with_trials.append(event.generation)
        self.spent = self.spent.after(event.cost)
        if self.pruned:
            self._are_there(event.outputs.values())

    def _lose(self, number: int | None, cost: Cost | None) -> None:
        """Count the stage that failed or was cut off, if an event says that one was."""
        if number is not None and cost:
            self.spent = self.spent.after(cost)
            self.generations[number].lost_seconds += cost.seconds

    def _recall(self, event: Recalled) -> None:
        for number in event.generations:
            generation = self.generations[number]
            if generation.is_turn and not generation.recalled:
                self.ended_turns[generation.status] -= 1
            generation.recalled, generation.suspect = True, False
            self.recalled_batches |= {generation.output("generate", "samples") or ""} - {""}
        self.fruitless = [number for number in self.fruitless if not self.generations[number].recalled]
        for number in event.suspect:
            self.generations[number].suspect = not self.generations[number].recalled
        self.recalled = event.samples
        self.carries = carries_without(self, event.champion if event.frontier is None else event.frontier)
        self._go_back_to(event.champion, event.frontier)

    def _go_back_to(self, number: int | None, frontier: int | None = None) -> None:
        before, self.champion = self.champion, None if number is None else self.generations[number]
        self.frontier = self.champion if frontier is None else self.generations[frontier]
        if self.champion is not before:
            self.fruitless, self.looks_in_vain, self.turns_since_look = [], 0, 0
        if self.first_champion and self.first_champion.recalled:
            self.first_champion = next((g for g in self.generations if self.can_be_champion(g)), None)

    def _are_there(self, names: Iterable[str]) -> None:
        """These were made: what was pruned of them, as the same content, is there again."""
        for name in names:
            self.pruned.pop(name, None)

    def can_be_champion(self, generation: Generation) -> bool:
        """Whether it is a champion to go back to: promoted, not recalled, its weights not pruned."""
        promoted = generation.status is Status.PROMOTED and not generation.recalled
        return promoted and generation.weights not in self.pruned

    def can_be_frontier(self, generation: Generation) -> bool:
        """Whether the next generation may build on it: a champion, or one that has advanced, likewise."""
        has_advanced = generation.status is Status.ADVANCED and not generation.abandoned
        is_there = not generation.recalled and generation.weights not in self.pruned
        return self.can_be_champion(generation) or (has_advanced and is_there)

    @property
    def ahead(self) -> list[Generation]:
        """The frontier, its parent and so on, as far as they have advanced beyond the champion, in order."""
        line, at = [], self.frontier
        while at is not None and at is not self.champion:
            if at.status is Status.ADVANCED:
                line.append(at)
            at = None if at.parent is None else self.generations[at.parent]
        return line[::-1]

    @property
    def best_ahead(self) -> Generation | None:
        """The one of those with the best score on dev, the first of equal ones; None: there are none.

        A recalled one is no yardstick: a flaw may be just what made it score well.
        """
        scores = {g.number: g.screen.facts.score for g in self.ahead if g.screen and not g.recalled}
        return self.generations[max(scores, key=lambda number: scores[number])] if scores else None

    def is_look_due(self, *, is_over: bool) -> bool:
        """Whether it is the frontier's turn to be looked at, every so many turns and when the run is over.

        Not one that is to be given up, as after looks that failed.
        """
        if not self.is_ahead or self.must_fall_back or self.frontier is None or self.frontier.look:
            return False
        return is_over or self.turns_since_look >= self.promotion.turns_between_looks

    @property
    def is_ahead(self) -> bool:
        """Whether the frontier is ahead of the champion, and nothing is under way."""
        return self.current is None and self.frontier is not self.champion

    @property
    def must_fall_back(self) -> bool:
        """Whether so many looks at frontiers were in vain that the next generation builds on the champion.

        Where nothing advances beyond a frontier whose look was, the looks that would be due count, too.
        """
        frontier, patience = self.frontier, self.promotion.patience
        if not self.is_ahead or frontier is None or patience is None:
            return False
        due = self.turns_since_look // self.promotion.turns_between_looks if frontier.look else 0
        return self.looks_in_vain + due >= patience

    def resolve_pruned(self, name: str) -> str:
        """The artifact to read in place of a batch or decisions that may have been pruned.

        Itself if not, else the slim table with what recall and trace go by: see ``retention``.
        """
        return self.pruned[name].slim.get(name, name) if name in self.pruned else name

    def _end_generation(self, event: GenerationEnded) -> None:
        generation = self.unreported = self.generations[event.generation]
        before, self.current = generation.status, None
        generation.status, generation.reason = event.status, event.reason
        self.carries = self.carries.updated(event.carry, generation.number)
        if before is Status.ADVANCED:
            self._end_look(generation, event.carry)
        else:
            self._end_turn(generation)
        if generation.status is Status.PROMOTED:
            self.champion = self.frontier = generation
            self.fruitless, self.looks_in_vain, self.turns_since_look = [], 0, 0
            self.first_champion = self.first_champion or generation
        self._lose(generation.number, event.cost)

    def _end_turn(self, generation: Generation) -> None:
        generation.carry_after = self.carries
        if not generation.is_turn:
            return
        self.ended_turns[generation.status] += 1
        if generation.status is not Status.PROMOTED:
            self.fruitless.append(generation.number)
        if generation.status in (Status.REJECTED, Status.ADVANCED) and generation.parent is not None:
            self.generations[generation.parent].turns.append(generation.number)
            self.turns_since_look += 1
        if generation.status is Status.ADVANCED:
            self.frontier = generation

    def _begin_look(self, generation: Generation, look: Look) -> None:
        generation.look = look
        generation.champion = self.champion.number if self.champion else None
        self.current, self.unreported, self.is_opened = generation, None, False

    def _end_look(self, generation: Generation, carry: Mapping[str, str]) -> None:
        """A look at a frontier has ended."""
        generation.carry_after = generation.carry_after.updated(carry, generation.number)
        self.ended_turns[Status.ADVANCED] -= 1
        self.ended_turns[generation.status] += 1
        self.turns_since_look = 0
        self.looks_in_vain += generation.status is not Status.PROMOTED
        if generation.status in (Status.FAILED, Status.REJECTED):
            assert self.champion is not None, "a look is beside a champion"
            number = rules.frontier_without(self, self.champion.number)
            self._retreat_to(self.champion if number is None else self.generations[number])

    def _retreat_to(self, frontier: Generation) -> None:
        """Build on it, with its carries; a gate's is kept, as it may count what it has read."""
        self.frontier, gate = frontier, self.carries.artifacts.get("gate")
        left_by = self.carries.left_by.get("gate", 0)
        self.carries = carries_without(self, frontier.number)
        self.carries = self.carries.updated({"gate": gate} if gate else {}, left_by)

    def _fall_back(self, event: FellBack) -> None:
        for number in event.generations:
            self.generations[number].abandoned = True
        self._retreat_to(self.generations[event.champion])
        self.looks_in_vain = self.turns_since_look = 0

    @property
    def needs_reopen(self) -> bool:
        """Whether another generation, or look, takes ``seal=reopen``."""
        return self.is_opened and self.has_suites(Role.SEALED)

    def has_suites(self, role: Role) -> bool:
        """Whether the run has a suite of this role."""
        return role in self.roles.values()

    def makers_of(self, turn: Generation) -> dict[str, int | None]:
        """Weights that made a turn's batch -> the generation that has them; None: they are from elsewhere.

        None at all made one that people made.
        """
        if turn.parent is None or turn.generate is None:
            return {}
        rivals = {rival.weights: rival.generation for rival in turn.rivals.values()}
        return {str(self.generations[turn.parent].weights): turn.parent, **rivals}

    @property
    def rivals(self) -> dict[str, Generation]:
        """Name -> the generation that is a rival by its number, of those that may be one now.

        It has ended with weights that are there, is not recalled, and learned nothing from what judges.
        """
        asked = self.created.config.get("rivals", {}) if self.created else {}
        numbers = {name: rival["generation"] for name, rival in asked.items()}
        return {
            name: self.generations[number]
            for name, number in numbers.items()
            if number is not None and number < len(self.generations) and self._may_be_rival(number)
        }

    def _may_be_rival(self, number: int) -> bool:
        generation = self.generations[number]
        is_barred = generation.recalled or generation.status in (Status.UNFINISHED, Status.FINAL)
        return generation.weights is not None and generation.weights not in self.pruned and not is_barred

    @property
    def champions_to_look_at(self) -> list[Generation]:
        """Those of the first champion, the present one and its final that no sealed suite has shown yet."""
        several = {g.number: g for g in (self.first_champion, self.champion, self.final) if g}
        return [g for number, g in several.items() if number not in self.sealed]

    @property
    def times_opened(self) -> int:
        """How often the sealed suites were opened, with what a fork inherited."""
        origin = self.created.forked_from if self.created else None
        return len(self.openings) + (origin.openings if origin else 0)

    @property
    def final(self) -> Generation | None:
        """The refit of the champion in force that ended as final, is not recalled and has its weights."""
        if self.champion is None:
            return None
        ours = (g for g in self.refits if g.refit_of == self.champion.number and g.status is Status.FINAL)
        return next((g for g in ours if not g.recalled and g.weights not in self.pruned), None)

    def is_refit_due(self, on_failure: str) -> bool:
        """Whether the champion's procedure is still to be repeated with the labels of dev and gate.

        One that was adopted as it is has none. A refit that failed is tried again by the next session,
        as a turn is, unless failures are passed over.
        """
        if self.champion is None or self.champion.curate is None or self.final:
            return False
        ours = (g for g in self.refits if g.refit_of == self.champion.number)
        return on_failure == "stop" or all(g.status is not Status.FAILED for g in ours)

    def is_over(self, generations: int, patience: int | None, on_failure: str) -> str | None:
        """Why no more generations are to be made: ``generations``, ``patience``; None: some are.

        A genesis is no turn. A turn that failed and stopped the run is made up for when the run goes on, and
        so is one that was recalled. Without a champion a run is never over.
        """
        if self.champion is None:
            return None
        if self.counted_turns(on_failure) >= generations:
            return "generations"
        if patience is not None and self.turns_without_promotion >= patience:
            return "patience"
        return None

    def counted_turns(self, on_failure: str) -> int:
        """Turns that have ended and count against ``generations``."""
        counted = [Status.PROMOTED, Status.REJECTED, Status.ADVANCED]
        counted += [Status.FAILED] if on_failure == "go_on" else []
        return sum(self.ended_turns[status] for status in counted)

    @property
    def seconds(self) -> float:
        """Wall time of all stages, those that failed or were cut off too."""
        return self.spent.seconds

    def limit_reached(self, budget: Mapping[str, Json]) -> str | None:
        """The limit of a budget that ends the run before another turn, by its key; None: none does.

        Where a run finishes at its limit it does so with the turn that ends nearest: one more like the last
        would end farther beyond the limit than this one ended below.
        """
        last = self.generations[-1] if self.generations else None
        if not (finishes(budget) and last and last.is_turn):
            return self.spent.reached(budget)
        turn = Spent()
        for stage in last.stages.values():
            turn = turn.after(stage.cost)
        return self.spent.plus(turn.times(0.5)).reached(budget)

    @property
    def turns_in_force(self) -> int:
        """Turns that were promoted and are not recalled."""
        return self.ended_turns[Status.PROMOTED]

    @property
    def turns_without_promotion(self) -> int:
        """Turns that ended otherwise since the champion came into force, recalled ones not counted."""
        return len(self.fruitless)

    @property
    def reason(self) -> str:
        """Why the last session ended so; empty while nothing is said of it."""
        if isinstance(self.last, Recalled | RolledBack):
            return f"{self.last.event.replace('_', ' ')}: {self.last.why}"
        return self.last.reason if isinstance(self.last, RunEnded) else ""

    @property
    def asked(self) -> str | None:
        """The manifest that a reviewer is asked about; None: the run waits for no review."""
        return (self.last.manifest or None) if isinstance(self.last, RunEnded) else None

    def name(self, *, is_running: bool) -> RunStateName:
        """The run's state; ``is_running`` says whether a living process holds its lock to run it."""
        if is_running:
            return RunStateName.RUNNING
        if isinstance(self.last, RunEnded):
            return RunStateName(self.last.event.removeprefix("run_"))
        is_paused = isinstance(self.last, Recalled | RolledBack)  # by a person, between two sessions
        return RunStateName.STOPPED if is_paused else RunStateName.INTERRUPTED


_SAY_HOW_IT_GOES = (SessionStarted, GenerationStarted, RunEnded, Recalled, RolledBack)
"""How a session went on or ended."""


def _what(event: Event) -> str:
    match event:
        case StageDone():
            return f"stage {event.stage} of generation {event.generation}"
        case GenerationEnded():
            return f"generation_ended {event.status} of generation {event.generation}"
        case GenerationStarted() | RunEnded():
            return f"{event.event} of generation {event.generation}"
    return event.event
