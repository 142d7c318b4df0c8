"""The answers to questions about runs, by brute force, from what docs/format.md says and nothing else.

A run directory is read with the standard library and pyarrow; nothing of ``flywheel`` is imported. Everything
is worked out anew for each question, and a fixed point is reached by trying all over again until nothing
changes: what is slow and plain here is the yardstick for what is quick there.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

Event = dict[str, Any]
Edge = dict[str, Any]
"""As ``lineage --json`` has it."""
Carry = dict[str, tuple[str, int]]
"""Component -> the carry in force, and the generation that left it."""

CLEAN, SUSPECT, FLAWED = 0, 1, 2
EMPTY = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a.json"
"""The artifact of {}: nothing of what was seen is in such a carry."""
STATES = {
    "run_finished": "finished",
    "run_failed": "failed",
    "run_interrupted": "interrupted",
    "run_awaiting_review": "awaiting_review",
    "run_stopped": "stopped",
    "recalled": "stopped",
    "rolled_back": "stopped",
    "session_started": "interrupted",
    "generation_started": "interrupted",
}

REPORTS = {*STATES, "look"} - {"run_interrupted", "session_started"}
"""Lines after which the generation that ended last means nothing more for a session."""


@dataclass
class Generation:
    number: int
    parent: int | None
    began_with: Carry
    champion: int | None = None
    """The one in force when it began, or its look did."""
    stages: dict[str, Event] = field(default_factory=dict)
    shown: list[int] = field(default_factory=list)
    """The generations whose trials its tuner was shown."""
    status: str = "unfinished"
    ended_as: str = "unfinished"
    """By its first ``generation_ended``."""
    ended_at: int | None = None
    """Likewise."""
    is_looked_at: bool = False
    abandoned: bool = False
    carry: dict[str, str] = field(default_factory=dict)
    """What it left."""
    carry_after: Carry = field(default_factory=dict)
    """What was in force when it ended."""
    recalled: bool = False
    suspect: bool = False

    def output(self, stage: str, name: str) -> str | None:
        return self.stages[stage]["outputs"].get(name) if stage in self.stages else None

    @property
    def are_trials_retired(self) -> bool:
        return self.recalled or (self.suspect and "curate" not in self.stages)

    @property
    def has_trials(self) -> bool:
        return self.output("tune", "trials") is not None

    @property
    def weights(self) -> str | None:
        return self.output("train", "weights") or self.output("adopt", "weights")


class Run:
    """A run directory at one of its lines (``upto``, by default the last)."""

    def __init__(self, directory: Path, upto: int | None = None, check: bool = False) -> None:
        self.directory = directory
        self.checks = check
        events = read_ledger(directory)
        self.events = events[:upto]
        self.stands_in = {name: e["slim"].get(name) for e in events if "slim" in e for name in e["objects"]}
        """What was pruned at any time -> what stands in for it."""
        self.name = "/".join(directory.parts[-2:])
        self.forked_from: dict[str, Any] | None = None
        self.generations: list[Generation] = []
        self.champion: int | None = None
        self.since = -1
        """The line by which the champion came into force."""
        self.first_champion: int | None = None
        self.promotion: dict[str, Any] = {}
        self.frontier: int | None = None
        self.look_under_way: int | None = None
        """The generation whose look at a frontier is under way."""
        self.turns_since_look = 0
        self.looks_in_vain = 0
        self.unreported: Generation | None = None
        """What ended last, until a line after which it means nothing for a session."""
        self.carries: Carry = {}
        self.error_budget: dict[str, Any] = {}
        self.looks: list[Event] = []
        self.openings: list[Event] = []
        self.opened_for: set[int] = set()
        """Champions that the last opening is for, and that are still to be looked at."""
        self.is_opened = False
        """There was an opening, and no generation began since."""
        self.recalled_samples: str | None = None
        self.gone: dict[str, str | None] = {}
        """What was pruned -> what stands in for it."""
        self.replacements: set[str] = set()
        self.expected: list[tuple[str, Any, Any]] = []
        """If ``check``: what an event says, and what it should have said."""
        self.dropping: tuple[set[str], set[str]] = (set(), set())
        """What the policy of a ``pruned`` event must and may drop, and events after it are still to name."""
        for event in self.events:
            if event["event"] in REPORTS and event.get("role") != "sealed":
                self.unreported = None
            handle = getattr(self, "_" + event["event"], None)
            if handle:
                handle(event)

    # -- events ---------------------------------------------------------------------------------------------

    def _run_created(self, event: Event) -> None:
        self.forked_from, self.error_budget = event.get("forked_from"), event["error_budget"]
        self.recalled_samples = self.forked_from["recalled"] if self.forked_from else None
        self.is_opened = self.times_opened() > 0
        self.promotion = event["config"].get("promotion", {})

    def _generation_started(self, event: Event) -> None:
        assert event["generation"] == len(self.generations)
        assert (event["parent"], event["champion"]) == (self.frontier, self.champion)
        self.expected.append((f"must fall back before {event['seq']}", self.must_fall_back(), False))
        generation = Generation(event["generation"], event["parent"], dict(self.carries), event["champion"])
        bases = {event["parent"], event["champion"]} - {None}
        generation.suspect = any(self.generations[base].suspect for base in bases)
        self.generations.append(generation)
        self.is_opened = False

    def _opening(self, event: Event) -> None:
        expected = [len(self.openings) + 1, self.champion, None, None]
        said = [event["number"], event["generation"], event.get("level"), self.under_way]
        self.expected.append((f"opening at {event['seq']}", said, expected))
        due = self.not_looked_at()
        self.expected.append((f"an opening is needed at {event['seq']}", due <= self.opened_for, False))
        self.openings.append(event)
        self.opened_for, self.is_opened = due, True

    def _look(self, event: Event) -> None:
        """The level by *Error budget*, in so many words."""
        if event.get("role") == "sealed":
            return self._opening(event)
        budget, k = self.error_budget, len(self.looks) + 1
        left, reserve, planned = (
            budget["alpha"] - budget.get("spent", 0),
            budget.get("reserve", 0.1),
            budget["looks"],
        )
        beyond = k - planned
        level = left * (1 - reserve) / planned if beyond <= 0 else left * reserve / (beyond * (beyond + 1))
        if self.looks and self.looks[-1]["generation"] == self.champion:
            level += self.looks[-1]["level"]
        is_frontiers = self.promotion.get("rule") == "frontier"
        of = self.frontier if is_frontiers else len(self.generations) - 1
        said = [event["number"], round(event["level"], 12), event["generation"]]
        self.expected.append((f"look at {event['seq']}", said, [k, round(level, 12), of]))
        generation = self.generations[event["generation"]]
        self.expected.append((f"second look at {event['seq']}", generation.is_looked_at, False))
        self.looks.append(event)
        generation.is_looked_at, generation.champion, self.is_opened = True, self.champion, False
        self.look_under_way = generation.number if is_frontiers else None

    def _stage(self, event: Event) -> None:
        if event["stage"] == "sealed":
            is_due = event["generation"] in self.opened_for
            self.expected.append((f"sealed at {event['seq']} after an opening", is_due, True))
            self.opened_for.discard(event["generation"])
        if event["stage"] == "gate":
            last = self.looks[-1]
            said, level = event["facts"]["verdict"]["level"], last["level"]
            self.expected.append((f"level of the gate at {event['seq']}", said, level))
        generation = self.generations[event["generation"]]
        if event["stage"] == "tune" and generation.parent is not None:
            tried = (g for g in self.generations if g.has_trials)
            generation.shown = [g.number for g in tried if not g.are_trials_retired]
            said = [number for number, _ in self.json(event["inputs"]["prior"])] if generation.shown else []
            self.expected.append((f"trials shown at {event['seq']}", said, generation.shown))
        generation.stages[event["stage"]] = event
        for name in event["outputs"].values():
            self.gone.pop(name, None)  # made again

    def _generation_ended(self, event: Event) -> None:
        generation = self.generations[event["generation"]]
        left = {component: (artifact, generation.number) for component, artifact in event["carry"].items()}
        self.carries |= left
        generation.status, self.unreported = event["status"], generation
        if self.look_under_way == generation.number:
            self._look_ended(generation, left)
        else:
            self._turn_ended(generation, event)
        if event["status"] == "promoted":
            self._crown(generation.number, event)
            self.frontier, self.looks_in_vain = generation.number, 0
            self.first_champion = generation.number if self.first_champion is None else self.first_champion

    def _turn_ended(self, generation: Generation, event: Event) -> None:
        generation.ended_as, generation.ended_at = event["status"], event["seq"]
        generation.carry_after = dict(self.carries)
        self.turns_since_look += event["status"] in ("rejected", "advanced")
        if event["status"] == "advanced":
            self.expected.append((f"rule at {event['seq']}", self.promotion["rule"], "frontier"))
            self.frontier = generation.number

    def _look_ended(self, generation: Generation, left: Carry) -> None:
        self.look_under_way, self.turns_since_look = None, 0
        generation.carry_after |= left
        self.looks_in_vain += generation.status != "promoted"
        if generation.status in ("failed", "rejected"):
            self._retreat_to(self.frontier_of_line(generation.parent, self.champion))

    def _retreat_to(self, frontier: int | None) -> None:
        self.frontier, gate = frontier, self.carries.get("gate")
        self.carries = self.clean_carries(frontier, self.flagged()) | ({"gate": gate} if gate else {})

    def _fell_back(self, event: Event) -> None:
        self.expected.append((f"must fall back at {event['seq']}", self.must_fall_back(), True))
        expected = [self.champion, [g.number for g in self.ahead()]]
        said = [event["champion"], event["generations"]]
        self.expected.append((f"abandoned at {event['seq']}", said, expected))
        for number in event["generations"]:
            self.generations[number].abandoned = True
        self._retreat_to(event["champion"])
        self.turns_since_look, self.looks_in_vain = 0, 0

    def _recalled(self, event: Event) -> None:
        for number in event["generations"]:
            self.generations[number].recalled, self.generations[number].suspect = True, False
        for number in event["suspect"]:
            self.generations[number].suspect = True
        self.recalled_samples = event["samples"]
        if self.first_champion is not None and self.generations[self.first_champion].recalled:
            possible = [g.number for g in self.generations if self.can_be_champion(g)]
            self.first_champion = min(possible, default=None)
        champion = self.champion_of_line(self.champion)
        self.expected.append((f"champion after recall {event['seq']}", event["champion"], champion))
        frontier = self.frontier_of_line(self.frontier, champion)
        said = event.get("frontier")
        said = event["champion"] if said is None else said
        self.expected.append((f"frontier after recall {event['seq']}", said, frontier))
        self._crown(event["champion"], event)
        self.frontier = frontier
        self.carries = self.clean_carries(frontier, self.flagged())
        self.expected.append((f"carries after recall {event['seq']}", event["carry"], names(self.carries)))

    def _rolled_back(self, event: Event) -> None:
        self._crown(event["champion"], event)
        self.frontier = event["champion"]
        self.carries = self.clean_carries(event["champion"], self.flagged())

    def _pruned(self, event: Event) -> None:
        if self.checks:
            self._check_pruned(event)
        for name in event["objects"]:
            self.gone[name] = event["slim"].get(name)
        for name in event["slim"].values():
            self.replacements.add(name)
            self.gone.pop(name, None)

    def _check_pruned(self, event: Event) -> None:
        """Events in a row (weights first, then the rest) drop together what a policy does not keep."""
        policy, before = event["policy"], self.events[event["seq"] - 1]
        if not (before["event"] == "pruned" and before["policy"] == policy):
            self.dropping = self.drops(policy)
        must, may = self.dropping
        self.dropping = must - set(event["objects"]), may - set(event["objects"])
        at = f"at {event['seq']}"
        kept = sorted(set(event["objects"]) - may)
        self.expected.append((f"pruned {at}, which the policy keeps", kept, []))
        after = self.events[event["seq"] + 1 :][:1]
        if not (after and after[0]["event"] == "pruned" and after[0]["policy"] == policy):
            left = sorted(self.dropping[0])
            self.expected.append((f"not pruned {at}, which the policy drops", [], left))
        for slim in set(event["slim"].values()):
            sizes = [event["objects"][name] for name, other in event["slim"].items() if other == slim]
            if len(sizes) > 1:  # else scores went with it, which the line does not tell from others
                is_smaller = os.path.getsize(self.path(slim)) < sum(sizes)
                self.expected.append((f"a smaller table {at}", is_smaller, True))

    def _crown(self, champion: int | None, event: Event) -> None:
        if champion != self.champion:
            self.champion, self.since = champion, event["seq"]
            self.looks_in_vain, self.turns_since_look = 0, 0

    # -- objects --------------------------------------------------------------------------------------------

    def path(self, name: str) -> str:
        return f"{self.directory}/objects/{name[:2]}/{name[2:]}"

    def table(self, name: str) -> list[dict[str, Any]]:
        """The rows of a table, or of what stands in for it."""
        path = self.path(name)
        if not os.path.exists(path):
            assert self.stands_in.get(name), f"{name} is missing"
            path = self.path(self.stands_in[name])
        return rows_of(path)

    def json(self, name: str) -> Any:
        return json_of(self.path(name))

    def ids(self, name: str | None) -> list[str]:
        return [row["id"] for row in self.table(name)] if name else []

    # -- counts ---------------------------------------------------------------------------------------------

    @property
    def under_way(self) -> Generation | None:
        if self.look_under_way is not None:
            return self.generations[self.look_under_way]
        last = self.generations[-1] if self.generations else None
        return last if last and last.status == "unfinished" else None

    def turns(self, *statuses: str) -> list[Generation]:
        """Those that ended so and are not recalled."""
        turns = [g for g in self.generations if g.parent is not None and not g.recalled]
        return [g for g in turns if g.status in statuses]

    def counted_turns(self, on_failure: str) -> int:
        return len(self.turns("promoted", "rejected", "advanced", *["failed"] * (on_failure == "go_on")))

    def turns_without_promotion(self) -> int:
        return sum(g.ended_at > self.since for g in self.turns("rejected", "advanced", "failed"))

    def is_over(
        self, generations: int, patience: int | None, on_failure: str, budget: dict[str, Any] | None = None
    ) -> str | None:
        """Why no further turn is to be made; None: some are."""
        if self.under_way:
            return None
        if self.champion is not None and self.counted_turns(on_failure) >= generations:
            return "generations"
        if self.champion is not None and patience is not None and self.turns_without_promotion() >= patience:
            return "patience"
        limits = {key: limit for key, limit in (budget or {}).items() if limit is not None}
        spent = self.spent()
        return "budget" if any(spent[key] >= limit for key, limit in limits.items()) else None

    def ahead(self) -> list[Generation]:
        """What has advanced beyond the champion, on the frontier's line, in order."""
        line, number = [], self.frontier
        while number not in (None, self.champion):
            line.append(self.generations[number])
            number = line[-1].parent
        return [g for g in line[::-1] if g.status == "advanced"]

    def best_ahead(self) -> int | None:
        scores = {g.number: g.stages["screen"]["facts"]["score"] for g in self.ahead() if not g.recalled}
        return min((n for n in scores if scores[n] == max(scores.values())), default=None)

    def is_ahead(self) -> bool:
        return not self.under_way and self.frontier != self.champion

    def must_fall_back(self) -> bool:
        if not self.is_ahead():
            return False
        is_spent = self.generations[self.frontier].is_looked_at
        due = self.turns_since_look // self.promotion["every"] if is_spent else 0
        return self.looks_in_vain + due >= self.promotion["patience"]

    def is_look_due(self, is_over: bool) -> bool:
        if not self.is_ahead() or self.must_fall_back() or self.generations[self.frontier].is_looked_at:
            return False
        return is_over or self.turns_since_look >= self.promotion["every"]

    def is_halted(self) -> bool:
        guard = self.unreported.stages.get("guard") if self.unreported else None
        return any(alarm["action"] == "halt" for alarm in guard["facts"]["alarms"]) if guard else False

    def not_looked_at(self) -> set[int]:
        """Of the first and the present champion, those that were not looked at on the sealed suites."""
        both = {self.first_champion, self.champion} - {None}
        return {n for n in both if "sealed" not in self.generations[n].stages}

    def times_opened(self) -> int:
        return len(self.openings) + (self.forked_from or {}).get("openings", 0)

    def must_reopen(self, generations: int, patience: int | None, on_failure: str) -> bool:
        """Whether a session needs ``seal=reopen``."""
        if self.under_way or self.is_look_due(is_over=True):
            return self.is_opened
        ends = self.is_over(generations, patience, on_failure) and self.not_looked_at() <= self.opened_for
        return self.is_opened and not ends

    def seconds(self) -> float:
        return sum(event["cost"]["seconds"] for event in self.events if event.get("cost"))

    def spent(self) -> dict[str, float]:
        costs = [event["cost"] for event in self.events if event.get("cost")]
        return {
            "seconds": self.seconds(),
            "device_hours": sum(cost["seconds"] * cost.get("ranks", 1) for cost in costs) / 3600,
            **{
                key: sum(cost.get(key, 0) for cost in costs)
                for key in ("samples", "tokens", "flops", "money")
            },
        }

    def state(self) -> str:
        """While nobody holds the run's lock."""
        telling = [e["event"] for e in self.events if e["event"] in STATES]
        return STATES[telling[-1]] if telling else "interrupted"

    # -- samples and weights --------------------------------------------------------------------------------

    def batch_of(self, g: Generation) -> str | None:
        return g.output("generate", "samples") or g.output("seed", "samples")

    def batch(self, g: Generation) -> list[dict[str, Any]]:
        name = self.batch_of(g)
        return self.table(name) if name else []

    def drawn(self, g: Generation) -> list[str]:
        """Ids of its corpus, in order."""
        return self.ids(g.output("curate", "corpus"))

    def batches(self) -> list[Generation]:
        """The turns that brought a batch; of the human one, which geneses share, the first."""
        first = {self.batch_of(g): g for g in reversed(self.generations) if self.batch_of(g)}
        return sorted(first.values(), key=lambda g: g.number)

    def made_in(self, g: Generation) -> int:
        """The generation in whose turn the samples were made that it brought; 0 of the human ones."""
        return 0 if g.parent is None else g.number

    def carry_of_curator(self, g: Generation) -> str | None:
        """Its curator's carry, if anything is in it."""
        carry = g.output("curate", "carry")
        return None if carry == EMPTY else carry

    def seen(self, g: Generation) -> set[str]:
        """Ids that its curator decided on: those of all its sources, without what was recalled by then."""
        shown = self.given_to(g, "curate")
        decisions = g.stages["curate"]["outputs"]["decisions"]
        assert decisions in self.stands_in or shown == set(self.ids(decisions))
        return shown

    def given_to(self, g: Generation, stage: str) -> set[str]:
        """Ids of all sources of a stage, without what was recalled by then."""
        inputs = g.stages[stage]["inputs"]
        given = {id for source in self.json(inputs["sources"]) for id in self.ids(source[0])}
        return given - set(self.ids(inputs.get("recalled")))

    def saw(self, g: Generation) -> set[str]:
        """Ids that its trials were given, and its curator, if anything is in the carry that it left."""
        ids = self.seen(g) if self.carry_of_curator(g) else set()
        return ids | self.given_to(g, "tune") if g.has_trials else ids

    # -- recall ---------------------------------------------------------------------------------------------

    def reach(self, flaw: Flaw, strict: bool = False) -> Reach:
        """The level of each generation and sample, as the section *Recall* has it."""
        reached = Reach(ids=set(flaw.ids))
        for g in self.generations:
            parent = CLEAN if g.parent is None else reached.level[g.parent]
            if "generate" in g.stages:
                named = FLAWED if g.number in flaw.batches else CLEAN
                for row in self.batch(g):
                    reached.sample[row["id"]] = max(parent, named)
                    if reached.sample[row["id"]] == FLAWED:
                        reached.ids.add(row["id"])
            edges = self.levels_of_edges(g, parent, reached, flaw)
            if g.number in flaw.generations:
                edges["itself"] = FLAWED
            level = max(edges.values(), default=CLEAN)
            least = SUSPECT if strict or level == SUSPECT else FLAWED
            reached.by[g.number] = {edge for edge, of_edge in edges.items() if level and of_edge >= least}
            reached.level[g.number] = FLAWED if strict and level == SUSPECT else level
        return reached

    def levels_of_edges(self, g: Generation, parent: int, reached: Reach, flaw: Flaw) -> dict[str, int]:
        def of_sample(id: str) -> int:
            return FLAWED if id in reached.ids else reached.sample.get(id, CLEAN)

        edges = {}
        fit = g.stages.get("train") or g.stages.get("adopt")
        if fit and fit["facts"]["start"]["kind"] == "parent":
            edges["init"] = parent
        elif fit:
            start = fit["inputs"].get("start")
            older = self.generations[: g.number] if start else []
            same = [reached.level[e.number] for e in older if e.weights == start]
            edges["init"] = max([*same, FLAWED if start in flaw.weights else CLEAN])
        if "curate" in g.stages:
            edges["trained_on"] = max(map(of_sample, self.drawn(g)))
        if ids := self.saw(g):
            edges["saw"] = min(SUSPECT, max(map(of_sample, ids)))
        if g.status == "unfinished":
            edges["produced_by"] = parent
        if "grade" in g.stages:
            edges["graded_by"] = min(SUSPECT, parent)
        if rivals := self.opponents(g):
            edges["opponent"] = min(SUSPECT, max(reached.level[rival] for rival in rivals))
        if g.stages:
            levels = [reached.level[other] for other in self.settings_from(g)]
            edges["settings_from"] = min(SUSPECT, max(levels, default=CLEAN))
        return edges

    def opponents(self, g: Generation) -> list[int]:
        """Whom it was compared with, on dev and at a gate."""
        screen = g.stages.get("screen")
        others = {one["generation"] for one in screen["facts"]["against"]} if screen else set()
        return sorted(others | ({g.champion} if "gate" in g.stages else set()))

    def settings_from(self, g: Generation) -> list[int]:
        in_force = {c: carry for c, carry in g.began_with.items() if c != "gate"}
        others = {leaver for artifact, leaver in in_force.values() if artifact != EMPTY}
        if g.parent is not None and self.generations[g.parent].parent is not None:
            others.add(g.parent)
        return sorted(others | set(g.shown))

    def can_be_champion(self, g: Generation) -> bool:
        return g.status == "promoted" and not g.recalled and g.weights not in self.gone

    def can_be_frontier(self, g: Generation) -> bool:
        has_advanced = g.status == "advanced" and not g.abandoned and not g.recalled
        return self.can_be_champion(g) or (has_advanced and g.weights not in self.gone)

    def frontier_of_line(
        self, number: int | None, champion: int | None, recalled: set[int] = frozenset()
    ) -> int | None:
        """The first through the parents that can be one and is not recalled, the champion at the latest."""
        if champion is None:
            return None
        while number != champion:
            g = self.generations[number]
            if self.can_be_frontier(g) and number not in recalled:
                break
            number = g.parent
        return number

    def is_from_elsewhere(self, g: Generation) -> bool:
        """A genesis that adopted weights from elsewhere cannot be recalled: nothing older is left."""
        return "adopt" in g.stages and g.stages["adopt"]["facts"]["start"]["kind"] == "base"

    def champion_of_line(self, number: int | None, recalled: set[int] = frozenset()) -> int | None:
        """The first through the parents that was promoted, is not recalled and has its weights."""
        while number is not None:
            g = self.generations[number]
            if self.can_be_champion(g) and number not in recalled:
                break
            number = g.parent
        return number

    def clean_carries(self, frontier: int | None, flagged: set[int]) -> Carry:
        """Of each component the first carry on the frontier's line that was not left by one of those."""
        carries: Carry = {}
        while frontier is not None:
            g = self.generations[frontier]
            for in_force in (g.carry_after, g.began_with):
                for component, (artifact, leaver) in in_force.items():
                    if leaver not in flagged:
                        carries.setdefault(component, (artifact, leaver))
            frontier = g.parent
        return carries

    def flagged(self) -> set[int]:
        return {g.number for g in self.generations if g.recalled or g.suspect}

    def recall(
        self, *, generation: int | None = None, ids: Iterable[str] = (), strict: bool = False
    ) -> dict[str, Any]:
        flaw = Flaw(ids=set(ids))
        if generation is not None:
            flaw = Flaw(generations={generation}, batches={generation})
        reached = self.reach(flaw, strict)
        recalled = {g.number for g in self.generations if g.recalled}
        new = [n for n, level in reached.level.items() if level == FLAWED and n not in recalled]
        flagged = self.flagged()
        suspect = [n for n, level in reached.level.items() if level == SUSPECT and n not in flagged]
        champion = self.champion_of_line(self.champion, set(new))
        frontier = self.frontier_of_line(self.frontier, champion, set(new))
        under_way = self.under_way
        ends = under_way and (
            reached.level[under_way.number]
            or under_way.champion != champion
            or frontier not in (under_way.parent, under_way.number)
        )
        if ends:
            frontier = self.frontier_of_line(self.frontier, champion, {*new, under_way.number})
        carries = self.clean_carries(frontier, flagged | set(new) | set(suspect))
        ids = reached.ids - set(self.ids(self.recalled_samples))
        samples = self.samples_by_turn(ids)
        if not (new or suspect or samples):  # nothing is recorded
            champion, frontier, carries, ends = self.champion, self.frontier, self.carries, None
        return {
            "generations": {n: sorted(reached.by[n]) for n in new},
            "suspect": {n: sorted(reached.by[n]) for n in suspect},
            "samples": samples,
            "corpora": self.corpora(reached.ids),
            "champion": champion,
            "frontier": frontier,
            "carries": names(carries),
            "ends": under_way.number if under_way and ends else None,
            "forks": forks(self, reached),
        }

    def samples_by_turn(self, ids: set[str]) -> dict[int, tuple[int, int]]:
        """``made_in`` -> how many of these samples are among the given ones, and how many there are."""
        counts = {self.made_in(g): [row["id"] in ids for row in self.batch(g)] for g in self.batches()}
        return {n: (sum(among), len(among)) for n, among in counts.items() if sum(among)}

    def corpora(self, ids: set[str]) -> dict[int, tuple[int, int]]:
        """Generation -> how many rows of its corpus are among these, and how many it has."""
        counts = {g.number: [id in ids for id in self.drawn(g)] for g in self.generations}
        return {n: (sum(among), len(among)) for n, among in counts.items() if sum(among)}

    # -- trace ----------------------------------------------------------------------------------------------

    def trace_generation(self, number: int) -> dict[str, Any]:
        return {"up": self.up([number])} | self.down(Flaw(generations={number}))

    def trace_sample(self, id: str) -> dict[str, Any]:
        turn = next(g for g in self.generations if id in [row["id"] for row in self.batch(g)])
        origin = next(row["origin"] for row in self.batch(turn) if row["id"] == id)
        maker = turn.parent if origin == "generated" else None
        about = {"made_in": self.made_in(turn), "origin": origin, "made_by_generation": maker}
        about["made_by"] = None if maker is None else bare(self.generations[maker].weights)
        about["recalled"] = id in self.ids(self.recalled_samples)
        up = self.up([] if maker is None else [maker])
        return {"sample": about, "up": up} | self.down(Flaw(ids={id}))

    def up(self, numbers: list[int]) -> dict[int, list[Edge]]:
        """Generations and those whose weights they learned from, each with its edges."""
        edges: dict[int, list[Edge]] = {}
        queue = list(numbers)
        while queue:
            number = queue.pop()
            if number is not None and number not in edges:
                edges[number] = in_order(self.edges(self.generations[number]))
                queue += [e["generation"] for e in edges[number] if e["type"] in ("init", "produced_by")]
        return dict(sorted(edges.items()))

    def edges(self, g: Generation) -> list[Edge]:
        edges: list[Edge] = []
        if fit := g.stages.get("train") or g.stages.get("adopt"):
            kind, start, fork = fit["facts"]["start"]["kind"], fit["inputs"].get("start"), self.forked_from
            same = [e.number for e in self.generations[: g.number] if start and e.weights == start]
            of = g.parent if kind == "parent" else min(same, default=None)
            origin = f"{fork['run']}@{fork['generation']}" if fork and kind == "base" else None
            init = {"init": kind, "weights": bare(start), "generation": of, "forked_from": origin}
            edges.append({"type": "init", **init})
        if "curate" in g.stages:
            drawn, corpus = self.drawn(g), g.stages["curate"]["facts"]["corpus"]
            by_origin = dict(Counter(map(self.origin, drawn)))
            edges.append({"type": "trained_on", "corpus": corpus, "by_origin": by_origin})
            for turn in self.turns_with(drawn):
                made = {"samples": bare(self.batch_of(turn)), "made_in": self.made_in(turn)}
                made["weights"] = None  # there are no rivals from elsewhere here
                edges.append({"type": "produced_by", "generation": turn.parent, **made})
        for stage in ("grade", "audit"):
            if stage in g.stages:
                facts = g.stages[stage]["facts"]
                graded = {"grader": facts["grader"], "weights": bare(facts.get("loaded_parent"))}
                edges.append({"type": "graded_by", "stage": stage, **graded})
        edges += [{"type": "opponent", "generation": rival} for rival in self.opponents(g)]
        if ids := self.saw(g):
            seen = [self.made_in(turn) for turn in self.turns_with(ids)]
            edges.append({"type": "saw", "made_in": seen})
        chose = self.settings_from(g) if g.stages else []
        return edges + [{"type": "settings_from", "generation": other} for other in chose]

    def turns_with(self, ids: Iterable[str]) -> list[Generation]:
        """The turns that brought any of these samples."""
        wanted = set(ids)
        return [turn for turn in self.batches() if wanted & {row["id"] for row in self.batch(turn)}]

    def origin(self, id: str) -> str:
        rows = (row for g in self.generations for row in self.batch(g))
        return next(row["origin"] for row in rows if row["id"] == id)

    def down(self, flaw: Flaw) -> dict[str, Any]:
        reached = self.reach(flaw)

        def at(level: int) -> dict[int, list[str]]:
            return {n: sorted(reached.by[n]) for n, of in reached.level.items() if of == level}

        counts = self.samples_by_turn(reached.ids)
        return {
            "generations": at(FLAWED),
            "suspect": at(SUSPECT),
            "samples": {turn: count for turn, (count, _) in counts.items()},
            "forks": forks(self, reached),
        }

    # -- what a corpus may draw on --------------------------------------------------------------------------

    def draws_on(self, g: Generation) -> list[str]:
        """The batches that the curator of a turn is shown, in order.

        The human one, those of the parent's corpus, those of turns on the parent that were rejected or have
        advanced, the turn's own; none of a turn that is flagged recalled.
        """
        human = next(e.output("seed", "samples") for e in self.generations if "seed" in e.stages)
        if g.parent is None:
            return [human]
        parent = self.generations[g.parent]
        name = parent.output("curate", "sources")
        batches = [source[0] for source in self.json(name)] if name else []
        batches += [e.output("generate", "samples") for e in self.fruitful_turns(parent)]
        recalled = {e.output("generate", "samples") for e in self.generations if e.recalled}
        batches = [batch for batch in batches if batch != human and batch not in recalled]
        return [human, *batches, g.output("generate", "samples")]

    def fruitful_turns(self, g: Generation) -> list[Generation]:
        """The turns on a generation that were rejected or have advanced, whatever became of these."""
        turns = [e for e in self.generations if e.parent == g.number]
        return [turn for turn in turns if turn.ended_as in ("rejected", "advanced")]

    # -- pruning --------------------------------------------------------------------------------------------

    def drops(self, policy: dict[str, Any]) -> tuple[set[str], set[str]]:
        """What a policy must and may drop, as docs/disk.md has it.

        A table stays where what would stand in for it is no smaller. These tests make samples so large that
        this is never so where they go: only of decisions it cannot be known without making that table.
        """
        whole = self.kept_whole(policy)
        keep = {w for g in self.generations for w in self.always(g)}
        keep |= {n for g in whole for n in self.wholly(g)}
        keep |= set(self.replacements)
        for g in self.generations:  # what may be champion or frontier again, if its weights are kept
            if self.can_be_frontier(g) and g.weights in keep:
                keep |= self.drawn_on_next(g)
        must, may = set(), set()
        for g in self.generations:
            names = {n for n in self.droppable(g) if n not in keep and n not in self.gone}
            may |= names
            must |= names if g.output("generate", "samples") in names else names & {g.weights}
        return must, may

    def kept_whole(self, policy: dict[str, Any]) -> list[Generation]:
        numbers = {self.champion, self.first_champion, self.frontier}
        if self.under_way:
            numbers |= {self.under_way.number}
        if policy["promoted"]:
            numbers |= {g.number for g in self.generations if g.status == "promoted"}
        last = policy["last"] or 0
        ended = sorted((g for g in self.generations if g.ended_at is not None), key=lambda g: g.ended_at)
        numbers |= {g.number for g in ended[-last:] if last}
        return [g for g in self.generations if g.number in numbers]

    def droppable(self, g: Generation) -> list[str]:
        outputs = [("generate", "samples"), ("grade", "scores"), ("curate", "decisions")]
        return [n for n in (g.weights, *(g.output(*place) for place in outputs)) if n]

    def always(self, g: Generation) -> list[str]:
        """What is kept of every generation: all that is not droppable."""
        return [
            artifact
            for stage, event in g.stages.items()
            for output, artifact in event["outputs"].items()
            if output not in ("weights", "scores", "decisions") and (stage, output) != ("generate", "samples")
        ]

    def wholly(self, g: Generation) -> set[str]:
        """What is kept of a generation that is kept whole."""
        names = {artifact for event in g.stages.values() for artifact in event["outputs"].values()}
        names |= self.sources(g)
        if g.parent is not None and "train" in g.stages:
            names |= {self.generations[g.parent].weights}
        for stage in {"screen", "evaluate"} & {*g.stages}:
            names |= {*g.stages[stage]["inputs"].values()}
        return names

    def sources(self, g: Generation) -> set[str]:
        """The batches of its corpus, with their scores."""
        name = g.output("curate", "sources")
        return {n for source in self.json(name) for n in source[:3] if n} if name else set()

    def drawn_on_next(self, g: Generation) -> set[str]:
        """What the next corpus may draw on while this generation is champion, or frontier."""
        names = self.sources(g)
        for turn in self.fruitful_turns(g):
            if not turn.recalled:
                names |= {turn.output("generate", "samples"), turn.output("grade", "scores")}
        return names

    def missing(self) -> list[str]:
        named: set[str] = set()
        for event in self.events:
            for key in ("inputs", "outputs", "carry"):
                named |= set((event.get(key) or {}).values())
        named |= {n for n in self.gone.values() if n}
        return sorted(name for name in named if name not in self.gone and not os.path.exists(self.path(name)))


@dataclass
class Flaw:
    ids: set[str] = field(default_factory=set)
    weights: set[str] = field(default_factory=set)
    generations: set[int] = field(default_factory=set)
    """Generations whose weights are flawed."""
    batches: set[int] = field(default_factory=set)
    """Turns whose batch is flawed."""


@dataclass
class Reach:
    ids: set[str]
    """Flawed samples, of whatever run."""
    sample: dict[str, int] = field(default_factory=dict)
    """Level of each generated sample by the batch that it is in."""
    level: dict[int, int] = field(default_factory=dict)
    by: dict[int, set[str]] = field(default_factory=dict)
    """The edges that give a generation its level."""

    def weights(self, run: Run) -> set[str]:
        return {run.generations[n].weights for n, level in self.level.items() if level == FLAWED} - {None}


def beside(run: Run) -> list[Run]:
    """All runs under the same folder but this one."""
    folders = sorted(run.directory.parent.parent.glob("*/*"))
    return [Run(d) for d in folders if d != run.directory and (d / "ledger.jsonl").exists()]


def forks(run: Run, reach: Reach) -> dict[str, tuple[str, list[int]]]:
    """The runs beside this one that descend from what is flawed: by which edge, and what is flawed there."""
    flaw, others = Flaw(ids=set(reach.ids), weights=reach.weights(run)), beside(run)
    descending: dict[str, tuple[str, list[int]]] = {}
    while True:
        before = len(descending), len(flaw.ids), len(flaw.weights)
        for other in others:
            by = descends(other, flaw)
            if by:
                there = other.reach(flaw)
                flaw.ids |= there.ids
                flaw.weights |= there.weights(other)
                descending[other.name] = by, [n for n, level in there.level.items() if level == FLAWED]
        if before == (len(descending), len(flaw.ids), len(flaw.weights)):
            return dict(sorted(descending.items()))


def descends(run: Run, flaw: Flaw) -> str | None:
    """Whether a genesis of the run starts from flawed weights, or a corpus of it has a flawed sample."""
    starts = {g.output("seed", "base") for g in run.generations} - {None}
    if not starts and run.forked_from:
        starts = {run.forked_from["weights"]}
    if starts & flaw.weights:
        return "init"
    return "trained_on" if any(flaw.ids & set(run.drawn(g)) for g in run.generations) else None


def origins(run: Run) -> list[Run]:
    """The runs beside a fork that it came from, the nearest first, as far as they are there."""
    runs: list[Run] = []
    while run.forked_from:
        name, head = run.forked_from["run"], run.forked_from["head"]
        there = [o for o in beside(run) if o.name == name and head in [event["hash"] for event in o.events]]
        if not there:
            break
        run = there[0]
        runs.append(run)
    return runs


def inherited(run: Run) -> set[str]:
    """Samples that are recalled in a run and in those that it came from: what a fork of it begins with."""
    return {id for one in [run, *origins(run)] for id in one.ids(one.recalled_samples)}


def recalled_since(run: Run) -> set[int]:
    """Generations of a fork that learned from what a run that it came from has recalled."""
    numbers: set[int] = set()
    for origin in origins(run):
        recalled = Reach(set(origin.ids(origin.recalled_samples)))
        recalled.level = {g.number: FLAWED for g in origin.generations if g.recalled}
        _, flawed = forks(origin, recalled).get(run.name, ("", []))
        numbers |= set(flawed)
    return numbers


def in_order(edges: Iterable[Edge]) -> list[Edge]:
    """Edges in an order that does not depend on how they were found."""
    return sorted(edges, key=lambda edge: json.dumps(edge, sort_keys=True))


def bare(artifact: str | None) -> str | None:
    return artifact.partition(".")[0] if artifact else None


def names(carries: Carry) -> dict[str, str]:
    return {component: artifact for component, (artifact, _) in carries.items()}


@functools.lru_cache(4096)
def rows_of(path: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path, use_threads=False).to_pylist()
    return rows


@functools.lru_cache(4096)
def json_of(path: str) -> Any:
    with open(path, "rb") as file:
        return json.load(file)


def read_ledger(directory: Path) -> list[Event]:
    """The events, each checked against its hash and the line before it."""
    path = directory / "ledger.jsonl"
    events: list[Event] = []
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else ():
        if line.endswith(b"\n"):  # else a crash tore it
            event = read_line(line)
            assert event["seq"] == len(events)
            assert event["prev"] == (events[-1]["hash"] if events else "0" * 64)
            events.append(event)
    return events


@functools.lru_cache(4096)
def read_line(line: bytes) -> Event:
    """The event of a line, if it has the hash that it says."""
    event: Event = json.loads(line)
    content = {key: value for key, value in event.items() if key != "hash"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert hashlib.sha256(text.encode()).hexdigest() == event["hash"]
    return event
