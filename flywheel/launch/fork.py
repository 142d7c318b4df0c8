"""Fork: start a new run from a generation of another one.

The new run takes the generation's weights into its own store and adopts them as its genesis, so that it
needs nothing of the old run. Its configuration is the old run's with the overrides on top. What was
recalled there stays recalled here; its keys are its own, so that what it makes is nothing of that.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.config.components import tuned_in_genesis
from flywheel.config.recorded import recorded_config
from flywheel.errors import ConfigError, IdentityError, RunError
from flywheel.launch.recorded import key_of
from flywheel.lineage.forks import origins_of, recalled_in_origins
from flywheel.lineage.generation import Which, find_generation
from flywheel.records import Role
from flywheel.storage import ledger
from flywheel.storage.events import ForkedFrom
from flywheel.storage.state import Generation, RunState, Status
from flywheel.storage.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

    from flywheel.runtime.data import Data

FIXED = ("recipe", "base", "genesis", "debug")
"""Keys that a fork decides itself: it has another run's recipe and takes its weights as they are."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The generation of another run that a fork starts from, as that run was when it was read."""

    directory: Path
    state: RunState
    generation: Generation
    weights: str
    """Name of its weights there."""
    head: str
    """Hash of the run's last line."""

    @classmethod
    def of(cls, directory: Path, which: Which) -> Origin:
        """Read the run. Raises RunError if this generation cannot be forked."""
        events = ledger.read(directory)
        state = RunState.replay(events)
        generation = find_generation(directory, state, which)
        number = generation.number
        if generation.weights is None:
            raise RunError(f"A fork starts from weights; generation {number} of {directory} has none.")
        Store(directory).require(generation.weights)
        if generation.recalled:
            raise RunError(
                f"A fork starts from what is not recalled; generation {number} of {directory} is. Its "
                f"champion is generation {state.champion.number if state.champion else 'none'}."
            )
        recalled_by = recalled_in_origins(directory, state).get(number)
        if recalled_by is not None:
            raise RunError(
                f"A fork starts from what is not recalled; generation {number} of {directory} learned "
                f"from what {recalled_by} has recalled since. Recall it here, too, or fork a generation "
                "before that."
            )
        return cls(directory, state, generation, generation.weights, events[-1].hash)

    def begin(self, target: Path, openings: int = 0) -> ForkedFrom:
        """Bring the weights, and the ids of what is recalled, into the new run's store.

        Returns what to record of it. ``openings``: of the sealed suites, see ``openings_of``.
        """
        import pyarrow as pa

        old, new = Store(self.directory), Store(target)
        recalled = self._recalled()
        return ForkedFrom(
            run=self._name,
            generation=self.generation.number,
            head=self.head,
            weights=new.put(old.get(self.weights), ".safetensors"),
            recalled=new.put_table(pa.table({"id": recalled})) if len(recalled) else None,
            openings=openings,
        )

    def refuse_taught(self, data: Data) -> None:
        """Raise ConfigError if the weights, or those that they came from, learned labels of suites' items.

        Those of a final did, those of its run's dev and gate suites; a gate cannot tell by what was learned.
        """
        from flywheel.runtime.data import recorded_suites

        ours = data.problems_of(data.suites.values())
        number = self.generation.number
        for directory, state in [(self.directory, self.state), *origins_of(self.directory, self.state)]:
            store, is_final = Store(directory), state.generations[number].status is Status.FINAL
            taught = (  # read where it is a final only
                s for role in (Role.DEV, Role.GATE) for s in recorded_suites(state, store, role).values()
            )
            if is_final and (both := ours & data.problems_of(taught)):
                raise ConfigError(
                    f"A final was trained on the labels of dev and gate: {len(both)} problems of the fork's "
                    f"suites are among those that generation {number} of {directory} has learned. Give the "
                    "task other items, or fork its champion."
                )
            number = (
                state.created.forked_from.generation if state.created and state.created.forked_from else 0
            )

    def spent_on(self, data: Data) -> float:
        """What was charged in the run, and where it came from, for looks at gate items that ``data`` has."""
        runs = [(run.created.error_budget, run) for run in self._sharing(data, Role.GATE) if run.created]
        own = [budget.charged(len(run.looks)) for budget, run in runs]
        inherited = runs[0][0].spent if runs else 0.0
        return max(sum(own[:1]) + inherited, sum(own))

    def openings_of(self, data: Data) -> int:
        """How often sealed suites with items of ``data`` were opened in the run, and where it came from."""
        sharing = list(self._sharing(data, Role.SEALED))
        nearest = sharing[0].times_opened if sharing else 0
        return max(nearest, sum(len(state.openings) for state in sharing))

    def _sharing(self, data: Data, role: Role) -> Iterator[RunState]:
        """The run, and those that it came from, whose suites of this role have items that ``data`` has.

        Items are the same if what they ask is, whatever they are called: a look at one tells of it. What the
        nearest has inherited tells of runs that are not there any more, and of those that it shares with.
        """
        from flywheel.runtime.data import recorded_suites

        ours = data.problems_of(data.view((role,)).suites.values())
        for directory, state in [(self.directory, self.state), *origins_of(self.directory, self.state)]:
            if ours & data.problems_of(recorded_suites(state, Store(directory), role).values()):
                yield state

    def refuse_another(self, target: Path, there: RunState) -> None:
        """Raise IdentityError unless the run that is there is the fork, begun when as much was recalled."""
        if there.created is None:
            return
        recorded = there.created.forked_from
        ours = f"{self._name}@{self.generation.number}"
        theirs = f"a fork of {recorded}" if recorded else "a run that is no fork"
        remedy = "Give another name= to begin a new one."
        if recorded is None or str(recorded) != ours:
            raise IdentityError(
                f"A fork continues the run that it started; {target} is {theirs}, not of {ours}. {remedy}"
            )
        then = Store(target).table(recorded.recalled)["id"].to_pylist() if recorded.recalled else []
        now = self._recalled().to_pylist()
        if set(then) != set(now):
            raise IdentityError(
                f"A fork begins with what is recalled in the run that it comes from: {len(then)} samples "
                f"when {target} was begun, {len(now)} in {self.directory} now. It may have learned from "
                f"them. {remedy}"
            )

    def config(self, overrides: Sequence[str]) -> dict[str, Any]:
        """What the run recorded, made a configuration of the fork: its settings are the generation's.

        Of a final they are its champion's; what is different in it holds for what the fork starts from alone.

        Raises ConfigError if an override is not a fork's to give.
        """
        for override in overrides:
            if key_of(override).split(".")[0] in FIXED:
                raise ConfigError(
                    f"A fork keeps the recipe and starts from the generation's weights: {', '.join(FIXED)} "
                    f"are fixed, got {override!r}. Start a run of its own for another value."
                )
        recorded = recorded_config(self.directory, self.state.session)
        again = self.generation.refit_of
        first = self.generation if again is None else self.state.generations[again]
        configured, own = recorded["settings"], recorded["genesis_settings"]
        in_genesis = tuned_in_genesis(first.settings, configured, own)
        configured |= in_genesis if first.is_genesis else first.settings
        trained = self.generation.settings
        own |= {key: value for key, value in trained.items() if key in own or value != first.settings[key]}
        base = str(Store(self.directory).path(self.weights))
        place = {"name": None, "runs_dir": str(self.directory.parent.parent)}
        return {**recorded, "genesis": "load", "base": base, "seal": "keep", **place}

    @property
    def _name(self) -> str:
        assert self.state.created is not None, "a run with generations was created"
        return f"{self.state.created.recipe}/{self.state.created.name}"

    def _recalled(self) -> pa.Array:
        """Ids of the samples that are recalled in the run, and in those beside it that it was forked from."""
        import pyarrow as pa

        runs = [(self.directory, self.state), *origins_of(self.directory, self.state)]
        columns = [Store(run).table(there.recalled)["id"] for run, there in runs if there.recalled]
        chunks = [chunk for column in columns for chunk in column.chunks]
        return pa.concat_arrays([pa.array([], pa.string()), *chunks]).unique()


def command_of(directory: Path, config_dir: str | None = None) -> str:
    """The command line that resumes a run."""
    options = ["--config-dir", config_dir] if config_dir else []
    return shlex.join(["python", "-m", "flywheel", "resume", str(directory), *options])
