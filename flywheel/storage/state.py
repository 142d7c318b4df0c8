"""The state of a run, replayed from its ledger: derived, never stored.

Statuses and their transitions are in one table; an event that breaks it cannot be replayed, so an
illegal promotion cannot be written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from flywheel.errors import DamagedError
from flywheel.keys import Key
from flywheel.records import Consent, Start
from flywheel.storage import recall_rules
from flywheel.storage.ledger import Event, StageLine
from flywheel.storage.recall_rules import Carries, carries_without
from flywheel.storage.stages import Stages, cost_of


class Status(StrEnum):
    """Where a generation stands. Promoted, rejected and failed are verdicts: never overwritten."""

    UNFINISHED = "unfinished"
    PROMOTED = "promoted"
    REJECTED = "rejected"
    FAILED = "failed"


TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.UNFINISHED: frozenset({Status.PROMOTED, Status.REJECTED, Status.FAILED}),
    Status.PROMOTED: frozenset(),
    Status.REJECTED: frozenset(),
    Status.FAILED: frozenset(),
}


class RunStateName(StrEnum):
    """Where a run stands, as ``status`` reports it."""

    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    AWAITING_REVIEW = "awaiting_review"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(slots=True)
class Generation:
    """What the ledger says of one generation."""

    number: int
    parent: int | None
    status: Status = Status.UNFINISHED
    reason: str = ""
    lost_seconds: float = 0.0
    """Wall time of its stages that failed or were cut off."""
    stages: Stages = field(default_factory=Stages)
    """The ``stage`` event of each stage that is done."""
    recalled: bool = False
    """It is flawed or learned from what is: never champion (again). A flag beside the verdict."""
    suspect: bool = False
    """What is recalled graded it, chose its settings, was its opponent or was seen by its curator, but it
    learned from none of it."""
    rejected: list[int] = field(default_factory=list)
    """Its turns that were rejected: what they brought, its later turns may draw on."""
    carry_before: Carries = Carries()
    """Those in force when it began."""
    carry_after: Carries = Carries()
    """Those in force when it had ended; none until then."""

    def output(self, stage: str, name: str) -> str | None:
        """Name of an artifact that a stage made, or None if the stage is not done."""
        return self.stages.output(stage, name)

    def fact(self, stage: str, name: str, default: Any = None) -> Any:
        """A small value that a stage recorded."""
        event = self.stages.get(stage)
        return event["facts"].get(name, default) if event else default

    @property
    def is_genesis(self) -> bool:
        """Whether it has no parent: a first champion, or an attempt at one."""
        return self.parent is None

    @property
    def weights(self) -> str | None:
        """The candidate's weights."""
        return self.training_event["outputs"]["weights"] if self.training_event else None

    @property
    def training_event(self) -> Event | None:
        """The stage event that made its weights: a fit, or the adoption of a start as it is."""
        return self.stages.get("train") or self.stages.get("adopt")

    @property
    def start(self) -> Start | None:
        """What its weights started from; None before it was trained."""
        return Start(**self.training_event["facts"]["start"]) if self.training_event else None

    @property
    def init(self) -> str | None:
        """The kind of its start, e.g. ``parent``."""
        return self.start.kind if self.start else None

    @property
    def settings(self) -> dict[str, Any]:
        """Those it was trained with."""
        return dict(self.training_event["facts"]["settings"]) if self.training_event else {}

    @property
    def seconds(self) -> float:
        """Wall time of its stages, those that failed or were cut off too, in seconds."""
        return self.lost_seconds + sum(self.stages.cost(stage)["seconds"] for stage in self.stages)


@dataclass(slots=True)
class RunState:
    """A run as its ledger tells it."""

    created: Event | None = None
    generations: list[Generation] = field(default_factory=list)
    champion: Generation | None = None
    first_champion: Generation | None = None
    carries: Carries = Carries()
    """Those in force: as the last finished generation left them, or as a recall or rollback put them back."""
    recalled: str | None = None
    """Artifact with the ids of all samples recalled so far; None: none were."""
    sealed: dict[int, Event] = field(default_factory=dict)
    """The look at the sealed suites of each generation that was looked at."""
    pruned: dict[str, Event] = field(default_factory=dict)
    """The ``pruned`` event of each artifact that was dropped and not made again since."""
    session: Event | None = None
    """The ``session_started`` of the session under way, or the last one."""
    code_changes: list[Event] = field(default_factory=list)
    """The ``code_changed`` event of each session whose code was not that of the one before."""
    last: Event | None = None
    """The last event that says how a session went on or ended."""
    ended_turns: Counter[Status] = field(default_factory=Counter)
    """How many generations with a parent ended so and are not recalled."""
    fruitless: list[int] = field(default_factory=list)
    """Turns that ended without promotion since the champion came into force and are not recalled."""
    replacements: set[str] = field(default_factory=set)
    """What stands in for something that was pruned: never pruned itself."""
    consents: dict[str, Consent] = field(default_factory=dict)
    """What people answered, by the manifest that they were asked about; the last answer to each."""
    recalled_batches: set[str] = field(default_factory=set)
    """Artifacts of the samples that recalled generations brought: no corpus draws on them."""
    _seconds: float = field(default=0.0, compare=False)
    """Wall time in all events that have a cost; that in the lines below is added when it is asked for."""
    _lines: list[StageLine] = field(default_factory=list, compare=False)

    @classmethod
    def replay(cls, events: Iterable[Event | StageLine]) -> RunState:
        """Fold events into a state. Raises DamagedError on an illegal one."""
        state = cls()
        for event in events:
            if not isinstance(event, StageLine):
                state.apply(event)
            elif not state.pruned and state._add_line(event):
                state._lines.append(event)
            else:
                state.apply(event.event())
        return state

    @property
    def key(self) -> Key:
        """The root of the run's randomness; a fork's is not that of the run it came from."""
        created = self.created or {}
        root = Key.root(created.get("config", {}).get("seed", 0))
        return root("fork", created["forked_from"]["head"]) if created.get("forked_from") else root

    def _add_line(self, line: StageLine) -> bool:
        """Add a stage's line, not to be parsed yet, if it is one of the generation under way and not done."""
        last = self.generations[-1] if self.generations else None
        if last is None or last.status is not Status.UNFINISHED or last.number != line.generation:
            return False
        return line.stage != "sealed" and last.stages.add_line(line)

    def apply(self, event: Event) -> None:
        """Fold in one event. Raises DamagedError, and changes nothing, if no loop would write it."""
        self.check(event)
        kind = event["event"]
        if kind == "run_created":
            self.created = event
            self.recalled = (event.get("forked_from") or {}).get("recalled")
        elif kind == "generation_started":
            suspect = self.champion is not None and self.champion.suspect  # whoever learns from it is, too
            begun = Generation(event["generation"], event["parent"], suspect=suspect)
            begun.carry_before = self.carries
            self.generations.append(begun)
        elif kind == "stage" and event["stage"] == "sealed":
            self.sealed[event["generation"]] = event
        elif kind == "stage":
            self.generations[-1].stages[event["stage"]] = event
        elif kind == "generation_ended":
            self._end_generation(event)
        elif kind == "recalled":
            self._recall(event)
        elif kind == "rolled_back":
            self._go_back_to(event["champion"])
            self.carries = self.generations[event["champion"]].carry_after
        elif kind == "session_started":
            self.session = event
        elif kind == "code_changed":
            self.code_changes.append(event)
        elif kind == "consent":
            self.consents[event["manifest"]] = Consent(event["consent"], event["by"], event["why"])
        elif kind == "pruned":
            self._prune(event)
        if kind == "stage":
            self._seconds += event["cost"]["seconds"]
            self._are_there(event["outputs"].values())
        elif kind == "generation_ended" or kind in ENDINGS:
            self._lose(event)
        if kind in ("session_started", "generation_started", *ENDINGS, *PAUSES):
            self.last = event

    def check(self, event: Mapping[str, Any]) -> None:
        """Raise DamagedError unless the event is legal now; called before it is written, too."""
        kind, number = event["event"], event.get("generation")
        rule = None
        if kind == "run_created" and self.created:
            rule = "a run is created once"
        elif kind == "generation_started":
            rule = self._why_not_start(number, event.get("parent"))
        elif kind == "stage" and event.get("stage") == "sealed":
            rule = self._why_not_look(number)
        elif kind in ("stage", "generation_ended"):
            rule = None if self.current and self.current.number == number else "it is not the one under way"
        elif kind in ENDINGS and event.get("cost") and not self._has(number):
            rule = "a stage that was cut off is a generation's"
        elif kind == "consent" and event.get("manifest") != (self.asked or object()):
            rule = "an answer is to what the run asks"
        elif kind == "pruned":
            rule = self._why_not_prune(event.get("objects", {}), event.get("slim", {}))
        if kind == "stage" and not rule and self.current and event.get("stage") in self.current.stages:
            rule = "a stage is done once"
        if kind == "stage" and self.pruned and not rule:
            gone = self.pruned.keys() & event.get("inputs", {}).values()
            rule = f"what was pruned cannot be used, as {min(gone)} was" if gone else None
        if kind == "generation_ended" and not rule:
            allowed = TRANSITIONS[Status.UNFINISHED]
            rule = None if event.get("status") in allowed else f"it may end as {', '.join(sorted(allowed))}"
        if kind == "generation_ended" and not rule and event["status"] == Status.PROMOTED:
            rule = self._why_not_promote(self.generations[-1])
        if kind in PAUSES:
            rule = recall_rules.why_not(self, event)
        if rule:
            line = f"line {event['seq'] + 1}" if "seq" in event else "a new line"
            what = f"{kind} {event.get('status', event.get('stage', ''))} of generation {number}"
            raise DamagedError(f"ledger.jsonl: {line} says {what}, against the rule: {rule}.")

    def _has(self, number: Any) -> bool:
        return isinstance(number, int) and 0 <= number < len(self.generations)

    def _why_not_look(self, number: Any) -> str | None:
        if not self._has(number) or self.generations[number].status is not Status.PROMOTED:
            return "only champions are looked at on sealed suites"
        return "a champion is looked at once" if number in self.sealed else None

    def _why_not_start(self, number: Any, parent: Any) -> str | None:
        if self.current:
            return "one generation at a time"
        if number != len(self.generations):
            return f"generations are numbered in order, the next is {len(self.generations)}"
        if parent != (self.champion.number if self.champion else None):
            return "the champion is the parent"
        return None

    def _why_not_promote(self, candidate: Generation) -> str | None:
        if not candidate.weights:
            return "a champion has weights"
        verdict, consent = candidate.fact("gate", "verdict", {}), candidate.fact("review", "consent")
        if not candidate.is_genesis and not (verdict.get("promote") is True and consent is True):
            return "a promotion needs the gate's verdict and the review's consent"
        return None

    def _lose(self, event: Event) -> None:
        """Count the stage that failed or was cut off, if this event says that one was."""
        seconds = float((event.get("cost") or {}).get("seconds", 0.0))
        if seconds:
            self._seconds += seconds
            self.generations[event["generation"]].lost_seconds += seconds

    def _recall(self, event: Event) -> None:
        for number in event["generations"]:
            generation = self.generations[number]
            if not (generation.recalled or generation.is_genesis):
                self.ended_turns[generation.status] -= 1
            generation.recalled, generation.suspect = True, False
            self.recalled_batches |= {generation.output("generate", "samples") or ""} - {""}
        self.fruitless = [number for number in self.fruitless if not self.generations[number].recalled]
        for number in event["suspect"]:
            self.generations[number].suspect = not self.generations[number].recalled
        self.recalled = event["samples"]
        self.carries = carries_without(self, event["champion"])
        self._go_back_to(event["champion"])

    def _go_back_to(self, number: int | None) -> None:
        before, self.champion = self.champion, None if number is None else self.generations[number]
        if self.champion is not before:
            self.fruitless = []
        if self.first_champion and self.first_champion.recalled:
            self.first_champion = next((g for g in self.generations if self.can_be_champion(g)), None)

    def _prune(self, event: Event) -> None:
        self.pruned.update(dict.fromkeys(event["objects"], event))
        self.replacements.update(event["slim"].values())
        self._are_there(event["slim"].values())

    def _are_there(self, names: Iterable[str]) -> None:
        """These were made: what was pruned of them, as the same content, is there again."""
        for name in names if self.pruned else ():
            self.pruned.pop(name, None)

    def _why_not_prune(self, names: Mapping[str, int], slim: Mapping[str, str]) -> str | None:
        if not names or self.pruned.keys() & names.keys():
            return "what is pruned is there"
        if not names.keys().isdisjoint(slim.values()) or not self.replacements.isdisjoint(names):
            return "what stands in for something stays"
        stay = {g.weights for g in (self.champion, self.first_champion, self.current) if g}
        return "champions' weights stay" if stay & names.keys() else None

    def can_be_champion(self, generation: Generation) -> bool:
        """Whether it is a champion to go back to: promoted, not recalled, its weights not pruned."""
        promoted = generation.status is Status.PROMOTED and not generation.recalled
        return promoted and generation.weights not in self.pruned

    def resolve_pruned(self, name: str) -> str:
        """The artifact to read in place of a batch or decisions that may have been pruned.

        Itself if not, else the slim table with what recall and trace go by: see ``retention``.
        """
        return str(self.pruned[name]["slim"].get(name, name)) if name in self.pruned else name

    def _end_generation(self, event: Event) -> None:
        generation = self.generations[-1]
        generation.status, generation.reason = Status(event["status"]), event["reason"]
        if not generation.is_genesis:
            self.ended_turns[generation.status] += 1
        if generation.status is Status.PROMOTED:
            self.champion, self.fruitless = generation, []
            self.first_champion = self.first_champion or generation
        elif not generation.is_genesis:
            self.fruitless.append(generation.number)
        if generation.status is Status.REJECTED and generation.parent is not None:
            self.generations[generation.parent].rejected.append(generation.number)
        self.carries = self.carries.updated(event.get("carry", {}), generation.number)
        generation.carry_after = self.carries

    @property
    def current(self) -> Generation | None:
        """The generation that a resumed run goes on with."""
        if self.generations and TRANSITIONS[self.generations[-1].status]:
            return self.generations[-1]
        return None

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
        counted = (Status.PROMOTED, Status.REJECTED, *([Status.FAILED] if on_failure == "go_on" else []))
        return sum(self.ended_turns[status] for status in counted)

    @property
    def turns_without_promotion(self) -> int:
        """Turns rejected or failed since the champion came into force, recalled ones not counted."""
        return len(self.fruitless)

    @property
    def seconds(self) -> float:
        """What the budget counts: wall time of all stages, those that failed or were cut off too."""
        return self._seconds + sum(cost_of(line)["seconds"] for line in self._lines)

    @property
    def asked(self) -> str | None:
        """The manifest that a reviewer is asked about; None: the run waits for no review."""
        last = self.last or {}
        return last.get("manifest") or None if last.get("event") == "run_awaiting_review" else None

    def name(self, *, is_running: bool) -> RunStateName:
        """The run's state; ``is_running`` says whether a living process holds its lock to run it."""
        if is_running:
            return RunStateName.RUNNING
        return (ENDINGS | PAUSES).get(self.last["event"] if self.last else "", RunStateName.INTERRUPTED)


ENDINGS = {
    "run_finished": RunStateName.FINISHED,
    "run_stopped": RunStateName.STOPPED,
    "run_failed": RunStateName.FAILED,
    "run_awaiting_review": RunStateName.AWAITING_REVIEW,
    "run_interrupted": RunStateName.INTERRUPTED,
}
PAUSES = {"recalled": RunStateName.STOPPED, "rolled_back": RunStateName.STOPPED}
"""What a person did to the champion between two sessions: the next one goes on from there."""
