"""A random history of runs, and the comparison of all answers along the way."""

from __future__ import annotations

import random
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flywheel.errors import FlywheelError
from flywheel.launch.fork import Origin
from flywheel.lineage.recall import rollback
from flywheel.lineage.status import read_state
from flywheel.storage.pruning import prune
from flywheel.storage.store import Store
from flywheel.storage.verify import verify
from tests.histories import answers, reference
from tests.histories.answers import REFUSED
from tests.histories.world import FATES, STAGES, Config, Fates, World, staged

POLICIES = [{"promoted": False, "last": last} for last in (0, 1, 2, 4)]
POLICIES += [{"promoted": True, "last": last} for last in (None, 0, 1, 3)]
KEEP_ALL = {"promoted": False, "last": None}
MOST_GENERATIONS = 30
COMMON = """
    generation_started; generation_ended; promoted; rejected; failed; failed genesis; second genesis;
    session_started; run_finished; run_stopped; run_failed; run_interrupted; run_awaiting_review; killed;
    budget spent; clock jump; finished: generations; finished: patience; cost of a stage cut off; kept and
    not drawn; pruned; pruned by hand; init parent; init base; init fresh; stage seed; stage generate;
    stage grade; stage curate; stage tune; stage train; stage adopt; stage evaluate; stage gate; stage
    review; stage sealed; recalled; recalled strictly; recalled by generation; recalled by samples; recall
    refused; recall: champion stays; recall to no champion; flaw ends a turn; flaw with forks; flaw with
    forks of forks; rolled_back; rolled back forwards; fork; fork of a fork; fork after a recall; base of
    another run; recalled by itself; recalled by init; recalled by trained_on; recalled by produced_by;
    recalled by graded_by; recalled by opponent; recalled by settings_from; recalled by saw; suspect by
    init; suspect by trained_on; suspect by graded_by; suspect by opponent; suspect by settings_from;
    suspect by saw; fork again: goes on; opened; opened again; fork of an opened run; stage screen; advanced;
    fell_back; look at a frontier; look: promoted; look: advanced; greedy; recalled with a frontier ahead;
    stage guard; earlier trials shown
"""
SELDOM = """
    crash: torn line; crash: HEAD behind; fork again: refused; fork again: another; fork of what an origin
    recalled; suspect by produced_by; look: failed; look: rejected; killed within a look; recalled within a
    look; recall: look ends; rolled back within a look; look: an older frontier stays; fork of what has
    advanced; rolled back with a frontier ahead; recall: frontier stays ahead; halted by a guard
"""
SHARES = {
    " ".join(kind.split()): share
    for kinds, share in ((COMMON, 0.05), (SELDOM, 0.005))
    for kind in kinds.split(";")
}
"""In what share of histories each of these must happen, for the comparison to say something."""
DECISIONS = ("generation_started", "look", "fell_back", "run_finished", "run_stopped")
"""Events before which the loop has looked at what a run is."""


class Mismatch(AssertionError):
    """The code and the reference answer differently."""


def is_allowed(act: Callable[[], object]) -> bool:
    try:
        act()
    except FlywheelError:
        return False
    return True


class History:
    """Acts on a world, a step at a time, as a seed has it, and compares after each step."""

    def __init__(self, seed: int, world: World) -> None:
        self.seed, self.world = seed, world
        self.rng = random.Random(seed)
        self.happened: Counter[str] = Counter()
        """How often each kind of event, edge and answer occurred."""
        self.steps: list[str] = []

    def go(self) -> None:
        self.run_is_added()
        self.session(self.directories[0])
        steps = {
            self.session: 10,
            self.recall: 5,
            self.roll_back: 5,
            self.prune: 2,
            self.fork: 4,
            self.fork_again: 3,
            self.run_is_added: 1,
        }
        for _ in range(self.rng.randint(4, 10)):
            if self.rng.random() < 0.25:
                self.clock_jumps()
            (step,) = self.rng.choices(list(steps), list(steps.values()))
            step() if step == self.run_is_added else step(self.some_run(step))
        for directory in self.directories:
            self.compare_all(directory)

    @property
    def directories(self) -> list[Path]:
        return [d for d in self.world.configs if (d / "ledger.jsonl").exists()] or [*self.world.configs]

    def some_run(self, step: Callable[[Path], None]) -> Path:
        """A run to act on: often one that has forks, or is one, where that matters."""
        runs = [self.read(directory) for directory in self.directories]
        forked = {run.forked_from["run"] for run in runs if run.forked_from}
        fitting = [run for run in runs if step == self.recall and run.name in forked]
        fitting += [run for run in runs if step in (self.fork, self.fork_again) and run.forked_from]
        fitting += [run for run in runs if step in (self.recall, self.roll_back) and run.is_ahead()]
        fitting += [run for run in runs if step in (self.recall, self.roll_back) and run.look_under_way] * 3
        chosen = fitting if fitting and (step == self.fork_again or self.rng.random() < 0.5) else runs
        return self.rng.choice(chosen).directory

    def story(self, end: str) -> str:
        """What the history came to, and its steps. ``--seed SEED --count 1`` repeats it."""
        return "\n".join([f"history {self.seed}, {end}", *self.steps])

    def say(self, text: str) -> None:
        self.steps.append(text)

    # -- steps ----------------------------------------------------------------------------------------------

    def run_is_added(self) -> None:
        """A run of its own; at times it begins from weights of another run."""
        name = "abcdefghijklmnop"[len(self.world.configs)]
        config = self.config()
        config.genesis = self.rng.choice(["train", "train", "train", "fresh"])
        weights = self.some_weights() if self.rng.random() < 0.6 else None
        if weights:
            config.base = weights
            config.genesis = self.rng.choice(["train", "load"])
            config.inits = self.rng.choice([("parent",), ("parent", "base"), ("parent", "base", "fresh")])
            self.happened["base of another run"] += 1
        directory = self.world.add(self.rng.choice(["maths", "maths", "words"]), name, config)
        self.say(f"{name}: {config}")
        self.session(directory)

    def config(self) -> Config:
        rng = self.rng
        kept = {
            c: rng.choice(["always", "promotion"]) for c in ("curator", "tuner", "gate") if rng.random() < 0.6
        }
        return Config(
            seed=rng.randrange(10**6),
            inits=rng.choice([("parent",), ("parent",), ("fresh",), ("parent", "fresh")]),
            carry_kept=kept,
            level_carry=rng.random() < 0.4,
            lends=rng.random() < 0.5,
            keep=rng.choice([0.3, 0.7, 0.95]),
            promote=rng.choice([0.3, 0.6, 0.9]),
            promotion=self.promotion(),
            guarded=rng.random() < 0.3,
            advance=rng.choice([0.5, 0.8, 1.0]),
            still=rng.choice([0.0, 0.0, 0.0, 0.2]),
            tries=rng.choice([0.0, 0.0, 0.5, 1.0]),
            audited=rng.random() < 0.3,
        )

    def promotion(self) -> dict[str, Any]:
        rule = self.rng.choice(["each"] * 5 + ["frontier"] * 4 + ["greedy"])
        if rule == "frontier":
            every, patience = self.rng.randint(1, 3), self.rng.choice([1, 1, 2])
            return {"rule": rule, "every": every, "patience": patience, "harm": 0.05}
        return {"rule": rule} if rule == "greedy" else {}

    def some_weights(self) -> Path | None:
        weights = [
            Path(run.path(g.weights))
            for run in map(reference.Run, self.directories if self.world.configs else [])
            for g in run.generations
            if g.weights and g.weights not in run.gone
        ]
        return self.rng.choice(weights) if weights else None

    def session(self, directory: Path) -> None:
        """Run, or go on."""
        rng, before = self.rng, self.read(directory)
        if sum(len(self.read(d).generations) for d in self.directories) > MOST_GENERATIONS:
            return
        on_failure = rng.choice(["stop", "go_on"])
        more = rng.choice([0, 1, 1, 2, 2, 3, 4])
        limit = round(before.seconds() + rng.uniform(0.5, 15), 1) if rng.random() < 0.2 else None
        operational = {
            "generations": before.counted_turns(on_failure) + more,
            "patience": rng.choice([None, None, None, 1, 2, 3]),
            "on_failure": on_failure,
            "budget": {"seconds": limit},
            "retention": rng.choice([*[KEEP_ALL] * 3, *POLICIES]),
        }
        fates: Fates = {}
        for _ in range(rng.choice([0, 0, 1, 1, 2])):
            when = rng.choice([rng.choice(STAGES), rng.randint(1, 30)])
            fates[when] = rng.choice(FATES)
        if rng.random() < 0.1:
            fates["review"] = "no_answer"
        if before.promotion.get("rule") == "frontier" and rng.random() < 0.3:
            fates[rng.choice(["gate", "review"])] = rng.choice(FATES)
        if not before.generations and rng.random() < 0.15:
            fates[rng.choice(["seed", "curate", "tune", "train", "adopt", "evaluate"])] = "fail"
        self.say(f"{directory.name}: play {operational} {fates}")
        if self.world.play(directory, fates, **operational) is None:
            self.crash(directory)
            self.happened["killed within a look"] += self.read(directory).look_under_way is not None
        self.check_session(directory, len(before.events), operational)
        self.compare_state(directory)

    def crash(self, directory: Path) -> None:
        """What a killed process may leave: a line that is torn, or a HEAD that names the line before."""
        head, events = directory / "HEAD", self.read(directory).events
        kind = self.rng.choice(["nothing", "torn line", "HEAD behind"])
        if kind == "torn line":
            with open(directory / "ledger.jsonl", "ab") as file:
                file.write(b'{"cost":{"cpu_seco')
        elif kind == "HEAD behind" and len(events) > 1:
            head.write_text(events[-2]["hash"] + "\n")
        self.happened["killed"] += 1
        self.happened[f"crash: {kind}"] += 1

    def recall(self, directory: Path) -> None:
        """See what a recall would touch; at times, do it."""
        run = self.read(directory)
        flaw = self.flaw(run)
        if flaw is None:
            return
        expected = self.compare_recall(directory, flaw)
        if expected == REFUSED or self.rng.random() < 0.3:
            return
        self.say(f"{directory.name}: recall {flaw}")
        done = answers.recall_by_code(directory, yes=True, **flaw)
        self.same(f"recall {flaw}", done, expected, directory)
        event = self.read(directory).events[-1]
        touched = expected["generations"] or expected["suspect"] or expected["samples"]
        if len(self.read(directory).events) == len(run.events):
            self.same("recorded", False, bool(touched), directory)
            return
        self.same("recalled", event["generations"], [*expected["generations"]], directory)
        self.same("suspect", event["suspect"], [*expected["suspect"]], directory)
        self.happened["recalled"] += 1
        self.happened["recalled strictly"] += flaw["strict"]
        self.happened["recalled by generation"] += "generation" in flaw
        self.happened["recalled by samples"] += "ids" in flaw
        self.happened["recall to no champion"] += event["champion"] is None and run.champion is not None
        self.happened["recall: champion stays"] += event["champion"] == run.champion
        self.happened["recalled with a frontier ahead"] += run.frontier != run.champion
        self.happened["recall: frontier stays ahead"] += event.get("frontier") is not None
        self.happened["recalled within a look"] += run.look_under_way is not None
        self.happened["recall: look ends"] += expected["ends"] is not None and run.look_under_way is not None
        self.compare_state(directory)

    def flaw(self, run: reference.Run) -> dict[str, Any] | None:
        strict = self.rng.random() < 0.3
        if run.generations and self.rng.random() < 0.55:
            newest = max(0, len(run.generations) - 4)
            low = newest if self.rng.random() < 0.5 else 0
            return {"generation": self.rng.randrange(low, len(run.generations)), "strict": strict}
        batches = [run.batch(g) for g in run.generations if run.batch_of(g)]
        if not batches:
            return None
        rows = [row for batch in self.rng.sample(batches, min(2, len(batches))) for row in batch]
        vendor = [row["id"] for row in rows if row["source"] == "vendor 7"]
        drawn = {id for g in run.generations for id in run.drawn(g)}
        idle = [row["id"] for batch in batches for row in batch if row["id"] not in drawn]
        ids = [row["id"] for row in self.rng.sample(rows, self.rng.randint(1, min(4, len(rows))))]
        few = [sorted(set(ids)), ids[:1], vendor, self.rng.sample(idle, min(2, len(idle)))]
        return {"ids": self.rng.choice([ids for ids in few if ids]), "strict": strict}

    def roll_back(self, directory: Path) -> None:
        run = self.read(directory)
        if not run.generations:
            return
        fit = [g.number for g in run.generations if run.can_be_champion(g) and g.number != run.champion]
        ahead = [number for number in fit if run.champion is not None and number > run.champion]
        likely = ahead if ahead and self.rng.random() < 0.9 else fit
        anyone = [g.number for g in run.generations]
        number = self.rng.choice(likely if likely and self.rng.random() < 0.9 else anyone)
        self.say(f"{directory.name}: roll back to {number}")
        done = is_allowed(lambda: rollback(directory, number, "so it was drawn"))
        self.same("rollback", done, number in fit, directory)
        if not done:
            return
        self.happened["rolled_back"] += 1
        self.happened["rolled back with a frontier ahead"] += run.frontier != run.champion
        self.happened["rolled back within a look"] += run.look_under_way is not None
        self.happened["rolled back forwards"] += run.champion is not None and number > run.champion
        self.compare_state(directory)

    def prune(self, directory: Path) -> None:
        policy = self.rng.choice(POLICIES)
        self.compare_prune(directory, policy)
        expected = self.read(directory).drops(policy)[1]
        self.say(f"{directory.name}: prune {policy}")
        prune(directory, **policy, yes=True)
        self.happened["pruned by hand"] += bool(expected)
        self.compare_state(directory)

    def fork(self, directory: Path) -> None:
        run = self.read(directory)
        fit = with_clean_weights(run)
        if not fit or len(self.world.configs) >= 7:
            return
        chosen, name = self.rng.choice(fit), "abcdefghijklmnop"[len(self.world.configs)]
        config = self.config()
        config.inits = self.rng.choice([("parent",), ("parent", "base"), ("parent", "base", "fresh")])
        self.say(f"{name}: fork of {directory.name}@{chosen.number}: {config}")
        refused, forked = chosen.number in reference.recalled_since(run), directory.parent / name
        where = directory, chosen.number, directory.parent.name, name
        fresh = self.rng.random() < 0.3
        done = is_allowed(lambda: self.world.fork(*where, config, fresh=fresh))
        self.same("fork", done, not refused, directory)
        if not done:
            self.happened["fork of what an origin recalled"] += 1
            return
        recalled = config.forked_from.recalled if config.forked_from else None
        ids = set(Store(forked).table(recalled)["id"].to_pylist()) if recalled else set()
        self.same("recalled samples that a fork begins with", ids, reference.inherited(run), directory)
        self.happened["fork"] += 1
        self.happened["fork of what has advanced"] += chosen.status == "advanced"
        self.happened["fork of an opened run"] += run.times_opened() > 0 and not fresh
        self.happened["fork of a fork"] += bool(run.events[0].get("forked_from"))
        self.happened["fork after a recall"] += run.recalled_samples is not None
        self.session(forked)

    def fork_again(self, directory: Path) -> None:
        """Give the command of a fork again: it goes on, unless more was recalled since."""
        run = self.read(directory)
        if not run.forked_from:
            return
        origins = [origin.directory for origin in reference.origins(run)][:1]
        others = [other.directory for other in reference.beside(run)]
        source = self.rng.choice(origins if origins and self.rng.random() < 0.7 else others)
        number = self.rng.choice([run.forked_from["generation"]] * 3 + [0])
        origin, recorded = self.read(source), set(run.ids(run.forked_from["recalled"]))
        same = (run.forked_from["run"], run.forked_from["generation"]) == (origin.name, number)
        fit = {g.number for g in with_clean_weights(origin)} - set(reference.recalled_since(origin))
        goes_on = same and number in fit and reference.inherited(origin) == recorded
        expected = "goes on" if goes_on else "refused"
        done = is_allowed(lambda: Origin.of(source, number).refuse_another(directory, read_state(directory)))
        self.same("fork again", "goes on" if done else "refused", expected, directory)
        self.happened[f"fork again: {expected if same else 'another'}"] += 1

    def clock_jumps(self) -> None:
        self.world.clocks.offset += self.rng.choice([-1e6, -3600, 3600, 1e6])
        self.happened["clock jump"] += 1

    # -- comparisons ----------------------------------------------------------------------------------------

    def read(self, directory: Path) -> reference.Run:
        return reference.Run(directory)

    def same(self, what: str, by_code: Any, by_reference: Any, directory: Path) -> None:
        """Raise Mismatch with both answers if they differ."""
        if by_code == by_reference:
            return
        if isinstance(by_code, dict) and isinstance(by_reference, dict):
            keys = sorted({*by_code, *by_reference}, key=str)
            differing = [k for k in keys if by_code.get(k) != by_reference.get(k)]
            by_code = {k: by_code.get(k) for k in differing}
            by_reference = {k: by_reference.get(k) for k in differing}
        both = f"  code       {by_code}\n  reference  {by_reference}"
        raise Mismatch(self.story(f"{'/'.join(directory.parts[-2:])}: {what}\n{both}"))

    def compare_state(self, directory: Path) -> None:
        run = reference.Run(directory, check=True)
        turns = run.counted_turns("go_on")
        questions: list[answers.Question] = [
            (generations, patience, on_failure, {})
            for generations in sorted({max(0, turns - 1), turns, turns + 1})
            for patience in (None, 1, 2)
            for on_failure in ("stop", "go_on")
        ]
        spent = {key: value for key, value in run.spent().items() if value}
        questions += [
            (turns + 1, None, "stop", {key: value * more})
            for key, value in spent.items()
            for more in (0.99, 1.01)
        ]
        by_code = answers.state_by_code(directory, questions)
        self.same("state", by_code, answers.state_by_reference(directory, questions), directory)
        for what, recorded, expected in run.expected:
            self.same(what, recorded, expected, directory)

    def compare_recall(self, directory: Path, flaw: dict[str, Any]) -> dict[str, Any]:
        by_code = answers.recall_by_code(directory, **flaw)
        expected = answers.recall_by_reference(directory, **flaw)
        if by_code.get("refused") and expected.get("refused"):
            self.happened["recall refused"] += 1
            return REFUSED
        self.same(f"dry recall {flaw}", by_code, expected, directory)
        self.happened["flaw with forks"] += bool(expected["forks"])
        self.happened["flaw with forks of forks"] += len(expected["forks"]) > 1
        self.happened["flaw ends a turn"] += expected["ends"] is not None
        edges = {edge for by in expected["generations"].values() for edge in by}
        soft = {edge for by in expected["suspect"].values() for edge in by}
        self.happened.update(
            {f"recalled by {edge}" for edge in edges} | {f"suspect by {edge}" for edge in soft}
        )
        return expected

    def compare_prune(self, directory: Path, policy: dict[str, Any]) -> None:
        must, may = self.read(directory).drops(policy)
        drops = {drop.name for drop in prune(directory, **policy).drops}
        self.same(f"prune {policy}, must", sorted(must - drops), [], directory)
        self.same(f"prune {policy}, may", sorted(drops - may), [], directory)

    def compare_trace(self, directory: Path, of: dict[str, Any]) -> None:
        by_code = answers.trace_by_code(directory, **of)
        self.same(f"trace {of}", by_code, answers.trace_by_reference(directory, **of), directory)

    def compare_all(self, directory: Path) -> None:
        """All that can be asked of a run, for some of its generations and samples."""
        self.compare_state(directory)
        run = self.read(directory)
        self.same("verify", verify(directory).first_bad, run.missing()[:1] or None, directory)
        numbers = [g.number for g in run.generations]
        for number in self.rng.sample(numbers, min(2, len(numbers))):
            self.compare_trace(directory, {"generation": number})
            self.compare_recall(directory, {"generation": number, "strict": self.rng.random() < 0.5})
        by_code, expected = answers.edges_by_code(directory), answers.edges_by_reference(directory)
        self.same("edges", by_code, expected, directory)
        rows = sorted({row["id"] for g in run.generations for row in run.batch(g)})
        for id in self.rng.sample(rows, min(2, len(rows))):
            self.compare_trace(directory, {"sample": id})
        if flaw := self.flaw(run):
            self.compare_recall(directory, flaw)
        self.compare_prune(directory, self.rng.choice(POLICIES))

    def check_session(self, directory: Path, since: int, operational: dict[str, Any]) -> None:
        """Each decision of the loop, against what the reference says at that line."""
        limit = operational["budget"]["seconds"]
        question = tuple(operational[key] for key in ("generations", "patience", "on_failure", "budget"))
        before, run = reference.Run(directory, upto=since), self.read(directory)
        failed_genesis = False
        for event in run.events[since:]:
            kind, lost = event["event"], (event.get("cost") or {}).get("seconds", 0.0)
            self.happened[kind] += 1
            there = reference.Run(directory, upto=event["seq"]) if kind in DECISIONS else before
            if kind in ("generation_started", "fell_back", "run_finished"):
                self.same(f"a guard halts before {event['seq']}", there.is_halted(), False, directory)
            if kind in ("generation_started", "fell_back"):
                self.same(f"look due at {event['seq']}", there.is_look_due(is_over=False), False, directory)
            if kind == "generation_started":
                self.same(f"started at {event['seq']}", None, there.is_over(*question), directory)
                self.same(f"started at {event['seq']}", failed_genesis, False, directory)
                self.happened["second genesis"] += event["parent"] is None and event["generation"] > 0
            if kind == "generation_ended":
                self.happened[event["status"]] += 1
                self.check_end_of_look(directory, event)
                is_genesis = run.generations[event["generation"]].parent is None
                failed_genesis = is_genesis and event["status"] == "failed"
                self.happened["failed genesis"] += failed_genesis
            if kind == "stage":
                self.happened[f"stage {event['stage']}"] += 1
                self.happened["earlier trials shown"] += "prior" in event["inputs"]
                if event["stage"] in ("train", "adopt"):
                    self.happened[f"init {event['facts']['start']['kind']}"] += 1
                self.check_sources(directory, event)
            if kind == "look" and event.get("role") == "sealed":
                self.happened["opened again" if event["number"] > 1 else "opened"] += 1
            if kind == "look" and there.promotion.get("rule") == "frontier" and not event.get("role"):
                is_over = there.is_over(*question) in ("generations", "patience")
                self.same(f"look due at {event['seq']}", there.is_look_due(is_over), True, directory)
                self.happened["look at a frontier"] += 1
            if kind == "run_finished":
                self.same(f"look due at {event['seq']}", there.is_look_due(is_over=True), False, directory)
                self.same(f"finished at {event['seq']}", event["reason"], there.is_over(*question), directory)
                self.happened[f"finished: {event['reason']}"] += 1
            if kind in ("run_stopped", "run_interrupted", "run_failed"):
                self.happened["cost of a stage cut off"] += lost > 0
            if kind == "run_stopped" and event["reason"].startswith("guard"):
                self.same(f"halted at {event['seq']}", there.is_halted(), True, directory)
                self.happened["halted by a guard"] += 1
            if kind == "run_stopped" and "budget" in event["reason"]:
                is_spent = there.seconds() + lost >= limit
                self.same(f"budget at {event['seq']}", is_spent, True, directory)
                self.happened["budget spent"] += 1

    def check_end_of_look(self, directory: Path, event: dict[str, Any]) -> None:
        before = reference.Run(directory, upto=event["seq"])
        self.happened["greedy"] += before.promotion.get("rule") == "greedy" and event["status"] == "promoted"
        if before.look_under_way is None:
            return
        self.happened[f"look: {event['status']}"] += 1
        after = reference.Run(directory, upto=event["seq"] + 1)
        stays = event["status"] in ("failed", "rejected") and after.frontier != after.champion
        self.happened["look: an older frontier stays"] += stays

    def check_sources(self, directory: Path, event: dict[str, Any]) -> None:
        """Which batches a corpus may draw on, and that nothing recalled is in it."""
        if event["stage"] != "curate":
            return
        after = reference.Run(directory, upto=event["seq"] + 1)
        g = after.generations[event["generation"]]
        recalled = set(after.ids(after.recalled_samples))
        self.same("recalled samples drawn", recalled & set(after.drawn(g)), set(), directory)
        self.same("recalled samples seen", recalled & after.seen(g), set(), directory)
        kept = {source[0] for source in after.json(event["outputs"]["sources"]) if not source[2]}
        self.happened["kept and not drawn"] += bool(kept)
        sources = [source[0] for source in after.json(event["inputs"]["sources"])]
        self.same(f"sources at {event['seq']}", sources, after.draws_on(g), directory)


def with_clean_weights(run: reference.Run) -> list[reference.Generation]:
    return [g for g in run.generations if g.weights and not g.recalled and g.weights not in run.gone]


def play_history(seed: int) -> Counter[str]:
    """Play the history of a seed; returns what happened, and how often. Raises Mismatch with its story."""
    memory = Path("/dev/shm")
    folder = memory if memory.is_dir() else None
    with tempfile.TemporaryDirectory(dir=folder) as runs_dir, staged() as clocks:
        history = History(seed, World(Path(runs_dir), clocks))
        try:
            history.go()
        except Mismatch:
            raise
        except Exception as error:
            trace = "".join(traceback.format_exception(error)[-4:])
            raise Mismatch(history.story(f"raises\n{trace}")) from error
        return history.happened
