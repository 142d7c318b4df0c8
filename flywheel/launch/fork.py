"""Fork: start a new run from a generation of another one.

The new run takes the generation's weights into its own store and adopts them as its genesis, so that it
needs nothing of the old run. Its configuration is the old run's with the overrides on top. What was
recalled there stays recalled here; its keys are its own, so that what it makes is nothing of that.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.config.components import identity_part
from flywheel.config.compose import compose, differences, flatten, hydra_value
from flywheel.errors import ConfigError, IdentityError, RunError
from flywheel.lineage.forks import origins_of, recalled_in_origins
from flywheel.lineage.status import read_state
from flywheel.storage.ledger import read_head
from flywheel.storage.state import Generation, RunState
from flywheel.storage.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

FIXED = ("recipe", "base", "genesis", "debug")
"""Keys that a fork decides itself: it has another run's recipe and takes its weights as they are."""
_ROUNDS = 4


def overrides_of_fork(
    directory: Path, number: int, overrides: Sequence[str], config_dir: str | None = None
) -> list[str]:
    """What to give ``python -m flywheel`` to run the fork, ``base`` and ``genesis`` left out.

    Raises RunError if the generation cannot be forked, ConfigError if an override is not a fork's to give
    or the recipe is no longer the one that the run was made with.
    """
    for override in overrides:
        key = re.split(r"[=@]", override.lstrip("+~"), maxsplit=1)[0]
        if key.split(".")[0] in FIXED:
            raise ConfigError(
                f"A fork keeps the recipe and starts from the generation's weights: {', '.join(FIXED)} are "
                f"not to be given; {override!r} was. Start a run of its own for another one."
            )
    state = read_state(directory)
    generation = _forkable(directory, state, number)
    created = state.created or {}
    same = _recorded_overrides(directory, created["config"], config_dir)
    settings = {} if generation.is_genesis else generation.settings
    own = [f"settings.{key}={hydra_value(value)}" for key, value in settings.items()]
    genesis = created["config"]["genesis_settings"]
    own += [f"genesis_settings.{k}={hydra_value(v)}" for k, v in settings.items() if k in genesis]
    return [*same, *own, *overrides]


def with_weights(overrides: Sequence[str], directory: Path, of: int | str) -> list[str]:
    """The overrides of a fork, with a generation's weights, or those of an artifact's name, to start from."""
    name = of if isinstance(of, str) else _forkable(directory, read_state(directory), of).weights
    return [*overrides, "genesis=load", f"base={_word(Store(directory).path(str(name)))}"]


def command_of(directory: Path, config_dir: str | None = None) -> str:
    """The command line that goes on with a fork, without the run that it came from."""
    created = read_state(directory).created or {}
    words = _recorded_overrides(directory, created["config"], config_dir)
    place = [f"runs_dir={_word(directory.parent.parent)}", f"name={directory.name}"]
    words = [*with_weights(words, directory, created["forked_from"]["weights"]), *place]
    options = ["--config-dir", config_dir] if config_dir else []
    return shlex.join(["python", "-m", "flywheel", *options, *words])


def begin(directory: Path, number: int, target: Path) -> dict[str, Any]:
    """Bring the weights, and the ids of what is recalled, into the new run's store; what to record of it."""
    import pyarrow as pa

    state, old, new = read_state(directory), Store(directory), Store(target)
    generation = _forkable(directory, state, number)
    recalled = _recalled(directory, state)
    return {
        "run": _name(state),
        "generation": number,
        "head": read_head(directory),
        "weights": new.put(old.get(str(generation.weights)), ".safetensors"),
        "recalled": new.put_table(pa.table({"id": recalled})) if len(recalled) else None,
    }


def refuse_another(directory: Path, number: int, target: Path) -> None:
    """Raise IdentityError unless the fork is new or there, begun when as much was recalled as now."""
    if not (target / "ledger.jsonl").is_file():
        return
    created, state = read_state(target).created, read_state(directory)
    if created is None:
        return
    origin, ours = created.get("forked_from") or {}, f"{_name(state)}@{number}"
    theirs = f"a fork of {origin['run']}@{origin['generation']}" if origin else "a run that is no fork"
    remedy = "Give another name= to begin a new one."
    if theirs != f"a fork of {ours}":
        raise IdentityError(
            f"A fork goes on in the run that was begun with it; {target} is {theirs}, not of {ours}. {remedy}"
        )
    recalled = origin["recalled"]
    known = set(Store(target).table(recalled)["id"].to_pylist()) if recalled else set()
    now = set(_recalled(directory, state).to_pylist())
    if known != now:
        raise IdentityError(
            f"A fork begins with what is recalled in the run that it comes from: {len(known)} samples when "
            f"{target} was begun, {len(now)} in {directory} now. It may have learned from them. {remedy}"
        )


def _recalled(directory: Path, state: RunState) -> pa.Array:
    """Ids of the samples that are recalled in a run, and in the runs beside it that it was forked from."""
    import pyarrow as pa

    found = [(directory, state), *origins_of(directory, state)]
    columns = [Store(run).table(there.recalled)["id"] for run, there in found if there.recalled]
    chunks = [chunk for column in columns for chunk in column.chunks]
    return pa.concat_arrays([pa.array([], pa.string()), *chunks]).unique()


def _name(state: RunState) -> str:
    created = state.created or {}
    return f"{created['recipe']}/{created['name']}"


def _word(path: Path) -> str:
    """A path in Hydra's grammar, quoted only if it must be: people will read it."""
    return str(path) if re.fullmatch(r"[\w./-]+", str(path)) else str(hydra_value(str(path)))


def _forkable(directory: Path, state: RunState, number: int) -> Generation:
    if not 0 <= number < len(state.generations):
        raise RunError(
            f"A fork starts from a generation of a run; {directory} has {len(state.generations)}, "
            f"numbered from 0: there is no {number}."
        )
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


def _recorded_overrides(directory: Path, config: Mapping[str, Any], config_dir: str | None) -> list[str]:
    """Overrides with which the recipe composes to the configuration that a run has recorded.

    What other keys refer to comes first, then what still differs, until nothing does.
    """
    old = dict(config)
    base = {"base": None, "genesis": "fresh"} | ({"init": "base"} if old["init"] == "base" else {})
    wanted = dict(flatten(old | base))
    found = [f"recipe={old['recipe']}", *([] if old["debug"] == "none" else [f"debug={old['debug']}"])]
    for shallow in (True, *[False] * _ROUNDS):
        composed = compose([*found, "genesis=fresh"], config_dir)
        now = dict(flatten(identity_part(composed) | base))
        differing = [k for k in sorted({*wanted, *now}) if differences(_leaf(wanted, k), _leaf(now, k))]
        if not differing:
            return [*found, *(["init=base"] if old["init"] == "base" else [])]
        roots = [key for key in differing if key.startswith("settings.") or "." not in key]
        for key in roots if shallow and roots else differing:
            found.append(f"++{key}={hydra_value(wanted[key])}" if key in wanted else f"~{key}")
    raise ConfigError(
        f"The recipe {old['recipe']!r} no longer composes to what {directory} was made with: "
        f"{', '.join(differing[:5])} differ."
    )


def _leaf(leaves: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {key: leaves[key]} if key in leaves else {}
