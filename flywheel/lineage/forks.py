"""The runs beside one that descend from a flaw in it, and what descends from those in turn.

A run beside this one does if it started from weights that are flawed, or if one of its corpora has a
flawed sample: a fork began with all human samples of its source, and twins draw the same ones. What is
flawed there is flawed for its neighbours too, so the search goes on until no run adds anything. It is by
content alone: no clock and no name decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flywheel.errors import RunError
from flywheel.lineage.graph import Descent, descend, turns_by_batch
from flywheel.lineage.status import all_runs, read_state
from flywheel.records import Answer
from flywheel.storage import ledger
from flywheel.storage.events import ForkedFrom, RunCreated
from flywheel.storage.ids import batch_of
from flywheel.storage.reader import reread_when_pruned
from flywheel.storage.state import RunState
from flywheel.storage.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

HUMAN = ""
"""Whose samples the human ones are, where those of a model have its weights."""
_UNREADABLE = (RunError, OSError, LookupError, TypeError, ValueError, AttributeError)
"""What a run raises that is damaged, or that somebody made up."""


class Fork(Answer, frozen=True):
    """A run beside this one that descends from a flaw."""

    run: str
    """Its directory."""
    of: str
    """The run whose weights it started from, or whose flawed samples it drew."""
    generation: int | None
    """The generation of ``of`` with those weights; None: it drew samples."""
    by: str
    """``init`` or ``trained_on``."""
    generations: tuple[int, ...]
    """Those that are flawed there."""


class Unread(Answer, frozen=True):
    """A run beside this one that could not be asked."""

    run: str
    """Its directory."""
    why: str
    """What reading it raised, e.g. ``DamagedError: ledger.jsonl: line 3 ...``."""


@dataclass(frozen=True, slots=True)
class Beside:
    """The runs beside one that descend from a flaw, and those that could not be asked."""

    forks: tuple[Fork, ...] = ()
    unread: tuple[Unread, ...] = ()


def forks_of(directory: Path, state: RunState, descent: Descent) -> Beside:
    """What of the runs beside this one descends from a flaw that reached so much of this one."""
    if not (descent.flawed or descent.samples):
        return Beside()
    directory = directory.resolve()
    flaw, forks, unread = _Flaw(), dict[str, Fork](), list[Unread]()
    flaw.add(str(directory), state, descent)
    beside, asked = list(_others(directory, unread)), dict[Path, int]()
    while waiting := [run for run in beside if run.touches(flaw) and asked.get(run.path) != flaw.size]:
        for run in waiting:
            asked[run.path] = flaw.size  # as it was: what is flawed in a run may be what it began from
            try:
                entry = _asked(run.path, run.starts, flaw)
            except _UNREADABLE as error:
                beside.remove(run)
                unread.append(_unread(run.path, error))
                continue
            if entry:
                forks[str(run.path)] = entry
    return Beside(tuple(forks[path] for path in sorted(forks)), tuple(unread))


def origins_of(directory: Path, state: RunState) -> Iterator[tuple[Path, RunState]]:
    """The runs beside a fork that it came from, the nearest first, as far as they are there."""
    directory = directory.resolve()
    seen = {directory}
    while forked_from := state.created and state.created.forked_from:
        origins = (_origin(path, forked_from) for path in _beside(directory) if path.resolve() not in seen)
        origin = next(filter(None, origins), None)
        if origin is None:
            return
        seen.add(origin[0].resolve())
        yield origin
        state = origin[1]


@reread_when_pruned
def recalled_in_origins(directory: Path, state: RunState) -> dict[int, str]:
    """Generations of a fork that learned from what the runs it came from have recalled -> which of them.

    The fork cannot know: a recall records nothing in other runs.
    """
    reached: dict[int, str] = {}
    for origin, theirs in origins_of(directory, state):
        for fork in forks_of(origin, theirs, _recalled_in(Store(origin), theirs)).forks:
            if Path(fork.run).resolve() == directory.resolve():
                reached = dict.fromkeys(fork.generations, str(origin)) | reached
    return reached


def _recalled_in(store: Store, state: RunState) -> Descent:
    """All that is recalled in a run, as one flaw."""
    import pyarrow.compute as pc

    descent = Descent(flawed={g.number: ["named"] for g in state.generations if g.recalled})
    if state.recalled is not None:
        recalled = store.table(state.recalled)["id"].combine_chunks()
        for batch, turn in turns_by_batch(state).items():
            ids = store.table(state.resolve_pruned(batch), ["id"])["id"]
            ids = ids.filter(pc.is_in(ids, value_set=recalled))
            if len(ids):
                descent.samples[turn] = ids
    return descent


def _origin(path: Path, forked_from: ForkedFrom) -> tuple[Path, RunState] | None:
    """A run with its state, if it is the one that a fork names: by its lines, not its folder's name."""
    try:
        created = ledger.first_event(path)
        if not isinstance(created, RunCreated) or f"{created.recipe}/{created.name}" != forked_from.run:
            return None
        events = ledger.read(path)
        is_it = any(event.hash == forked_from.head for event in events)
        return (path, RunState.replay(events)) if is_it else None
    except _UNREADABLE:
        return None


@reread_when_pruned
def _asked(path: Path, starts: frozenset[str], flaw: _Flaw) -> Fork | None:
    """How a run descends from the flaw, which from then on has what is flawed there; None: it does not."""
    state, store = read_state(path), Store(path)
    samples = dict(flaw.samples_in(state, store))
    started = sorted(starts & flaw.weights.keys())
    if not (started or samples):
        return None
    descent = descend(store, state, samples=samples, weights=flaw.weights)
    if not (started or descent.flawed):
        return None
    of, number = flaw.weights[started[0]] if started else (flaw.of_samples(samples, state), None)
    flaw.add(str(path), state, descent)
    by = "init" if started else "trained_on"
    return Fork(str(path), of, number, by, tuple(descent.flawed))


@dataclass(frozen=True, slots=True)
class _Run:
    """What of a run tells whether a flaw may touch it. The whole state of each would take much memory."""

    path: Path
    starts: frozenset[str]
    """Weights from elsewhere that it began from, or that are a rival's."""
    makers: frozenset[str]
    """Weights that made its samples, and ``HUMAN``."""

    def touches(self, flaw: _Flaw) -> bool:
        """Whether it may descend from the flaw."""
        return not (self.starts.isdisjoint(flaw.weights) and self.makers.isdisjoint(flaw.samples))


class _Flaw:
    """Weights and samples that are flawed, in whichever run."""

    def __init__(self) -> None:
        self.weights: dict[str, tuple[str, int]] = {}
        """Artifact -> the run and the generation that had it first."""
        self.samples: dict[str, dict[str, pa.ChunkedArray]] = {}
        """Weights that made them, or ``HUMAN`` -> run -> ids."""
        self.size = 0
        """Of use to see whether it grew."""

    def add(self, run: str, state: RunState, descent: Descent) -> None:
        """Add what is flawed in a run."""
        import pyarrow as pa

        for number in descent.flawed:
            weights = state.generations[number].weights
            if weights is not None:
                self.weights.setdefault(weights, (run, number))
        makers = makers_in(state)
        ids: dict[str, list[pa.Array]] = {}
        for turn, column in descent.samples.items():
            for maker in makers[turn]:
                ids.setdefault(maker, []).extend(column.chunks)
        for maker, chunks in ids.items():
            self.samples.setdefault(maker, {})[run] = pa.chunked_array(chunks, pa.string())
        of_runs = (column for runs in self.samples.values() for column in runs.values())
        self.size = len(self.weights) + sum(map(len, of_runs))

    def samples_in(self, state: RunState, store: Store) -> Iterator[tuple[int, pa.ChunkedArray]]:
        """(turn, ids) of the flawed samples in a run's batches: an id says who made it."""
        import pyarrow as pa
        import pyarrow.compute as pc

        for turn, makers in makers_in(state).items():
            found = (ids for maker in makers for ids in self.samples.get(maker, {}).values())
            chunks = [chunk for ids in found for chunk in ids.chunks]
            if chunks:
                batch = str(batch_of(state.generations[turn]))
                ids = store.table(state.resolve_pruned(batch), ["id"])["id"]
                matching = ids.filter(pc.is_in(ids, value_set=pa.concat_arrays(chunks)))
                if len(matching):
                    yield turn, matching

    def of_samples(self, samples: Mapping[int, pa.ChunkedArray], state: RunState) -> str:
        """The run in which such samples were found flawed first."""
        makers = makers_in(state)
        found = ((turn, maker) for turn in samples for maker in makers[turn])
        return next(run for _, maker in found for run in self.samples.get(maker, {}))


def makers_in(state: RunState) -> dict[int, tuple[str, ...]]:
    """Turn -> the weights that made its batch, or ``HUMAN``; of the human one, the first genesis."""
    turns = {turn: state.generations[turn] for turn in turns_by_batch(state).values()}
    return {number: tuple(state.makers_of(turn)) or (HUMAN,) for number, turn in turns.items()}


def _beside(directory: Path) -> list[Path]:
    return sorted(all_runs(str(directory.resolve().parent.parent)))


def _others(directory: Path, unread: list[Unread]) -> Iterator[_Run]:
    for path in _beside(directory):
        if path.resolve() != directory:
            try:
                yield _run(path, read_state(path))
            except _UNREADABLE as error:  # that run's own matter, and no reason not to recall this one
                unread.append(_unread(path, error))


def _run(path: Path, state: RunState) -> _Run:
    origin = state.created.forked_from if state.created else None
    seeds = [generation.seed.outputs for generation in state.generations if generation.seed]
    given = (weights for outputs in seeds for name, weights in outputs.items() if _is_weights(name))
    starts = frozenset(filter(None, [origin.weights if origin else None, *given]))
    return _Run(path, starts, frozenset(maker for makers in makers_in(state).values() for maker in makers))


def _is_weights(output: str) -> bool:
    """Whether an output of ``seed`` is weights from elsewhere."""
    return output == "base" or output.startswith("rival_")


def _unread(path: Path, error: BaseException) -> Unread:
    return Unread(str(path), f"{type(error).__name__}: {error}")
