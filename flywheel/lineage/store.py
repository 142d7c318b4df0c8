"""Artifacts: immutable files named by the SHA-256 of their bytes, in formats that other tools read.

``objects/ab/cdef….parquet`` holds samples, scores and outcomes, ``….safetensors`` weights,
``….json`` carries and other small things. An artifact's name in the ledger is its hash and suffix.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections import OrderedDict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.errors import DamagedError, PrunedError, RunError
from flywheel.lineage import files, ledger
from flywheel.lineage.ledger import canonical
from flywheel.records import Weights

if TYPE_CHECKING:
    import pyarrow as pa

_CACHED = 8


def is_artifact(text: str) -> bool:
    """Whether a string has the form of an artifact's name: a SHA-256 in hex and a suffix."""
    return re.fullmatch(r"[0-9a-f]{64}\.[a-z]+", text) is not None


class Store:
    """Content-addressed files under ``objects/``. Values read are cached, so treat them as constant."""

    def __init__(self, directory: Path) -> None:
        self._objects = directory / "objects"
        self._cache: OrderedDict[str, Any] = OrderedDict()

    def path(self, name: str) -> Path:
        """Where the artifact ``name`` (hash and suffix) lies."""
        return self._objects / name[:2] / name[2:]

    def put(self, data: bytes, suffix: str) -> str:
        """Store bytes and return the artifact's name. Storing the same bytes twice is free."""
        name = hashlib.sha256(data).hexdigest() + suffix
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
            raise self._absent(name)
        return path

    def get(self, name: str) -> bytes:
        """The artifact's bytes.

        Raises PrunedError if a policy dropped it, DamagedError if it is missing or not that of its name.
        """
        try:
            data = self.path(name).read_bytes()
        except FileNotFoundError:
            raise self._absent(name) from None
        if hashlib.sha256(data).hexdigest() != name.partition(".")[0]:
            raise DamagedError(f"Artifact {self.path(name)} does not match its hash.")
        return data

    def _absent(self, name: str) -> RunError:
        """Why an object is not there: it was pruned, or somebody took it."""
        path = self._objects.parent / "ledger.jsonl"
        for event in ledger.scan(path).events[::-1] if path.exists() else ():
            if event["event"] == "pruned" and name in event["objects"]:
                day = datetime.fromtimestamp(event["time"], UTC).date()
                return PrunedError(
                    f"What was pruned cannot be read: {name} was dropped by the policy {event['policy']!r} "
                    f"on {day}. If it was a generation's weights, `reproduce` may make them again."
                )
        return DamagedError(f"Artifact {name} is missing from {self._objects}.")

    def put_value(self, value: Any) -> str:
        """Store a table, a state dict or a JSON value, each in its format."""
        if hasattr(value, "column_names"):
            return self.put_table(value)
        if isinstance(value, dict) and value and all(hasattr(v, "data_ptr") for v in value.values()):
            return self.put_weights(value)
        return self.put_json(value)

    def put_table(self, table: pa.Table) -> str:
        """Store an Arrow table as Parquet."""
        import pyarrow.parquet as pq

        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        return self._remember(self.put(sink.getvalue(), ".parquet"), table)

    def table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """Read a table back, or only some of its columns."""
        import pyarrow.parquet as pq

        if columns is not None and name not in self._cache:
            return pq.read_table(io.BytesIO(self.get(name)), columns=columns)
        return self._recall(name, lambda data: pq.read_table(io.BytesIO(data)))

    def put_weights(self, weights: Weights) -> str:
        """Store a state dict as safetensors, without metadata (whose order is not stable)."""
        from safetensors.torch import save

        return self.put(save(weights), ".safetensors")

    def weights(self, name: str) -> Weights:
        """Read a state dict back, on the CPU."""
        from safetensors.torch import load

        return load(self.get(name))

    def put_json(self, value: Any) -> str:
        """Store a JSON value."""
        return self.put(canonical(value), ".json")

    def json(self, name: str) -> Any:
        """Read a JSON value back."""
        return json.loads(self.get(name))

    def _remember(self, name: str, value: Any) -> str:
        self._cache[name] = value
        self._cache.move_to_end(name)
        while len(self._cache) > _CACHED:
            self._cache.popitem(last=False)
        return name

    def _recall(self, name: str, decode: Any) -> Any:
        if name not in self._cache:
            self._remember(name, decode(self.get(name)))
        self._cache.move_to_end(name)
        return self._cache[name]
