"""Artifacts: immutable files named by the SHA-256 of their bytes, in formats that other tools read.

``objects/ab/cdef….parquet`` holds samples, scores and outcomes, ``….safetensors`` weights,
``….json`` carries and other small things. An artifact's name in the ledger is its hash and suffix.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import mmap
import os
import re
import shutil
from collections import OrderedDict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from flywheel.errors import DamagedError, PrunedError, RunError
from flywheel.records import Weights
from flywheel.storage import files, ledger, parquet
from flywheel.storage.events import Pruned
from flywheel.storage.ledger import canonical

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

_CACHED, _CACHED_BYTES = 8, 256 << 20
MAX_JSON_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Stored:
    """A value that is in the store already, where a stage would return one to be put there."""

    name: str


def is_artifact(text: str) -> bool:
    """Whether a string has the form of an artifact's name: a SHA-256 in hex and a suffix."""
    return re.fullmatch(r"[0-9a-f]{64}\.[a-z]+", text) is not None


def artifact_of(data: bytes, suffix: str) -> str:
    """The name that these bytes have as an artifact."""
    return hashlib.sha256(data).hexdigest() + suffix


class Store:
    """Content-addressed files under ``objects/``. Values read are cached, so treat them as constant."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._objects = directory / "objects"
        self._cache: OrderedDict[str, pa.Table] = OrderedDict()
        self._known_arrays: set[str] = set()

    def path(self, name: str) -> Path:
        """Where the artifact ``name`` (hash and suffix) lies. Raises DamagedError if it is no such name."""
        if not is_artifact(name):
            raise DamagedError(f"Expected an artifact's name (64 hex digits and a suffix), got {name!r}.")
        return self._objects / name[:2] / name[2:]

    def put(self, data: bytes, suffix: str) -> str:
        """Store bytes and return the artifact's name. Storing the same bytes twice is free."""
        name = artifact_of(data, suffix)
        path = self.path(name)
        if path.exists():
            files.sync_directory(path.parent)  # whoever wrote it may have died before that
        else:
            files.make_directory(path.parent)
            files.write_atomic(path, data)
        return name

    def require(self, name: str) -> Path:
        """Where the artifact lies. Raises PrunedError or DamagedError if it is not there."""
        path = self.path(name)
        if not path.exists():
            raise self.absent(name)
        return path

    def get(self, name: str) -> bytes:
        """The artifact's bytes.

        Raises PrunedError if a policy dropped it, DamagedError if it is missing or not that of its name.
        """
        with self.open(name) as file:
            data = file.read()
        if hashlib.sha256(data).hexdigest() != name.partition(".")[0]:
            raise DamagedError(f"Artifact {self.path(name)} does not match its hash.")
        return data

    def absent(self, name: str) -> RunError:
        """Why an object is not there: it was pruned, or somebody took it."""
        path = self._objects.parent / "ledger.jsonl"
        for event in ledger.scan(path).events[::-1] if path.exists() else ():
            if isinstance(event, Pruned) and name in event.objects:
                day = datetime.fromtimestamp(event.time, UTC).date()
                return PrunedError(
                    f"What was pruned cannot be read: {name} was dropped on {day}, to keep "
                    f"{event.policy}. If it was a generation's weights, `reproduce` may make "
                    "them again."
                )
        return DamagedError(f"Artifact {name} is missing from {self._objects}.")

    def open(self, name: str) -> BinaryIO:
        """The artifact's file, unbuffered. Raises PrunedError, or DamagedError if it is missing or a link."""
        path = self.path(name)
        try:
            descriptor = files.open_inside(self._objects.parent, "objects", path.parent.name, path.name)
        except FileNotFoundError:
            raise self.absent(name) from None
        except OSError as error:
            raise DamagedError(f"Artifact {path} cannot be read: {why(error)}.") from error
        return os.fdopen(descriptor, "rb", buffering=0)

    def put_value(self, value: Any) -> str:
        """Store a table, a state dict or a JSON value, each in its format."""
        if isinstance(value, Stored):
            return value.name
        if hasattr(value, "column_names"):
            return self.put_table(value)
        if isinstance(value, dict) and value and all(hasattr(v, "data_ptr") for v in value.values()):
            return self.put_weights(value)
        return self.put_json(value)

    def put_table(self, table: pa.Table) -> str:
        """Store an Arrow table as Parquet. What is read back may be of other types: see ``column_types``."""
        with self.table_writer() as writer:
            writer.write(table)
        return writer.name

    @contextlib.contextmanager
    def table_writer(self) -> Iterator[parquet.TableWriter]:
        """Store a table batch by batch; the writer has its ``name`` once the block has ended."""
        with files.written_aside(self._objects) as (file, aside):
            hashing = _Hashing(file)
            writer = parquet.TableWriter(hashing)  # type: ignore[arg-type]
            try:
                yield writer
                writer.close()
            except BaseException:
                hashing.goes_nowhere = True
                writer.abandon()
                raise
            writer.name = hashing.sha256.hexdigest() + ".parquet"
            path = self.path(writer.name)
            if path.exists():
                files.sync_directory(path.parent)
            else:
                files.publish(file, aside, path)

    def table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """Read a table back, or only some of its columns.

        Raises DamagedError, also if it would take too much memory.
        """
        if name in self._cache:
            self._cache.move_to_end(name)
            return self._cache[name]
        table = parquet.read(self.get(name), name)
        if columns is not None:
            return table.select(columns)
        self._cache[name] = table
        while len(self._cache) > _CACHED or sum(t.nbytes for t in self._cache.values()) > _CACHED_BYTES:
            self._cache.popitem(last=False)
        return table

    @contextlib.contextmanager
    def rows(self, name: str, columns: Collection[str]) -> Iterator[parquet.Rows]:
        """A table's rows, few at a time; of these columns, those that it has. Raises DamagedError."""
        with self._verified(name) as file:
            yield parquet.Rows(file, name, columns)

    @contextlib.contextmanager
    def _verified(self, name: str) -> Iterator[BinaryIO]:
        """An artifact's file, at its beginning, once all of it was compared with its hash."""
        with self.open(name) as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != name.partition(".")[0]:  # type: ignore[arg-type]
                raise DamagedError(f"Artifact {self.path(name)} does not match its hash.")
            file.seek(0)
            yield file

    def put_array(self, array: np.ndarray) -> str:
        """Store an array as .npy."""
        name = self.put(files.array_bytes(array), ".npy")
        self._known_arrays.add(name)
        return name

    def array(self, name: str) -> np.ndarray:
        """Read an array back, as far as it is looked at: it is a memory map, which cannot be written.

        It is compared with its hash when it is first read by this object, which has to read all of it.
        Raises DamagedError.
        """
        import numpy as np

        with self.open(name) if name in self._known_arrays else self._verified(name) as file:
            try:
                np.lib.format.read_magic(file)
                shape, is_fortran, kind = np.lib.format.read_array_header_1_0(file)
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                array = np.frombuffer(mapped, kind, math.prod(shape), file.tell())
                array = array.reshape(shape, order="F" if is_fortran else "C")
            except ValueError as error:
                raise DamagedError(f"Artifact {name} is not an array that can be read: {error}") from error
        self._known_arrays.add(name)
        return array

    def put_weights(self, weights: Weights) -> str:
        """Store a state dict as safetensors, without metadata (whose order is not stable)."""
        from safetensors.torch import save

        return self.put(save(weights), ".safetensors")

    def weights(self, name: str) -> Weights:
        """Read a state dict back, on the CPU."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            return load(self.get(name))
        except SafetensorError as error:
            raise DamagedError(f"Artifact {name} is not a safetensors file: {error}") from error

    def put_json(self, value: Any) -> str:
        """Store a JSON value."""
        return self.put(canonical(value), ".json")

    def json(self, name: str) -> Any:
        """Read a JSON value back."""
        with self.open(name) as file:
            size = os.fstat(file.fileno()).st_size
        if size > MAX_JSON_BYTES:
            raise DamagedError(
                f"A JSON artifact has at most {MAX_JSON_BYTES} bytes; {name} has {size} and is not read."
            )
        try:
            return json.loads(self.get(name))
        except (ValueError, RecursionError) as error:
            raise DamagedError(f"Artifact {name} is not JSON that can be read: {error}") from error


class ScratchStore(Store):
    """A store in a folder of its own; what it lacks is read from another."""

    def __init__(self, directory: Path, other: Store) -> None:
        super().__init__(directory)
        self._other = other

    def open(self, name: str) -> BinaryIO:
        """See ``Store.open``."""
        return super().open(name) if self.path(name).exists() else self._other.open(name)


@contextlib.contextmanager
def scratch_store(store: Store, folder: Path) -> Iterator[Store]:
    """A store for what is forgotten, with its folder, once the block ends; it reads from the other, too."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield ScratchStore(folder, store)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Hashing:
    closed = goes_nowhere = False

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.sha256 = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        if self.goes_nowhere:
            return len(data)
        self.sha256.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        if not self.goes_nowhere:
            self._file.flush()


def why(error: OSError) -> str:
    """What the system says of a file that cannot be opened; a link is named as such."""
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return "it, or its folder, is a link out of the run, and links are not followed"
    return error.strerror or str(error)
