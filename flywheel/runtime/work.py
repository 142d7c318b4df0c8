"""The work of a stage in units. Finished units survive a crash.

``RUN/work/STAGE/plan.json`` names the stage, the generation, a hash of all that the units depend on, and the
boundaries; it is written when the stage starts, and another plan discards what is there. What units made is
added in batches, ``NUMBER-SHA256.arrow`` (the number is that of the first), each fsynced, at most every few
seconds: a stage that is quicker leaves none. What an outside service answered is added unit by unit. A stage
that was killed does the missing units, and so does one that failed if an outside service was asked; a batch
that is not what its name says is made again. The folder is removed once the stage is in the ledger.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
from msgspec.structs import replace

from flywheel import ranks
from flywheel.config.credentials import without_secrets
from flywheel.errors import Control
from flywheel.protocols import Executor
from flywheel.records import Json, Unit, UnitResult
from flywheel.runtime.meter import Counts, Meter
from flywheel.storage import files
from flywheel.storage.events import Units
from flywheel.storage.ledger import canonical

FOLDER, PLAN = "work", "plan.json"
KEEP_EVERY_SECONDS = 2.0
"""How long what units made is in memory alone."""
_KEEP_BYTES = 64 << 20
REASONS, REASON_LENGTH = 3, 200
"""How many reasons of failures are recorded, and how much of each, in characters."""
_IS_PAID = b'"outside_service":true'


def cut(size: int, *counts: int) -> list[int]:
    """Boundaries of units of ``size`` rows; none spans two of the parts that have so many rows each.

    Example: ``cut(2, 3, 2) == [0, 2, 3, 5]``.
    """
    boundaries, first = [0], 0
    for count in counts:
        boundaries += [*range(first + size, first + count, size), first + count] if count else []
        first += count
    return boundaries


def to_bytes(table: pa.Table) -> bytes:
    """A table as a stream of Arrow's IPC format."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def to_table(data: Any) -> pa.Table:
    """The table of ``to_bytes``."""
    return pa.ipc.open_stream(data).read_all()


class CutOff(Exception):
    """A stop was asked for within a unit that one rank did alone: it is no failure, and is done again."""


def attempt(work: Callable[[Unit], bytes], unit: Unit) -> UnitResult:
    """A unit's result, or its failure, with the time it took."""
    began = time.monotonic()
    data, error = None, None
    try:
        data = work(unit)
    except Exception as failure:
        error = failure
    return UnitResult(unit.number, data, error, time.monotonic() - began)


@dataclass(slots=True)
class UnitsDone:
    """What the ledger says of the units of a stage."""

    count: int = 0
    seconds: float = 0.0
    """Wall time of all units, on whichever rank and in whichever session they were made."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Why units failed, and how many."""
    _digest: Any = field(default_factory=hashlib.sha256)

    def add(self, result: UnitResult) -> None:
        """Count a unit, made or failed."""
        self.count += 1
        self.seconds += result.seconds
        self.reasons.update([str(result.error)] if result.error else [])
        content = str(result.error).encode() if result.error else result.data
        self._digest.update(hashlib.sha256(content or b"").digest())

    @property
    def facts(self) -> Units:
        """Count and digest, and of those that failed how many and why: the same for any ranks and kills."""
        made = Units(count=self.count, digest=self._digest.hexdigest())
        reasons = dict(self.reasons.most_common(REASONS))
        return replace(made, failed=self.reasons.total(), reasons=reasons) if reasons else made

    @property
    def why_failed(self) -> str:
        """The end of a sentence: the most frequent reason; empty if no unit failed."""
        return f", as units failed: {self.reasons.most_common(1)[0][0]}" if self.reasons else ""


@dataclass(frozen=True, slots=True)
class Work:
    """Does the units of one stage."""

    executor: Executor
    folder: Path | None
    """``RUN/work/STAGE``; None: nothing is kept."""
    stage: Mapping[str, Json]
    """Whose units they are: ``stage`` and ``generation``."""
    conditions: Json
    """What they depend on besides what the stage says."""
    skip_failures: bool
    report_progress: Callable[[int, int | None, str], None]
    meter: Meter = field(default_factory=Meter)

    def do(
        self,
        boundaries: Sequence[int],
        work: Callable[[Unit], bytes],
        take: Callable[[Unit, pa.Table | None, Exception | None], None],
        *,
        inputs: Json = None,
        part: Any = None,
        counts: Counts = MappingProxyType({}),
        note: Callable[[Unit], str] = lambda unit: "",
    ) -> UnitsDone:
        """Do all units; all ranks must call it.

        ``boundaries``: the first row of each unit, and the end. ``work`` makes a unit, a table as bytes; it
        must be picklable, for executors with processes of their own. On rank 0, ``take`` is handed each
        unit's table in the order of numbers, or None and why it failed, where that is skipped; where it is
        not, the first failure is raised. ``inputs``: what else the units depend on; None: keep none of them.
        ``part``: whose answers they are; those of an outside service are kept at once. ``counts``: what the
        budget counts of the rows, and holds from one unit to the next.
        """
        at_once = bool(getattr(part, "outside_service", False))
        if ranks.rank() != 0:
            for _ in self.executor.run(work, ()):
                pass
            return UnitsDone()
        units = [Unit(k, *boundaries[k : k + 2]) for k in range(len(boundaries) - 1)]
        kept, done = self._open(boundaries, inputs, at_once), UnitsDone()
        failure: Exception | None = None
        missing = (unit for unit in units if unit.number not in kept and failure is None)
        results = self.executor.run(work, missing)
        try:
            with self.meter.making(counts):
                for unit in units:
                    try:
                        if unit.number in kept:
                            result = kept.read(unit.number)
                        else:
                            result = kept.keep(self.settled(next(results)), at_once=at_once)
                        done.add(result)
                        rows = None if result.error else to_table(result.data)
                        if rows is not None and unit.number not in kept:  # else another session has counted
                            self.meter.add(counts, rows)
                        take(unit, rows, result.error)
                    except Exception as error:
                        failure = error
                        break
                    self.report_progress(unit.stop, boundaries[-1], note(unit))
                for _ in results:  # what is under way on other ranks
                    pass
        except Control:
            kept.flush()
            raise
        if failure is not None:
            raise failure
        return done

    def do_proposed(
        self,
        work: Callable[[Unit], bytes],
        propose: Callable[[int, bool], Json | None],
        take: Callable[[UnitResult, bool], None],
        *,
        inputs: Json,
    ) -> UnitsDone:
        """Do units of which each is proposed from the results of others, e.g. trials; all ranks must call it.

        On rank 0 ``propose(number, is_kept)`` says what the next unit is to do; None: nothing, or nothing
        before further results are taken. Asked again it must say the same; ``is_kept``: an earlier session
        has done that unit. ``take`` is handed the results in order, those that failed too, and whether they
        were made in this session. Each is kept at once.
        """
        proposed = _Proposed(self, self._open(None, inputs), propose, take)
        is_over = False
        while not is_over:
            for result in self.executor.run(work, proposed.missing() if ranks.rank() == 0 else ()):
                proposed.add(result)
            is_over = ranks.from_rank_0(proposed.is_over)
        return proposed.done

    def _open(self, boundaries: Sequence[int] | None, inputs: Json, is_paid: bool = False) -> _Kept:
        folder = self.folder if inputs is not None and ranks.rank() == 0 else None
        depends = hashlib.sha256(canonical([self.conditions, inputs])).hexdigest()
        plan = {"inputs": depends, "boundaries": boundaries and list(boundaries), "outside_service": is_paid}
        return _Kept(folder, canonical({**self.stage, **plan}))

    def settled(self, result: UnitResult) -> UnitResult:
        """A result whose failure is skipped. Raises it if it is not."""
        if result.error is not None and not self.skip_failures:
            raise result.error
        return _skipped(result)


def _skipped(result: UnitResult) -> UnitResult:
    """A result with its failure as it is recorded, which holds nothing of where it was raised."""
    if result.error is None:
        return result
    reason = without_secrets(f"{type(result.error).__name__}: {result.error}")
    return replace(result, error=_Skipped(reason[:REASON_LENGTH]))


@dataclass(slots=True)
class _Proposed:
    """The units of ``Work.do_proposed``, on rank 0."""

    _work: Work
    _kept: _Kept
    _propose: Callable[[int, bool], Json | None]
    _take: Callable[[UnitResult, bool], None]
    done: UnitsDone = field(default_factory=UnitsDone)
    """Those that were taken."""
    _asked: int = 0
    _made: dict[int, UnitResult] = field(default_factory=dict)
    """Those that were made and not taken yet, as one before them is still under way."""
    _under_way: dict[int, Unit] = field(default_factory=dict)
    _cut_off: list[Unit] = field(default_factory=list)

    def missing(self) -> Iterator[Unit]:
        """The units to make, as long as one is proposed; before that, those that were cut off."""
        while (unit := self._cut_off.pop(0) if self._cut_off else self._new()) is not None:
            self._under_way[unit.number] = unit
            yield unit

    def _new(self) -> Unit | None:
        while (task := self._next()) is not None:
            unit = Unit(self._asked, 0, 0, task)
            self._asked += 1
            if unit.number not in self._kept:
                return unit
        return None

    def add(self, result: UnitResult) -> None:
        """Keep a unit that was made, and take those that are next. One that was cut off is done again."""
        unit = self._under_way.pop(result.number)
        if isinstance(result.error, CutOff):
            self._cut_off.append(unit)
            return
        self._made[result.number] = self._kept.keep(_skipped(result), at_once=True)
        self._settle()

    def is_over(self) -> bool:
        """Whether all were taken and no further one is proposed."""
        return self._next() is None and self.done.count == self._asked

    def _next(self) -> Json | None:
        self._settle()
        return self._propose(self._asked, self._asked in self._kept)

    def _settle(self) -> None:
        while (number := self.done.count) < self._asked and (number in self._made or number in self._kept):
            is_new = number in self._made
            result = self._made.pop(number) if is_new else self._kept.read(number)
            self.done.add(result)
            self._take(result, is_new)


def discard_failed(directory: Path, stage: str) -> None:
    """Remove the units of a stage that failed. What an outside service answered stays for its next try."""
    try:
        is_paid = _IS_PAID in (directory / FOLDER / stage / PLAN).read_bytes()
    except OSError:
        is_paid = False
    if not is_paid:
        discard(directory, stage)


def discard_generations(directory: Path) -> None:
    """Remove all units but those of a look at sealed suites, which may be due though no generation is."""
    for folder in (directory / FOLDER).glob("*"):
        if folder.name != "sealed":
            discard(directory, folder.name)


def discard(directory: Path, stage: str) -> None:
    """Remove the units of a stage from a run."""
    shutil.rmtree(directory / FOLDER / stage, ignore_errors=True)
    with contextlib.suppress(OSError):  # other things are in there
        (directory / FOLDER).rmdir()


class _Skipped(Exception):
    """Why a unit failed, as it is recorded."""


class _Kept:
    """The finished units of a stage on disk. If they cannot be written, a crash loses them; nothing fails."""

    def __init__(self, folder: Path | None, plan: bytes) -> None:
        self._folder, self._plan = folder, plan
        self._batches: dict[int, Path] = {}
        self._open: tuple[Path | None, dict[int, UnitResult]] = (None, {})
        self._waiting: list[UnitResult] = []
        self._bytes, self._flushed, self._is_durable = 0, time.monotonic(), False
        if folder is not None:
            with contextlib.suppress(OSError):
                self._start(folder)

    def _start(self, folder: Path) -> None:
        path = folder / PLAN
        if path.is_file() and path.read_bytes() == self._plan:
            for batch in sorted(folder.glob("*-*.arrow")):
                if _is_whole(batch):
                    self._batches |= dict.fromkeys(_read(batch), batch)
                else:
                    batch.unlink()
            return
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        path.write_bytes(self._plan)  # made durable with the first batch: until then nothing depends on it

    def __contains__(self, number: int) -> bool:
        return number in self._batches

    def read(self, number: int) -> UnitResult:
        batch = self._batches[number]
        if self._open[0] != batch:
            self._open = batch, _read(batch)
        return self._open[1][number]

    def keep(self, result: UnitResult, *, at_once: bool = False) -> UnitResult:
        """Have the result written with the next batch."""
        if self._folder is not None:
            self._waiting.append(result)
            self._bytes += len(result.data or b"")
            is_due = time.monotonic() - self._flushed >= KEEP_EVERY_SECONDS
            if at_once or is_due or self._bytes >= _KEEP_BYTES:
                self.flush()
        return result

    def flush(self) -> None:
        """Write the results that wait as one batch, fsynced."""
        if self._folder is None or not self._waiting:
            return
        data = _batch(self._waiting)
        name = f"{self._waiting[0].number:08d}-{hashlib.sha256(data).hexdigest()}.arrow"
        with contextlib.suppress(OSError):
            if not self._is_durable:
                files.make_directory(self._folder)
                files.write_atomic(self._folder / PLAN, self._plan)
                self._is_durable = True
            files.write_atomic(self._folder / name, data)
        self._waiting, self._bytes, self._flushed = [], 0, time.monotonic()


def _batch(results: Sequence[UnitResult]) -> bytes:
    columns = {
        "number": pa.array([r.number for r in results], pa.int64()),
        "data": pa.array([r.data for r in results], pa.large_binary()),
        "reason": pa.array([r.error and str(r.error) for r in results], pa.string()),
        "seconds": pa.array([r.seconds for r in results], pa.float64()),
    }
    return to_bytes(pa.table(columns))


def _is_whole(batch: Path) -> bool:
    """Whether a batch is what its name says."""
    with batch.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == batch.stem.partition("-")[2]


def _read(batch: Path) -> dict[int, UnitResult]:
    """The units of a batch, by number. Their data is read from disk when it is used."""
    table = to_table(pa.memory_map(str(batch)))
    numbers, reasons, seconds = (table[name].to_pylist() for name in ("number", "reason", "seconds"))
    errors = [reason and _Skipped(reason) for reason in reasons]
    data = [None if error else table["data"][k].as_buffer() for k, error in enumerate(errors)]
    return {n: UnitResult(n, *result) for n, *result in zip(numbers, data, errors, seconds, strict=True)}
