"""Train a generation again from what the run recorded, and compare.

On the same CPU type, torch build and number of threads and ranks the weights come out the same to the bit;
elsewhere ``Reproduction`` says how far off they and the outcomes are. The run is only read.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel import ranks
from flywheel.config.components import Components
from flywheel.config.identity import differences
from flywheel.config.modules import Code, is_there
from flywheel.errors import PrunedError, RunError
from flywheel.executors import executor_of_process
from flywheel.launch.identity import check_data
from flywheel.launch.session import versions
from flywheel.lineage.code_changes import differing, hashes
from flywheel.records import Answer, Json, Weights
from flywheel.runtime.context import Stage, StageOutput, StageTools
from flywheel.runtime.data import read_data
from flywheel.runtime.environment import compute, distributions, use_threads
from flywheel.runtime.extra_state import unpack
from flywheel.runtime.stop import Stop
from flywheel.stages import table as stages
from flywheel.storage import ledger
from flywheel.storage.events import Event, ScreenFacts, SessionStarted, StageDone, TrainFacts
from flywheel.storage.state import Generation, RunState
from flywheel.storage.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

WEIGHTS, OUTCOMES = "weights.safetensors", "outcomes.parquet"


class Reproduction(Answer, frozen=True):
    """How a generation that was trained again compares with the recorded one."""

    weights_equal: bool
    max_abs: float | None
    """Largest difference of a weight; None if the recorded weights were pruned and these are others."""
    relative_l2: float | None
    """Norm of the difference over the norm of the recorded weights; None likewise."""
    items: int
    flipped: int
    """Evaluated items with another score."""
    by_suite: dict[str, int]
    """Those of each suite."""
    differences: dict[str, list[Any]]
    """What is not as it was: name -> [then, now]. Empty: the same CPU type, build, code and threads."""
    into: str | None

    @property
    def equal(self) -> bool:
        """Whether weights and outcomes are the same to the bit."""
        return self.weights_equal and not self.flipped

    def json(self) -> dict[str, Json]:
        """Its fields by name, whether all is equal, and whether it was made in the same conditions."""
        return {"equal": self.equal, "same_conditions": not self.differences, **super().json()}

    def __str__(self) -> str:
        off = "the weights are equal to the bit" if self.weights_equal else self._how_far()
        lines = [f"{off}; {self.flipped} of {self.items} evaluated items differ"]
        lines += [f"  {name}: {then} then, {now} now" for name, (then, now) in self.differences.items()]
        if not self.equal and not self.differences:
            lines.append(
                "  CPU type, build, code, versions and threads are as they were: the recipe is not repeatable"
            )
        return "\n".join(lines)

    def _how_far(self) -> str:
        if self.max_abs is None:
            return "the weights differ, and how far cannot be said, since the recorded ones were pruned"
        return f"the weights differ by at most {self.max_abs:.3g}, by {self.relative_l2:.3g} of their norm"


def reproduce(
    directory: Path, number: int, components: Components, into: str | Path | None = None
) -> Reproduction:
    """Train and evaluate generation ``number`` again; ``components`` are those of its recorded config.

    ``into``: a new or empty folder to leave its weights and outcomes in. Raises RunError if the generation
    was not evaluated, PrunedError if what it was made from was dropped, IdentityError if the recipe's data
    are others than they were.
    """
    import pyarrow.parquet as pq
    from safetensors.torch import save

    lines = ledger.read(directory)
    state = RunState.replay(lines)
    generation = state.generations[number]
    # A final is on the sealed suites alone, and what came to no look on dev.
    evaluated = generation.evaluate or generation.screen or state.sealed.get(number)
    if evaluated is None:
        raise RunError(f"Only what was evaluated is reproduced; generation {number} is {generation.status}.")
    session = session_of(lines, generation)
    with _folder(into) as folder, use_threads(session.threads):
        again = _Again(directory, folder, state, generation, components)
        try:
            weights = again.train()
            data = save(weights)
            (folder / WEIGHTS).write_bytes(data)
            name = again.store.add(hashlib.sha256(data).hexdigest() + ".safetensors", weights)
            outcomes = again.evaluate(name)
        except PrunedError as error:
            raise PrunedError(f"Generation {number} was made from what is gone. {error}") from None
        pq.write_table(outcomes, folder / OUTCOMES)
        return Reproduction(
            **_compare_weights(again.store, state, str(generation.weights), name),
            **_compare_outcomes(again.store.table(evaluated.outputs["outcomes"]), outcomes),
            differences=_differences(session.json(), conditions(components))
            | _code_differences(again.store, session),
            into=str(folder) if into else None,
        )


def session_of(events: list[Event], generation: Generation) -> SessionStarted:
    """The ``session_started`` of the session that trained a generation."""
    before = events[: _training(generation).seq]
    return next(event for event in reversed(before) if isinstance(event, SessionStarted))


def conditions(components: Components) -> dict[str, object]:
    """What the last bits of a fit depend on, of this process, as a session records it."""
    import torch

    own = {"threads": torch.get_num_threads(), "world_size": ranks.world_size()}
    return {**own, "compute": compute(components.resolved["trainer"]), "versions": versions()}


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[Any]]:
    differing_keys: dict[str, list[Any]] = {}
    for name, value in now.items():
        if isinstance(value, Mapping):
            differing_keys.update(_differences(then.get(name, {}), value))
        elif differences(then.get(name), value):
            differing_keys[name] = [then.get(name), value]
    return differing_keys


def _code_differences(store: Store, session: SessionStarted) -> dict[str, list[Any]]:
    """Modules and distributions that are not what they were in a session, or are not known.

    What the run names is read, and not imported: it may not be trusted here.
    """
    then, installed = (store.json(session.outputs[name]) for name in ("code", "distributions"))
    now = Code.exactly(name for name, module in then.items() if "text" in module and is_there(name)).json()
    modules = differing(hashes(then), hashes(now))
    changes: dict[str, list[Any]] = {f"module {name}": [*pair] for name, pair in modules.items()}
    return changes | {f"installed {name}": [*x] for name, x in differing(installed, distributions()).items()}


def _training(generation: Generation) -> StageDone[TrainFacts]:
    """The stage that made a generation's weights. Raises RunError."""
    if generation.train is None:
        raise RunError(f"Generation {generation.number} is {generation.status}: it has no weights.")
    return generation.train


_REMEDY = "A generation is trained again with the recipe that made it: `show` names its commit and versions."


def _compare_weights(store: Store, state: RunState, recorded: str, made: str) -> dict[str, Any]:
    """Equal to the bit? Else how far apart; unknown if the recorded ones were pruned."""
    if made == recorded:
        return {"weights_equal": True, "max_abs": 0.0, "relative_l2": 0.0}
    if recorded in state.pruned:
        return {"weights_equal": False, "max_abs": None, "relative_l2": None}
    return {"weights_equal": False, **distance(store.weights(made), store.weights(recorded))}


def distance(ours: Weights, theirs: Weights) -> dict[str, float]:
    """``max_abs`` and ``relative_l2`` between two sets of weights of one model; extra state left out."""
    import torch

    (ours, _), (theirs, _) = unpack(ours), unpack(theirs)
    square = norm = largest = 0.0
    for name, tensor in theirs.items():
        a, b = (t.to(torch.complex128 if t.is_complex() else torch.float64) for t in (ours[name], tensor))
        apart = (a - b).abs().where(a != b, 0.0)  # equal infinities are no distance apart
        square += float((apart**2).sum())
        norm += float((b.abs().where(b.isfinite(), 0.0) ** 2).sum())
        largest = max(largest, float(apart.max()) if apart.numel() else 0.0)
    return {"max_abs": largest, "relative_l2": math.sqrt(square / norm) if norm else math.inf}


def _compare_outcomes(recorded: pa.Table, made: pa.Table) -> dict[str, Any]:
    """How many items have another score, also by suite. Both tables have the recorded items in order."""
    flipped = recorded["score"].to_numpy() != made["score"].to_numpy()
    suites = recorded["suite"].to_numpy()
    by_suite = {name: int(flipped[suites == name].sum()) for name in dict.fromkeys(suites.tolist())}
    return {"items": len(recorded), "flipped": int(flipped.sum()), "by_suite": by_suite}


@contextmanager
def _folder(into: str | Path | None) -> Iterator[Path]:
    """The folder that is asked for, new or empty, or one that is removed afterwards."""
    if into is None:
        with tempfile.TemporaryDirectory(prefix="flywheel-") as folder:
            yield Path(folder)
        return
    path = Path(into)
    path.mkdir(parents=True, exist_ok=True)
    if any(path.iterdir()):
        raise RunError(f"--into must be a new or an empty folder; {path} has files. Give another one.")
    yield path


class _Beside(Store):
    """A run's store, with weights beside those of the run; nothing is written to it."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._beside: dict[str, Weights] = {}

    def add(self, name: str, weights: Weights) -> str:
        """Have these weights read as the artifact ``name``."""
        self._beside[name] = weights
        return name

    def weights(self, name: str) -> Weights:
        return self._beside.get(name) or super().weights(name)


class _Again:
    """Does the stages of a generation again."""

    def __init__(
        self, directory: Path, folder: Path, state: RunState, generation: Generation, components: Components
    ) -> None:
        self.store, self._state = _Beside(directory), state
        self._generation = generation
        data = read_data(components.task, needs_seed=False)
        recorded = check_data(directory, state, self.store, data, _REMEDY)
        stop = Stop(folder)
        self._tools = StageTools(components, self.store, recorded, stop, executor_of_process(stop.check))

    def train(self) -> Weights:
        """The weights, from the recorded corpus and start."""
        generation, made = self._generation, _training(self._generation)
        start = made.facts.start
        if made.stage == "adopt":
            done = self._do(stages.adopt, start=start)
        else:
            corpus, sources = generation.output("curate", "corpus"), generation.output("curate", "sources")
            rows = {"corpus": corpus, "sources": sources}
            done = self._do(stages.train, **rows, start=start, share=made.facts.share)
        weights: Weights = done.outputs["weights"]
        return weights

    def evaluate(self, weights: str) -> pa.Table:
        """Outcomes of the weights; the opponent is needed for duels only."""
        generation = self._generation
        if generation.screen and not generation.evaluate:
            return self._screen(weights, generation.screen)
        is_final = generation.evaluate is None
        stage = stages.sealed if is_final else stages.evaluate
        rival = self._state.first_champion if is_final else self._champion(generation.champion)
        duels = any(suite.duel for suite in self._tools.data.suites.values())
        return self._do(stage, weights=weights, opponent=rival if duels else None).outputs["outcomes"]

    def _screen(self, weights: str, screened: StageDone[ScreenFacts]) -> pa.Table:
        """Outcomes on dev, beside those of the generations that it was compared with, the champion first."""
        against = {
            str(one.generation): screened.inputs[f"against.{one.generation}"]
            for one in screened.facts.against
        }
        champion = self._champion(screened.facts.against[0].generation)
        given = {"weights": weights, "opponent": champion, "against": against}
        return self._do(stages.screen, **given, rule=self._state.promotion).outputs["outcomes"]

    def _champion(self, number: int | None) -> Generation | None:
        return None if number is None else self._state.generations[number]

    def _do(self, stage: Stage, **inputs: Any) -> StageOutput:
        settings = self._generation.settings
        return self._tools.run(stage, self._generation.number, self._state.key, settings, **inputs)
