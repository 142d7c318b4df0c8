"""What a bundle holds, file by file, and the check that it still does.

``manifest.json`` names every other file with its SHA-256 and size, the generation, and the head of the
run's ledger; ``hash`` is the SHA-256 of the rest of it, as in a ledger's line.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from flywheel.records import Answer
from flywheel.storage.ledger import canonical

NAME, SIGNATURE, FORMAT = "manifest.json", "model.sig", 1
WEIGHTS, LINEAGE = "model.safetensors", "lineage.jsonl"
_MAX_MANIFEST_BYTES = 16 << 20


class About(Answer, frozen=True):
    """What a bundle is of."""

    run: str
    """The run's name, as it was given."""
    recipe: str
    generation: int
    weights: str
    """SHA-256 of its weights."""
    head: str
    """SHA-256 of the last line of the run's ledger then."""
    sealed_openings: int
    """How often the run's sealed suites had been opened by then: what their figures are worth."""


class Listed(Answer, frozen=True):
    """A file of a bundle as the manifest has it."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What ``manifest.json`` says."""

    about: About
    files: Mapping[str, Listed]


def written(about: About, files: Mapping[str, bytes]) -> bytes:
    """The manifest of a bundle's files, as bytes."""
    listed = {name: {"sha256": _digest(data), "bytes": len(data)} for name, data in sorted(files.items())}
    content = {"format": FORMAT, **about.json(), "files": listed}
    return indented({**content, "hash": _digest(canonical(content))})


def indented(value: Mapping[str, Any]) -> bytes:
    """A value as JSON for people, always the same bytes."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def read(folder: Path) -> Manifest:
    """A bundle's manifest. Raises ValueError with the reason if it is not one that ``written`` made."""
    try:
        path = folder / NAME
        if _kind(path) or path.stat().st_size > _MAX_MANIFEST_BYTES:
            raise ValueError(f"it must be a regular file of at most {_MAX_MANIFEST_BYTES} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"it cannot be read ({error.strerror})") from error
    try:
        record = json.loads(data)
        content = {key: value for key, value in record.items() if key != "hash"}
        is_intact = indented(record) == data and record["hash"] == _digest(canonical(content))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError("it is not the JSON that was written") from error
    if not is_intact:
        raise ValueError("its content does not match its hash")
    if record["format"] != FORMAT:
        raise ValueError(f"its format must be {FORMAT}; it is {record['format']!r}: use a newer flywheel")
    try:
        files = msgspec.convert(record.get("files"), dict[str, Listed])
        return Manifest(msgspec.convert(record, About), files)
    except msgspec.ValidationError as error:
        raise ValueError(f"it must say what it is of, and bytes and sha256 of each file: {error}") from error


def problems(folder: Path, listed: Mapping[str, Listed]) -> Iterator[tuple[str, str]]:
    """(file, what is wrong) for each file that is tampered with, missing or added."""
    present = set(_files(folder))
    for name, entry in listed.items():
        if name not in present:
            yield name, "it is missing"
        else:
            bad = _file_problem(folder / name, entry)
            if bad:
                yield name, bad
    for name in sorted(present - set(listed) - {NAME, SIGNATURE}):
        yield name, "it was added: the manifest does not name it"


def _files(folder: Path) -> Iterator[str]:
    """Everything below a folder but real folders, which say nothing by themselves, unless empty."""
    for top, folders, names in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(top, name))]
        for name in [*names, *links]:
            yield _relative(os.path.join(top, name), folder)
        if top != str(folder) and not names and not folders:
            yield _relative(top, folder)


def _relative(path: str, folder: Path) -> str:
    """A path below the folder, as text that can be printed."""
    return os.fsencode(os.path.relpath(path, folder)).decode(errors="replace")


def _file_problem(path: Path, entry: Listed) -> str | None:
    try:
        bad = _kind(path)
        if bad:
            return bad
        size = path.stat().st_size
        if size != entry.bytes:
            return f"it has {size} bytes; the manifest says {entry.bytes}"
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    return None if digest == entry.sha256 else "its content does not match its hash in the manifest"


def _kind(path: Path) -> str | None:
    """Why a name is not a plain file; a link could show another file to each reader."""
    mode = path.lstat().st_mode
    return None if stat.S_ISREG(mode) else "it is a link" if stat.S_ISLNK(mode) else "it is no plain file"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
