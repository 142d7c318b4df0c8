"""The trials of several runs in one file, which their tuners share: ``tuner.memory=PATH``.

A line is a JSON object: a study, ``{"run", "generation", "of", "results"}``, or what a recall retires,
``{"run", "retired": [generations]}``, which no tuner is shown from then on. ``run`` is the hash of the run's
first line. Lines are only added, under a lock, and fsynced; a torn last one, of a crash, is passed over.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import msgspec

from flywheel.errors import DataError
from flywheel.records import Json, TrialResult
from flywheel.storage.ledger import canonical

NEWEST = 50
"""Studies that a tuner is shown, the newest ones."""
_RULE = "tuner.memory must be a file that can be read and written; {}: {}. Give another path."
_BEGINNINGS = (b'{"generation":', b'{"retired":')


class _Study(msgspec.Struct):
    """A line with trials."""

    run: str
    generation: int
    of: str
    results: list[TrialResult]


class _Retired(msgspec.Struct):
    """A line of a recall."""

    run: str
    retired: list[int]


def studies(path: Path, *, apart_from: str) -> list[dict[str, Json]]:
    """What other runs than this one have tried and not retired: ``of`` and ``results``, the oldest first.

    Empty if there is no such file. Raises DataError if it is no memory.
    """
    if not path.exists():
        return []
    with _reading(path) as file:
        lines = _read(path, file)
    retired = _retired(lines)
    chosen = [line for line in lines if "results" in line and line["run"] != apart_from]
    left = [line for line in chosen if (line["run"], line["generation"]) not in retired]
    return [{"of": line["of"], "results": line["results"]} for line in left[-NEWEST:]]


def check(path: Path) -> None:
    """Raise DataError if it is no memory, or could not be written. Nothing is made."""
    studies(path, apart_from="")
    place = next(one for one in (path, *path.absolute().parents) if one.exists())
    if not os.access(place, os.W_OK) or (place != path and not place.is_dir()):
        raise DataError(_RULE.format(path, f"{place} is none that can be"))


def add(path: Path, run: str, generation: int, of: str, results: Sequence[Json]) -> None:
    """Add a study, unless it is there already. Raises DataError if it cannot be written."""
    study = {"run": run, "generation": generation, "of": of, "results": list(results)}
    with _open(path) as file:
        there = ((line["run"], line["generation"]) for line in _read(path, file) if "results" in line)
        if (run, generation) not in there:
            _append(file, study)


def in_use(path: Path, run: str, generations: Iterable[int]) -> list[int]:
    """Those of these generations of a run whose studies are shown to tuners."""
    if not path.exists():
        return []
    with _reading(path) as file:
        return _in_use(_read(path, file), run, generations)


def retire(path: Path, run: str, generations: Iterable[int]) -> list[int]:
    """Retire the studies of these generations of a run; which of them were in use."""
    if not path.exists():
        return []
    with _open(path) as file:
        due = _in_use(_read(path, file), run, generations)
        if due:
            _append(file, {"run": run, "retired": due})
    return due


def _in_use(lines: Sequence[dict[str, Any]], run: str, generations: Iterable[int]) -> list[int]:
    retired = _retired(lines)
    own = {line["generation"] for line in lines if "results" in line and line["run"] == run}
    return sorted(number for number in own & set(generations) if (run, number) not in retired)


def _retired(lines: Iterable[dict[str, Any]]) -> set[tuple[str, int]]:
    return {(line["run"], number) for line in lines for number in line.get("retired", ())}


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    """The file, made if it is missing, to read and add to."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        with _locked(path, "rb+") as file:
            yield file
    except OSError as error:
        raise DataError(_RULE.format(path, error.strerror)) from error


@contextmanager
def _reading(path: Path) -> Iterator[IO[bytes]]:
    """The file, which is there."""
    try:
        with _locked(path, "rb") as file:
            yield file
    except OSError as error:
        raise DataError(_RULE.format(path, error.strerror)) from error


@contextmanager
def _locked(path: Path, mode: str) -> Iterator[IO[bytes]]:
    with path.open(mode) as file:
        fcntl.flock(file, fcntl.LOCK_EX if "+" in mode else fcntl.LOCK_SH)
        try:
            yield file
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)


def _read(path: Path, file: IO[bytes]) -> list[dict[str, Any]]:
    file.seek(0)
    return _lines(path, file.read())


def _lines(path: Path, data: bytes) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    *whole, torn = data.split(b"\n")
    for number, line in enumerate([*whole, torn], 1):
        try:
            entry = msgspec.json.decode(line) if line else {}
        except msgspec.DecodeError:
            if number > len(whole) and _is_begun(line):
                continue  # it ends in the middle: whoever wrote it was killed
            entry = {}
        if line and not _is_ours(entry):
            raise DataError(
                f"tuner.memory must be a file that tuners have written; line {number} of {path} is none of "
                "theirs. Give another path."
            )
        lines += [entry] if line else []
    return lines


def _is_begun(line: bytes) -> bool:
    """Whether it may be the beginning of a line of ours: others are not to be lost."""
    return any(line[: len(begin)] == begin[: len(line)] for begin in _BEGINNINGS)


def _is_ours(entry: Any) -> bool:
    kind: Any = _Retired if isinstance(entry, dict) and "retired" in entry else _Study
    try:
        msgspec.convert(entry, kind)
    except msgspec.ValidationError:
        return False
    return True


def _append(file: IO[bytes], entry: Json) -> None:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 1))
    is_torn = size > 0 and file.read(1) != b"\n"
    if is_torn:
        _drop_torn(file)
    file.seek(0, os.SEEK_END)
    file.write(canonical(entry) + b"\n")
    file.flush()
    os.fsync(file.fileno())


def _drop_torn(file: IO[bytes]) -> None:
    file.seek(0)
    file.truncate(file.read().rfind(b"\n") + 1)
