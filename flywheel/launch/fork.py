"""Fork: start a new run from a generation of another one.

The new run takes the generation's weights into its own store and adopts them as its genesis, so that it
needs nothing of the old run. Its configuration is the old run's with the overrides on top. What was
recalled there stays recalled here; its keys are its own, so that what it makes is nothing of that.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.errors import ConfigError, IdentityError, RunError
from flywheel.launch.recorded import changed, key_of, recorded_config
from flywheel.lineage.status import read_state
from flywheel.storage.events import ForkedFrom
from flywheel.storage.ledger import read_head
from flywheel.storage.state import Generation, RunState
from flywheel.storage.store import Store

if TYPE_CHECKING:
    import pyarrow as pa
    from omegaconf import DictConfig

FIXED = ("recipe", "base", "genesis", "debug")
"""Keys that a fork decides itself: it has another run's recipe and takes its weights as they are."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The generation of another run that a fork starts from."""

    directory: Path
    generation: int

    def begin(self, target: Path) -> ForkedFrom:
        """Bring the weights, and the ids of what is recalled, into the new run's store.

        Returns what to record of it.
        """
        import pyarrow as pa

        state, old, new = read_state(self.directory), Store(self.directory), Store(target)
        generation = _forkable(self.directory, state, self.generation)
        recalled = _recalled(self.directory, state)
        return ForkedFrom(
            run=_name(state),
            generation=self.generation,
            head=read_head(self.directory),
            weights=new.put(old.get(str(generation.weights)), ".safetensors"),
            recalled=new.put_table(pa.table({"id": recalled})) if len(recalled) else None,
        )

    def refuse_another(self, target: Path, there: RunState) -> None:
        """Raise IdentityError unless the run that is there is the fork, begun when as much was recalled."""
        if there.created is None:
            return
        state, origin = read_state(self.directory), there.created.forked_from
        ours = f"{_name(state)}@{self.generation}"
        theirs = f"a fork of {origin}" if origin else "a run that is no fork"
        remedy = "Give another name= to begin a new one."
        if origin is None or str(origin) != ours:
            raise IdentityError(
                f"A fork continues the run that it started; {target} is {theirs}, not of {ours}. {remedy}"
            )
        recalled = origin.recalled
        known = set(Store(target).table(recalled)["id"].to_pylist()) if recalled else set()
        now = set(_recalled(self.directory, state).to_pylist())
        if known != now:
            raise IdentityError(
                f"A fork begins with what is recalled in the run that it comes from: {len(known)} samples "
                f"when {target} was begun, {len(now)} in {self.directory} now. It may have learned from "
                f"them. {remedy}"
            )


def config_of_fork(
    origin: Origin,
    overrides: Sequence[str],
    config_dir: str | None = None,
    trusted: Iterable[str] = (),
    sections: Mapping[str, Mapping[str, Any]] | None = None,
) -> DictConfig:
    """The configuration of a fork: the recorded one, the generation's settings, and the overrides on top.

    Raises RunError if the generation cannot be forked or names a class that is not trusted here,
    ConfigError if an override is not a fork's to give.
    """
    for override in overrides:
        if key_of(override).split(".")[0] in FIXED:
            raise ConfigError(
                f"A fork keeps the recipe and starts from the generation's weights: {', '.join(FIXED)} are "
                f"fixed, got {override!r}. Start a run of its own for another value."
            )
    directory = origin.directory
    state = read_state(directory)
    generation = _forkable(directory, state, origin.generation)
    recorded = recorded_config(directory, state.session)
    settings = {} if generation.is_genesis else generation.settings
    for section in ("settings", "genesis_settings"):
        known = recorded[section]
        known |= {key: value for key, value in settings.items() if section == "settings" or key in known}
    weights = Store(directory).path(str(generation.weights))
    recorded |= {"genesis": "load", "base": str(weights)}
    recorded |= {"name": None, "runs_dir": str(directory.parent.parent)}
    return changed(directory, recorded, overrides, config_dir, trusted, sections)


def command_of(directory: Path, config_dir: str | None = None) -> str:
    """The command line that resumes a run."""
    options = ["--config-dir", config_dir] if config_dir else []
    return shlex.join(["python", "-m", "flywheel", "resume", str(directory), *options])


def _recalled(directory: Path, state: RunState) -> pa.Array:
    """Ids of the samples that are recalled in a run, and in the runs beside it that it was forked from."""
    import pyarrow as pa

    from flywheel.lineage.forks import origins_of

    runs = [(directory, state), *origins_of(directory, state)]
    columns = [Store(run).table(there.recalled)["id"] for run, there in runs if there.recalled]
    chunks = [chunk for column in columns for chunk in column.chunks]
    return pa.concat_arrays([pa.array([], pa.string()), *chunks]).unique()


def _name(state: RunState) -> str:
    assert state.created is not None, "a run with generations was created"
    return f"{state.created.recipe}/{state.created.name}"


def _forkable(directory: Path, state: RunState, number: int) -> Generation:
    if not 0 <= number < len(state.generations):
        raise RunError(
            f"A fork starts from a generation of a run; {directory} has {len(state.generations)}, "
            f"numbered from 0: there is no {number}."
        )
    from flywheel.lineage.forks import recalled_in_origins

    generation = state.generations[number]
    if generation.weights is None:
        raise RunError(f"A fork starts from weights; generation {number} of {directory} has none.")
    Store(directory).require(generation.weights)
    if generation.recalled:
        raise RunError(
            f"A fork starts from what is not recalled; generation {number} of {directory} is. Its champion "
            f"is generation {state.champion.number if state.champion else 'none'}."
        )
    origin = recalled_in_origins(directory, state).get(number)
    if origin is not None:
        raise RunError(
            f"A fork starts from what is not recalled; generation {number} of {directory} learned from what "
            f"{origin} has recalled since. Recall it here, too, or fork a generation before that."
        )
    return generation
